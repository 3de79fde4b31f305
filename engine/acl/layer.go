package acl

import (
	"cmp"
	"slices"
)

// piece is a span of an item, or a part of one.
type piece struct {
	span
	item uint32
}

// layer is a group of items with one span. Spans of layers nest or are apart.
type layer struct {
	span
	items []uint32 // its own, and those of layers around it where these are few
	next  ref      // the other layers around it
	at    ref
}

// maxInherit is how many items a layer takes over from around it before it names the layer
// around it as next.
const maxInherit = 8

// layers puts each item into one layer, so that nothing stands twice; a lookup goes
// through those around its value from the inside out. Ports, whose ranges overlap, are cut
// for it into prefixes of their 16 bits: at most 30, in 17 layers.
func (b *builder) layers(items []uint32, open fields, x axis) cuts {
	f := x.field
	open = open.without(f)
	pieces := make([]piece, 0, len(items))
	for j, i := range items {
		if f == fieldSport || f == fieldDport {
			pieces = appendPrefixes(pieces, x.spans[j], i)
		} else {
			pieces = append(pieces, piece{x.spans[j], i})
		}
	}
	slices.SortFunc(pieces, func(p, q piece) int {
		return cmp.Or(cmp.Compare(p.first, q.first), cmp.Compare(q.last, p.last), cmp.Compare(p.item, q.item))
	})
	all := make([]uint32, len(pieces))
	for i := range pieces {
		all[i] = pieces[i].item
	}
	var c cuts
	c.add(0, 0)
	around := []layer{}
	leave := func(before uint32) {
		for len(around) > 0 && around[len(around)-1].last < before {
			end := around[len(around)-1].last + 1
			around = around[:len(around)-1]
			c.add(end, top(around).at)
		}
	}
	for i := 0; i < len(pieces); {
		j := i
		for j < len(pieces) && pieces[j].span == pieces[i].span {
			j++
		}
		leave(pieces[i].first)
		l := b.layer(pieces[i].span, all[i:j], top(around), open)
		c.add(l.first, l.at)
		around = append(around, l)
		i = j
	}
	leave(maxValue)
	return c
}

func top(around []layer) layer {
	if len(around) == 0 {
		return layer{}
	}
	return around[len(around)-1]
}

// layer builds the layer of items within outer.
func (b *builder) layer(s span, items []uint32, outer layer, open fields) layer {
	l := layer{span: s, items: items, next: outer.at}
	if len(outer.items) <= maxInherit {
		l.next = outer.next
		if len(outer.items) > 0 {
			l.items = append(slices.Clone(items), outer.items...)
			slices.Sort(l.items)
		}
	}
	l.at = b.build(l.items, open)
	if l.next != 0 {
		l.at = b.then(l.at, l.items[0], l.next)
	}
	return l
}

// appendPrefixes appends the fewest pieces of s that are each a prefix of 16 bits.
func appendPrefixes(pieces []piece, s span, item uint32) []piece {
	last := min(s.last, 1<<16-1)
	if last == 1<<16-1 && s.first == 0 {
		return append(pieces, piece{s, item})
	}
	for v := s.first; v <= last; {
		size := uint32(1)
		for v&(2*size-1) == 0 && v+2*size-1 <= last {
			size *= 2
		}
		pieces = append(pieces, piece{span{v, v + size - 1}, item})
		v += size
	}
	return pieces
}
