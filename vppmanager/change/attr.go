package change

import (
	"encoding/binary"
	"fmt"
)

// attr is one attribute of a netlink message, as in linux/netlink.h (struct nlattr):
//
//	| length 16 | kind 16 | value, length-4 bytes | up to 3 bytes of padding |
//
// The two highest bits of the kind are flags (NLA_F_NESTED, NLA_F_NET_BYTEORDER).
type attr struct {
	kind  uint16
	value []byte
}

const attrKind = 0x3fff // the kind without its flags

// parseAttrs takes attributes apart. The values lie in b.
func parseAttrs(b []byte) ([]attr, error) {
	var list []attr
	for len(b) >= 4 {
		length := int(binary.NativeEndian.Uint16(b))
		if length < 4 || length > len(b) {
			return nil, fmt.Errorf("attribute of %d bytes in the last %d of a message", length, len(b))
		}
		list = append(list, attr{binary.NativeEndian.Uint16(b[2:]), b[4:length]})
		b = b[min((length+3)&^3, len(b)):]
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%d bytes after the last attribute", len(b))
	}
	return list, nil
}

func appendAttrs(b []byte, list ...attr) []byte {
	for _, a := range list {
		b = binary.NativeEndian.AppendUint16(b, uint16(4+len(a.value)))
		b = binary.NativeEndian.AppendUint16(b, a.kind)
		b = append(b, a.value...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	return b
}

// message is the body of an rtnetlink message: a header of fixed length and attributes.
type message struct {
	head  []byte
	attrs []attr
}

func parseMessage(b []byte, headLen int) (message, error) {
	if len(b) < headLen {
		return message{}, fmt.Errorf("message of %d bytes, want at least %d", len(b), headLen)
	}
	attrs, err := parseAttrs(b[headLen:])
	return message{append([]byte(nil), b[:headLen]...), attrs}, err
}

func (m message) encode() []byte { return appendAttrs(append([]byte(nil), m.head...), m.attrs...) }

// find returns the value of an attribute; nil = there is none.
func (m message) find(kind uint16) []byte {
	for _, a := range m.attrs {
		if a.kind&attrKind == kind {
			return a.value
		}
	}
	return nil
}

// number returns a 32 bit attribute; 0 also when there is none.
func (m message) number(kind uint16) uint32 {
	if v := m.find(kind); len(v) == 4 {
		return binary.NativeEndian.Uint32(v)
	}
	return 0
}

// text returns a string attribute.
func (m message) text(kind uint16) string { return text(m.find(kind)) }

func text(v []byte) string {
	for len(v) > 0 && v[len(v)-1] == 0 {
		v = v[:len(v)-1]
	}
	return string(v)
}

// set replaces an attribute, or adds it.
func (m *message) set(kind uint16, value []byte) {
	m.drop(kind)
	m.attrs = append(m.attrs, attr{kind, value})
}

// keep drops all attributes but these.
func (m *message) keep(kinds ...uint16) {
	m.filter(func(kind uint16) bool {
		for _, k := range kinds {
			if k == kind {
				return true
			}
		}
		return false
	})
}

func (m *message) drop(kinds ...uint16) {
	m.filter(func(kind uint16) bool {
		for _, k := range kinds {
			if k == kind {
				return false
			}
		}
		return true
	})
}

// filter makes a new list: the old one may be shared.
func (m *message) filter(stays func(kind uint16) bool) {
	var list []attr
	for _, a := range m.attrs {
		if stays(a.kind & attrKind) {
			list = append(list, a)
		}
	}
	m.attrs = list
}

func u32(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

func cstring(s string) []byte { return append([]byte(s), 0) }
