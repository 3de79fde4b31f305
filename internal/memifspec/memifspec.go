// Package memifspec owns the form in which pods and networks ask for memif interfaces: the
// fields, their defaults and limits, and their strict decoding from JSON.
//
// It turns text into values. It never looks a secret up, and knows neither CNI nor a
// dataplane.
package memifspec

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/strictjson"
)

// Annotation is the key of the pod annotation, a JSON list of specs.
const Annotation = "millrace.io/memif"

// Most is how many a pod can ask for: each takes an address of each family from the node.
const Most = 16

// SecretMax is the longest secret in bytes: the protocol has 24 for it with a final zero.
const SecretMax = 23

// Spec is one memif interface as it is asked for. Queues, ring and buffers are named from
// the dataplane's side, as VPP does.
type Spec struct {
	Name       string // 1 to 15 bytes; the pod finds the abstract socket @millrace/NAME
	Mode       Mode
	RxQueues   uint8  // that the dataplane reads and the pod writes, 1 to 255
	TxQueues   uint8  // the other way, 1 to 255
	RingSize   uint32 // descriptors per queue: a power of two, 2 to 32768
	BufferSize uint16 // bytes, 64 to 65535
	Secret     SecretRef
}

// Mode is what a link carries.
type Mode uint8

const (
	Ethernet Mode = iota // Ethernet frames
	IP                   // IP packets without a header of any link
)

func (m Mode) String() string {
	if m == IP {
		return "ip"
	}
	return "ethernet"
}

// ParseMode reads ethernet or ip.
func ParseMode(s string) (Mode, error) {
	switch s {
	case "ethernet":
		return Ethernet, nil
	case "ip":
		return IP, nil
	}
	return 0, fmt.Errorf("%q: want ethernet or ip", s)
}

// SecretRef names a key of a Kubernetes Secret in the pod's namespace; zero = no secret.
type SecretRef struct{ Name, Key string }

// String is name/key, "" for none.
func (r SecretRef) String() string {
	if r == (SecretRef{}) {
		return ""
	}
	return r.Name + "/" + r.Key
}

// ParseSecretRef reads name/key.
func ParseSecretRef(s string) (SecretRef, error) {
	name, key, ok := strings.Cut(s, "/")
	r := SecretRef{name, key}
	if !ok || !r.valid() {
		return SecretRef{}, fmt.Errorf("%q: want secretName/key, in the letters that Kubernetes allows there", s)
	}
	return r, nil
}

