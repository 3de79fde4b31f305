package nat

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Tables is all that workers are told about address translation. It is a value that many
// read; an edit makes another, at a cost that hardly depends on how many translations
// there are. The zero value translates nothing.
type Tables struct {
	Policy Policy

	translations index[Endpoint, *Translation]
	vips         index[netip.Addr, *vip]
}

// vip is an address that translations have.
type vip struct {
	addr  netip.Addr
	count int // of translations
	only  int // of those without RealIP
}

func (v *vip) key() netip.Addr { return v.addr }

// Len is the number of translations.
func (t *Tables) Len() int { return t.translations.n }

// Find returns the translation of packets to an address and port, or nil. It neither
// locks nor allocates.
func (t *Tables) Find(addr netip.Addr, port uint16, protocol uint8) *Translation {
	if t.translations.n == 0 {
		return nil
	}
	k := Endpoint{addr, port, protocol}
	return t.translations.find(hashEndpoint(k), k)
}

// VIP reports whether some translation has an address, for whatever port, and whether the
// address is nothing else: nobody else has it then, and what no translation takes must not
// be forwarded. It neither locks nor allocates.
func (t *Tables) VIP(addr netip.Addr) (has, only bool) {
	if t.vips.n == 0 {
		return false, false
	}
	v := t.vips.find(hashAddr(addr), addr)
	return v != nil, v != nil && v.only > 0
}

// With is the tables with a translation, instead of that with the same key.
func (t *Tables) With(x *Translation) *Tables {
	to := *t
	old := t.Find(x.Addr, x.Port, x.Protocol)
	to.translations = t.translations.with(hashEndpoint(x.Endpoint), x)
	if old == nil || old.RealIP != x.RealIP {
		to.count(old, -1)
		to.count(x, 1)
	}
	return &to
}

// Without is the tables without the translation of a key.
func (t *Tables) Without(k Endpoint) *Tables {
	old := t.Find(k.Addr, k.Port, k.Protocol)
	if old == nil {
		return t
	}
	to := *t
	to.translations = t.translations.without(hashEndpoint(k), k)
	to.count(old, -1)
	return &to
}

// WithPolicy is the tables with another policy.
func (t *Tables) WithPolicy(p Policy) *Tables {
	to := *t
	to.Policy = p
	return &to
}

// count takes a translation's address into account, or no more.
func (t *Tables) count(x *Translation, by int) {
	if x == nil {
		return
	}
	hash := hashAddr(x.Addr)
	v := vip{addr: x.Addr}
	if old := t.vips.find(hash, x.Addr); old != nil {
		v = *old
	}
	v.count += by
	if !x.RealIP {
		v.only += by
	}
	if v.count == 0 {
		t.vips = t.vips.without(hash, x.Addr)
		return
	}
	t.vips = t.vips.with(hash, &v)
}

func hashAddr(a netip.Addr) uint64 {
	b := a.As16()
	h, l := bits.Mul64(binary.BigEndian.Uint64(b[:])^0x243f6a8885a308d3, binary.BigEndian.Uint64(b[8:])^0x13198a2e03707345)
	h, l = bits.Mul64(h^l, 0x9e3779b97f4a7c15)
	return h ^ l
}

func hashEndpoint(k Endpoint) uint64 {
	h, l := bits.Mul64(hashAddr(k.Addr)^uint64(k.Port)<<8^uint64(k.Protocol), 0x9e3779b97f4a7c15)
	return h ^ l
}
