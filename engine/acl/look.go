package acl

import (
	"maps"
	"math/bits"
	"slices"
)

// A look is what a rule looks at beside addresses: protocol, ports and TCP flags. Lists
// have few different ones: a thousand peers with ten ports make ten thousand rules of ten
// looks. Where there are at most maxLooks, a key's are one word, with a bit for each that
// holds it; and those of the rules of a row another. The lowest bit of both is the row's
// first rule that holds the key.
type look struct {
	sport, dport Ports
	protocol     uint8
	mask, value  uint8
}

const maxLooks = 64

func (r *rule) look() look {
	return look{r.sport, r.dport, r.protocol, r.mask, r.value}
}

// looks are the different looks of a list.
type looks struct {
	few     bool // there are at most maxLooks; else all here is empty
	proto   cutLooks
	sport   cutLooks
	dport   cutLooks
	starts  []uint16 // first values of intervals
	bits    []uint64 // which looks hold these; behind them the sets of rows
	flagged []flagLook
}

// cutLooks is where the intervals of one field are in looks.starts and looks.bits.
type cutLooks struct{ at, size uint32 }

// flagLook is a look at TCP flags.
type flagLook struct {
	mask, value uint8
	bit         uint8
}

// newLooks returns the looks of rules and for each rule which it has.
func newLooks(rules []rule) (looks, []uint8) {
	nums, seen, all := make([]uint8, len(rules)), map[look]uint8{}, []look{}
	for i := range rules {
		k := rules[i].look()
		num, ok := seen[k]
		if !ok {
			if len(all) == maxLooks {
				return looks{}, nil
			}
			num = uint8(len(all))
			seen[k], all = num, append(all, k)
		}
		nums[i] = num
	}
	s := looks{few: true}
	s.proto = s.cut(all, func(k *look) Ports { return Ports{uint16(k.protocol), uint16(k.protocol)} })
	s.sport = s.cut(all, func(k *look) Ports { return k.sport })
	s.dport = s.cut(all, func(k *look) Ports { return k.dport })
	for i, k := range all {
		if k.protocol == protoTCP && k.mask|k.value != 0 {
			s.flagged = append(s.flagged, flagLook{k.mask, k.value, uint8(i)})
		}
	}
	return s, nums
}

// cut enters the intervals of the field whose values span returns.
func (s *looks) cut(all []look, span func(*look) Ports) cutLooks {
	c := cutLooks{at: uint32(len(s.starts))}
	borders := map[uint32]bool{0: true}
	for i := range all {
		if p := span(&all[i]); all[i].protocol != 0 {
			borders[uint32(p.First)], borders[uint32(p.Last)+1] = true, true
		}
	}
	delete(borders, 1<<16)
	for _, start := range slices.Sorted(maps.Keys(borders)) {
		var set uint64
		for i := range all {
			if all[i].protocol == 0 || span(&all[i]).has(uint16(start)) {
				set |= 1 << i
			}
		}
		s.starts, s.bits = append(s.starts, uint16(start)), append(s.bits, set)
		c.size++
	}
	return c
}

// at returns the looks that hold v in the field of c.
func (s *looks) at(c cutLooks, v uint32) uint64 {
	low := c.at
	for size := c.size; size > 1; {
		half := size / 2
		// Without a branch, which would go wrong every other time: half, if the interval
		// begins at v or before.
		low += half & uint32(int32(uint32(s.starts[low+half])-v-1)>>31)
		size -= half
	}
	return s.bits[low]
}

// of returns the looks that hold p.
func (s *looks) of(p *point) uint64 {
	set := s.at(s.proto, p.v[fieldProto])
	if p.fragment {
		return set
	}
	set &= s.at(s.sport, p.v[fieldSport]) & s.at(s.dport, p.v[fieldDport])
	if p.v[fieldProto] == protoTCP {
		for _, f := range s.flagged {
			if uint8(p.v[fieldFlags])&f.mask != f.value {
				set &^= 1 << f.bit
			}
		}
	}
	return set
}

// place returns the place, among the bits of set, of the lowest of found.
func place(set, found uint64) uint32 {
	return uint32(bits.OnesCount64(set & (found&-found - 1)))
}
