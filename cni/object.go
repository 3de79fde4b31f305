package cni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/containernetworking/cni/pkg/types"
)

// member is one key of a JSON object with its undecoded value.
type member struct {
	key string
	raw json.RawMessage
}

// members takes a JSON object apart, in order. encoding/json alone would match keys
// without their case and let a key stand twice.
func members(path string, raw json.RawMessage) ([]member, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	token, err := d.Token()
	if err != nil {
		return nil, undecodable(path, "%v", err)
	}
	if token != json.Delim('{') {
		return nil, undecodable(path, "want an object")
	}
	var all []member
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, undecodable(path, "%v", err)
		}
		m := member{key: fmt.Sprint(token)} // within an object a key is always a string
		if err := d.Decode(&m.raw); err != nil {
			return nil, undecodable(join(path, m.key), "%v", err)
		}
		if seen[m.key] {
			return nil, invalid(join(path, m.key), "stands twice")
		}
		seen[m.key] = true
		all = append(all, m)
	}
	if _, err := d.Token(); err != nil {
		return nil, undecodable(path, "%v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, undecodable(path, "more follows after the object")
	}
	return all, nil
}

func decode[T any](path string, raw json.RawMessage, into *T) error {
	if err := json.Unmarshal(raw, into); err != nil {
		return undecodable(path, "%v", err)
	}
	return nil
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func undecodable(path, format string, args ...any) error {
	return fieldError(types.ErrDecodingFailure, path, format, args...)
}

func invalid(path, format string, args ...any) error {
	return fieldError(types.ErrInvalidNetworkConfig, path, format, args...)
}

func unsupported(path, format string, args ...any) error {
	return fieldError(types.ErrUnsupportedField, path, format, args...)
}

func fieldError(code uint, path, format string, args ...any) error {
	if path == "" {
		path = "network configuration"
	}
	return Errorf(code, "%s: %s", path, fmt.Sprintf(format, args...))
}