// valid applies the rules of Kubernetes: a DNS subdomain, and a key of a Secret's data.
func (r SecretRef) valid() bool {
	ok := func(s string, more string) bool {
		return s != "" && len(s) <= 253 && !strings.ContainsFunc(s, func(c rune) bool {
			return (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune(more, c)
		})
	}
	return ok(r.Name, "-.") && strings.Trim(r.Name, "-.") == r.Name && ok(strings.ToLower(r.Key), "-._")
}

// Default is a spec with everything but its name.
func Default() Spec {
	return Spec{Mode: Ethernet, RxQueues: 1, TxQueues: 1, RingSize: 1024, BufferSize: 2048}
}

// ParseAnnotation decodes a list of specs over the defaults. Its error begins with the
// field's path, for example
//
//	millrace.io/memif[1].ringSize: 1000: want a power of two, 2 to 32768
func ParseAnnotation(text string) ([]Spec, error) {
	items, err := strictjson.Items([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Annotation, err)
	}
	if len(items) > Most {
		return nil, fmt.Errorf("%s: %d interfaces: want at most %d", Annotation, len(items), Most)
	}
	var specs []Spec
	first := map[string]int{}
	for i, item := range items {
		path := fmt.Sprintf("%s[%d]", Annotation, i)
		s, err := Default().With(path, item)
		if err == nil {
			err = s.Check(path)
		}
		if err != nil {
			return nil, err
		}
		if other, twice := first[s.Name]; twice {
			return nil, fmt.Errorf("%s.name: %q is already that of %s[%d]", path, s.Name, Annotation, other)
		}
		first[s.Name] = i
		specs = append(specs, s)
	}
	return specs, nil
}

// With lays a JSON object over a spec; what it does not have stays. path begins the error.
// The result is not checked yet.
func (s Spec) With(path string, raw json.RawMessage) (Spec, error) {
	all, err := strictjson.Members(raw)
	if err != nil {
		if e, ok := errors.AsType[*strictjson.Error](err); ok && e.Key != "" {
			return Spec{}, fmt.Errorf("%s.%w", path, err)
		}
		return Spec{}, fmt.Errorf("%s: %w", path, err)
	}
	for _, m := range all {
		if err := s.set(m); err != nil {
			return Spec{}, fmt.Errorf("%s.%s: %w", path, m.Key, err)
		}
	}
	return s, nil
}

func (s *Spec) set(m strictjson.Member) (err error) {
	switch m.Key {
	case "name":
		s.Name, err = text(m.Raw)
	case "mode":
		s.Mode, err = parsed(m.Raw, ParseMode)
	case "rxQueues":
		s.RxQueues, err = number[uint8](m.Raw)
	case "txQueues":
		s.TxQueues, err = number[uint8](m.Raw)
	case "ringSize":
		s.RingSize, err = number[uint32](m.Raw)
	case "bufferSize":
		s.BufferSize, err = number[uint16](m.Raw)
	case "secret":
		s.Secret, err = parsed(m.Raw, ParseSecretRef)
	default:
		err = errors.New("no such field; known are bufferSize, mode, name, ringSize, rxQueues, secret, txQueues")
	}
	return err
}

func text(raw json.RawMessage) (s string, err error) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", fmt.Errorf("%s: want text in quotes", raw)
	}
	return s, json.Unmarshal(raw, &s)
}

func parsed[T any](raw json.RawMessage, parse func(string) (T, error)) (v T, err error) {
	s, err := text(raw)
	if err != nil {
		return v, err
	}
	return parse(s)
}

// number reads a whole number that T holds.
func number[T uint8 | uint16 | uint32](raw json.RawMessage) (T, error) {
	n, err := strconv.ParseUint(string(raw), 10, 64)
	if err != nil || uint64(T(n)) != n {
		return 0, fmt.Errorf("%s: want a whole number, at most %d", raw, ^T(0))
	}
	return T(n), nil
}

// Check finds what is out of its limits. path begins the error.
func (s Spec) Check(path string) error {
	switch {
	case s.Name == "":
		return fmt.Errorf("%s.name: is missing", path)
	case len(s.Name) > 15 || strings.ContainsFunc(s.Name, badInName) || s.Name == "." || s.Name == "..":
		return fmt.Errorf("%s.name: %q: want 1 to 15 letters, digits, dashes, dots and underscores", path, s.Name)
	case s.Mode > IP:
		return fmt.Errorf("%s.mode: %d: want ethernet or ip", path, s.Mode)
	case s.RxQueues == 0:
		return fmt.Errorf("%s.rxQueues: 0: want 1 to 255", path)
	case s.TxQueues == 0:
		return fmt.Errorf("%s.txQueues: 0: want 1 to 255", path)
	case s.RingSize < 2 || s.RingSize > 32768 || s.RingSize&(s.RingSize-1) != 0:
		return fmt.Errorf("%s.ringSize: %d: want a power of two, 2 to 32768", path, s.RingSize)
	case s.BufferSize < 64:
		return fmt.Errorf("%s.bufferSize: %d: want 64 to 65535", path, s.BufferSize)
	case s.Secret != SecretRef{} && !s.Secret.valid():
		return fmt.Errorf("%s.secret: %q: want secretName/key", path, s.Secret)
	}
	return nil
}

func badInName(c rune) bool {
	letter := c|0x20 >= 'a' && c|0x20 <= 'z'
	return !letter && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.'
}
