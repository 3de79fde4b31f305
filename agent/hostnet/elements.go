package hostnet

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"

	"github.com/millrace/millrace/dataplane"
)

// intervals are the elements of a set of ranges: where each prefix begins, and where the
// first address behind it is, unless there is none.
func intervals(list []netip.Prefix, is4 bool) (out []nftables.SetElement) {
	for _, p := range list {
		if p.Addr().Is4() != is4 {
			continue
		}
		out = append(out, nftables.SetElement{Key: p.Addr().AsSlice()})
		if next := lastOf(p).Next(); next.IsValid() {
			out = append(out, nftables.SetElement{Key: next.AsSlice(), IntervalEnd: true})
		}
	}
	return out
}

func lastOf(p netip.Prefix) netip.Addr {
	a := p.Addr().AsSlice()
	for i := range a {
		for bit := range 8 {
			if 8*i+bit >= p.Bits() {
				a[i] |= 0x80 >> bit
			}
		}
	}
	last, _ := netip.AddrFromSlice(a)
	return last
}

// prefixes reads intervals back, in any order. A range that is no prefix is not ours.
func prefixes(elements []nftables.SetElement) (out []netip.Prefix, err error) {
	elements = slices.SortedFunc(slices.Values(elements), func(a, b nftables.SetElement) int {
		return cmp.Or(bytes.Compare(a.Key, b.Key), -compareBool(a.IntervalEnd, b.IntervalEnd))
	})
	for len(elements) > 0 {
		first, ok := netip.AddrFromSlice(elements[0].Key)
		if elements[0].IntervalEnd && first.IsUnspecified() { // nft begins sets so
			elements = elements[1:]
			continue
		}
		if !ok || elements[0].IntervalEnd {
			return nil, fmt.Errorf("range at % x: it ends without a beginning", elements[0].Key)
		}
		elements = elements[1:]
		var behind netip.Addr
		if len(elements) > 0 && elements[0].IntervalEnd {
			behind, _ = netip.AddrFromSlice(elements[0].Key)
			elements = elements[1:]
		}
		p, ok := prefixOf(first, behind)
		if !ok {
			return nil, fmt.Errorf("range from %s to %s: it is no prefix", first, behind)
		}
		out = append(out, p)
	}
	return out, nil
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// prefixOf finds the prefix with that first address, and that address behind it.
func prefixOf(first, behind netip.Addr) (netip.Prefix, bool) {
	for bits := range first.BitLen() + 1 {
		p := netip.PrefixFrom(first, bits)
		if p == p.Masked() && lastOf(p).Next() == behind {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// The kernel pads each part of a key or value to words of 4 bytes.

// portElements are the elements of a map of ports.
func portElements(list []dataplane.HostPort, is4 bool) (out []nftables.SetElement) {
	for _, p := range list {
		if p.At.Addr().Is4() != is4 {
			continue
		}
		key := append(p.At.Addr().AsSlice(), p.Protocol, 0, 0, 0)
		out = append(out, nftables.SetElement{Key: appendPort(key, p.At.Port()), Val: appendPort(p.To.Addr().AsSlice(), p.To.Port())})
	}
	return out
}

func appendPort(b []byte, port uint16) []byte {
	return append(binary.BigEndian.AppendUint16(b, port), 0, 0)
}

// ports reads them back.
func ports(elements []nftables.SetElement) (out []dataplane.HostPort, err error) {
	for _, e := range elements {
		if len(e.Key) != len(e.Val)+4 || len(e.Val) < 8 {
			return nil, fmt.Errorf("port % x to % x: want an address, a protocol and a port on the left", e.Key, e.Val)
		}
		n := len(e.Val) - 4 // of an address
		p := dataplane.HostPort{Protocol: e.Key[n]}
		at, _ := netip.AddrFromSlice(e.Key[:n])
		to, _ := netip.AddrFromSlice(e.Val[:n])
		p.At, p.To = netip.AddrPortFrom(at, binary.BigEndian.Uint16(e.Key[n+4:])), netip.AddrPortFrom(to, binary.BigEndian.Uint16(e.Val[n:]))
		out = append(out, p)
	}
	return out, nil
}
