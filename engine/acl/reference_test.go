package acl_test

import (
	"encoding/binary"
	"net/netip"

	"github.com/millrace/millrace/engine/acl"
)

// linear is VPP's slow way: each list, each rule, in order.
func linear(lists [][]acl.Rule, k *acl.Key) acl.Verdict {
	for i, rules := range lists {
		for j := range rules {
			if matches(&rules[j], k) {
				return acl.Verdict{List: int32(i), Rule: int32(j), Action: rules[j].Action}
			}
		}
	}
	return acl.NoMatch()
}

func matches(r *acl.Rule, k *acl.Key) bool {
	six := k.Flags&acl.KeyIPv6 != 0
	if r.Src.Addr().Is4() == six || !r.Src.Contains(addr(k.Src, six)) || !r.Dst.Contains(addr(k.Dst, six)) {
		return false
	}
	switch {
	case r.Protocol == 0:
		return true
	case r.Protocol != k.Protocol:
		return false
	case k.Flags&acl.KeyFragment != 0:
		return true
	case k.Flags&acl.KeyNoL4 != 0:
		return false
	case k.SrcPort < r.SrcPorts.First || k.SrcPort > r.SrcPorts.Last:
		return false
	case k.DstPort < r.DstPorts.First || k.DstPort > r.DstPorts.Last:
		return false
	}
	return k.Protocol != tcp || k.TCPFlags&r.TCPMask == r.TCPValue
}

func addr(a acl.Addr, six bool) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.Hi)
	binary.BigEndian.PutUint64(b[8:], a.Lo)
	if !six {
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return netip.AddrFrom16(b)
}
