package worker

// Which of several equal paths does a flow take?

// Bits of VPP's flow_hash_config.
const (
	HashSrc     = 1 << 0
	HashDst     = 1 << 1
	HashSrcPort = 1 << 2
	HashDstPort = 1 << 3
	HashProto   = 1 << 4
	HashReverse = 1 << 5
	HashSym     = 1 << 6
	// HashDefault is the 5-tuple.
	HashDefault = HashSrc | HashDst | HashSrcPort | HashDstPort | HashProto
)

// spread is the hash that picks one of a route's adjacencies for packet i.
func (w *Worker) spread(r *Route, v *vector, i int) uint32 {
	if r.Balance.Len() == 1 {
		return 0
	}
	k := *v.flow(i)
	if r.HashFields != 0 && r.HashFields != HashDefault {
		k = k.only(r.HashFields)
	}
	return uint32(k.hash() >> 32)
}

// only is the key with the fields that f leaves out set to zero.
func (k flowKey) only(f uint32) flowKey {
	k.e &= 0xffffffff
	src4, dst4 := uint32(k.a), uint32(k.a>>32)
	sport, dport := uint32(k.e>>16), uint32(k.e&0xffff)
	v6 := k.f&keyV6 != 0
	swap := f&HashReverse != 0
	if f&HashSym != 0 {
		if v6 {
			swap = k.a > k.c || k.a == k.c && k.b > k.d
		} else {
			swap = src4 > dst4
		}
	}
	if f&HashSrc == 0 {
		src4 = 0
		if v6 {
			k.a, k.b = 0, 0
		}
	}
	if f&HashDst == 0 {
		dst4, k.c, k.d = 0, 0, 0
	}
	if f&HashSrcPort == 0 {
		sport = 0
	}
	if f&HashDstPort == 0 {
		dport = 0
	}
	if swap {
		src4, dst4, sport, dport = dst4, src4, dport, sport
		k.a, k.b, k.c, k.d = k.c, k.d, k.a, k.b
	}
	if !v6 {
		k.a = uint64(dst4)<<32 | uint64(src4)
	}
	k.e = uint64(sport)<<16 | uint64(dport)
	if f&HashProto == 0 {
		k.f &^= 0xff
	}
	k.f &^= keyFragment
	return k
}
