package memif

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// FuzzMessages reads 128 bytes as every message there is. Each field must be what stands at
// its place in memif.h, texts must print, and writing a message again must change nothing
// but what lies behind a text's end.
func FuzzMessages(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, messageBytes))
	f.Add([]byte(strings.Repeat("\x00a\x1b\xe2\x82\xac\xe2\x82", 16)))
	all := make([]byte, messageBytes)
	for i := range all {
		all[i] = byte(i)
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, b []byte) {
		var m message
		copy(m[:], b)
		u16 := func(at int) uint16 { return binary.LittleEndian.Uint16(m[at:]) }
		u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(m[at:]) }
		is := func(what string, ok bool) {
			if !ok {
				t.Errorf("%s of %x is wrong", what, m)
			}
		}
		_ = m.kind().String()
		h := m.hello()
		is("HELLO", h == hello{text(m[2:34]), u16(34), u16(36), u16(38), u16(40), u16(42), m[44]})
		i := m.initiation()
		is("INIT", i == initiation{u16(2), u32(4), Mode(m[8]), [24]byte(m[9:33]), text(m[33:65])})
		a := m.addRegion()
		is("ADD_REGION", a == addRegion{u16(2), uint64(u32(4)) | uint64(u32(8))<<32})
		r := m.addRing()
		is("ADD_RING", r == addRing{m[2]&1 == 1, u16(4), u16(6), u32(8), m[12], u16(13)})
		d := m.disconnect()
		is("DISCONNECT", d == disconnect{u32(2), text(m[6:102])})
		for _, s := range []struct {
			text  string
			field []byte
		}{{h.name, m[2:34]}, {i.name, m[33:65]}, {d.reason, m[6:102]}, {m.ifName(), m[2:34]}} {
			checkText(t, s.text, s.field)
		}
		is("second INIT", i.encode().initiation() == initiation{i.version, i.id, i.mode, i.secret, cut(i.name, 31)})
		is("second HELLO", h.encode().hello() == hello{cut(h.name, 31), h.minVersion, h.maxVersion, h.maxRegion, h.maxM2SRing, h.maxS2MRing, h.maxLog2RingSize})
		is("second ADD_REGION", a.encode().addRegion() == a)
		is("second ADD_RING", r.encode().addRing() == r)
		is("second DISCONNECT", d.encode().disconnect() == disconnect{d.code, cut(d.reason, 95)})
		is("second CONNECT", encodeConnect(typeConnect, m.ifName()).ifName() == cut(m.ifName(), 31))
	})
}

// cut is a text after it went through a field that holds n bytes of it.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return text([]byte(s[:n]))
}

// checkText compares a text with the field that it was read from.
func checkText(t *testing.T, s string, field []byte) {
	end := slices.Index(field, 0)
	if end < 0 {
		end = len(field)
	}
	raw := []rune(string(field[:end]))
	got := []rune(s)
	if len(raw) != len(got) {
		t.Fatalf("text %q of %q", s, field)
	}
	for i, r := range got {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar || r != raw[i] && r != '?' || r == '?' && raw[i] != '?' && raw[i] != unicode.ReplacementChar && unicode.IsPrint(raw[i]) {
			t.Fatalf("text %q of %q: %q for %q", s, field, r, raw[i])
		}
	}
}
