// Package strictjson owns the taking apart of JSON that people write: encoding/json alone
// matches keys without their case, lets a key stand twice and overlooks unknown ones.
//
// It knows no field and decodes no value; its callers name what is wrong by path.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Member is one key of an object with its undecoded value.
type Member struct {
	Key string
	Raw json.RawMessage
}

// Error is what is wrong with a text.
type Error struct {
	Key   string // of the member it is about; empty = the whole
	Twice bool   // the key stands twice
	Err   error
}

func (e *Error) Error() string {
	if e.Key == "" {
		return e.Err.Error()
	}
	return e.Key + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// fault makes an Error that speaks to a person: EOF does not.
func fault(key string, err error) *Error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("ends too early")
	}
	return &Error{Key: key, Err: err}
}

// Members takes an object apart, in order. Its error is an [*Error].
func Members(raw []byte) ([]Member, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if err := open(d, '{', "an object"); err != nil {
		return nil, err
	}
	var all []Member
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, fault("", err)
		}
		m := Member{Key: fmt.Sprint(token)} // within an object a key is always a string
		if err := d.Decode(&m.Raw); err != nil {
			return nil, fault(m.Key, err)
		}
		if seen[m.Key] {
			return nil, &Error{Key: m.Key, Twice: true, Err: errors.New("stands twice")}
		}
		seen[m.Key] = true
		all = append(all, m)
	}
	return all, end(d, "object")
}

// Items takes a list apart. Its error is an [*Error].
func Items(raw []byte) ([]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if err := open(d, '[', "a list"); err != nil {
		return nil, err
	}
	var all []json.RawMessage
	for d.More() {
		var item json.RawMessage
		if err := d.Decode(&item); err != nil {
			return nil, fault("", err)
		}
		all = append(all, item)
	}
	return all, end(d, "list")
}

func open(d *json.Decoder, with json.Delim, what string) error {
	token, err := d.Token()
	if err != nil {
		return fault("", err)
	}
	if token != with {
		return &Error{Err: fmt.Errorf("want %s", what)}
	}
	return nil
}

func end(d *json.Decoder, what string) error {
	if _, err := d.Token(); err != nil {
		return fault("", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return &Error{Err: fmt.Errorf("more follows after the %s", what)}
	}
	return nil
}
