package acl

import (
	"encoding/binary"
	"slices"
)

// fields is a set of them.
type fields uint8

const (
	allFields    fields = 1<<fieldCount - 1
	addressParts fields = 1<<fieldSrc | 1<<fieldDst
)

func (s fields) without(f field) fields { return s &^ (1 << f) }

// A builder grows the tree of a list. It deals in items, which are rules by number, or
// while it builds a shape places in the shape's row.
type builder struct {
	*tree
	rules  []rule
	free   []fields // by rule: where it holds each value
	ids    []uint32 // the row of the shape that is being built, or nil
	shapes map[string]ref

	room int // for the tree, in bytes

	looks *looks
	nums  []uint8           // by rule: its look, where there are few
	sets  map[uint64]uint32 // where in looks.bits a row's set is
}

// maxRow is how many rules are looked at one by one where that is faster than a node.
const maxRow = 8

// A tree takes at most about maxBytes for each rule, and minBytes at least. Of lists made to
// be hard the rest is looked at one by one.
const (
	maxBytes = 400
	minBytes = 1 << 15
)

// grow builds the trees of both families.
func (l *List) grow(rules []Rule, nums []uint8) {
	l.nodes = make([]node, 1)
	b := builder{
		tree: &l.tree, rules: l.rules, free: make([]fields, len(rules)), shapes: map[string]ref{},
		room: max(maxBytes*len(rules), minBytes), looks: &l.looks, nums: nums, sets: map[uint64]uint32{},
	}
	four, six := make([]uint32, 0, len(rules)), []uint32{}
	for i := range rules {
		b.free[i] = freeIn(&rules[i])
		if rules[i].Src.Addr().Is4() {
			four = append(four, uint32(i))
		} else {
			six = append(six, uint32(i))
		}
	}
	l.gate4 = l.gateOf(b.build(four, allFields))
	l.gate6 = l.gateOf(b.build(six, allFields))
	l.looks.bits = slices.Clip(slices.Clone(l.looks.bits))
	l.nodes, l.words = slices.Clip(slices.Clone(l.nodes)), slices.Clip(slices.Clone(l.words))
}

func freeIn(r *Rule) fields {
	var s fields
	put := func(f field, free bool) {
		if free {
			s |= 1 << f
		}
	}
	put(fieldSrc, r.Src.Bits() == 0)
	put(fieldDst, r.Dst.Bits() == 0)
	put(fieldProto, r.Protocol == 0)
	put(fieldSport, r.Protocol == 0 || r.SrcPorts == AnyPorts())
	put(fieldDport, r.Protocol == 0 || r.DstPorts == AnyPorts())
	put(fieldFlags, r.Protocol != protoTCP || r.TCPMask|r.TCPValue == 0)
	return s
}

func (b *builder) id(item uint32) uint32 {
	if b.ids != nil {
		return b.ids[item]
	}
	return item
}

// build returns the tree of items, which rise. All hold the point in the fields that are
// not open.
func (b *builder) build(items []uint32, open fields) ref {
	items = b.untilAny(items, open)
	n := len(items)
	switch n {
	case 0:
		return 0
	case 1:
		return isRule | ref(items[0])
	}
	closed := allFields // in which all items are free
	for _, i := range items {
		closed &= b.free[b.id(i)]
	}
	wanted := open &^ closed
	if b.looks.few && b.ids == nil && wanted&addressParts == 0 {
		return b.byLooks(items)
	}
	switch {
	case n <= maxRow || b.bytes() > b.room:
		return b.addRow(kindRow, items)
	case b.ids != nil && wanted&(1<<fieldProto) != 0:
		return b.splitBest(items, fieldProto, fieldProto, 1<<fieldProto, open)
	case b.ids != nil && wanted&(1<<fieldSport|1<<fieldDport) == 0:
		return b.byFlags(items)
	case b.ids != nil:
		return b.splitBest(items, fieldSport, fieldDport, wanted, open)
	case wanted&addressParts != 0:
		return b.splitBest(items, fieldSrc, fieldDst, wanted, open)
	}
	return b.shape(items)
}

// untilAny cuts off the items behind one that holds all points that come here.
func (b *builder) untilAny(items []uint32, open fields) []uint32 {
	for j, i := range items {
		if open&^b.free[b.id(i)] == 0 {
			return items[:j+1]
		}
	}
	return items
}

// splitBest splits by f or g, whichever is wanted and leaves less.
func (b *builder) splitBest(items []uint32, f, g field, wanted, open fields) ref {
	x, y := b.axisOf(items, f), b.axisOf(items, g)
	switch {
	case wanted&(1<<g) == 0:
	case wanted&(1<<f) == 0 || x.rest() > y.rest():
		x, y = y, x
	}
	cuts, ok := b.slices(items, open, &x)
	head := len(items) / 8
	switch {
	case ok:
	case head >= maxRow && b.crowd(items, &x, &y, open) > 2*8:
		// Most points are in one of the first items: these come first.
		first := b.build(items[:head], open)
		cuts = b.layers(items[head:], open, b.axisOf(items[head:], x.field))
		return b.then(first, items[0], b.addCuts(x.field, cuts, items[head]))
	default:
		cuts = b.layers(items, open, x)
	}
	return b.addCuts(x.field, cuts, items[0])
}

// crowd is how many of items a point is in, on an average over all points.
func (b *builder) crowd(items []uint32, x, y *axis, open fields) float64 {
	sum := 0.0
	for j, i := range items {
		part := x.part(j) * y.part(j)
		if f := fieldSport; open&(1<<f) != 0 && x.field != f && y.field != f {
			part *= portPart(b.span(i, f))
		}
		if f := fieldDport; open&(1<<f) != 0 && x.field != f && y.field != f {
			part *= portPart(b.span(i, f))
		}
		sum += part
	}
	return sum
}

func portPart(s span) float64 { return float64(min(s.last, 1<<16-1)-s.first+1) / (1 << 16) }

// then lets next follow on at, which build just returned, for items from first on: what
// follows on it already is nodes of splitBest, and nobody else's.
func (b *builder) then(at ref, first uint32, next ref) ref {
	if at&isRule != 0 {
		at = b.addRow(kindRow, []uint32{first})
	}
	last := at
	for b.nodes[last].next != 0 {
		last = b.nodes[last].next
	}
	b.nodes[last].next = next
	return at
}

// byLooks makes a node for items that differ in their looks only. It leaves out those that
// look like an earlier one.
func (b *builder) byLooks(items []uint32) ref {
	var set uint64
	inOrder, some := true, items
	for j, i := range items {
		bit := uint64(1) << b.nums[i]
		if set&bit != 0 {
			if len(some) == len(items) {
				some = slices.Clone(items[:j])
			}
			continue
		}
		inOrder, set = inOrder && set < bit, set|bit
		if len(some) < len(items) {
			some = append(some, i)
		}
	}
	switch {
	case len(some) == 1:
		return isRule | ref(some[0])
	case !inOrder && len(some) <= maxRow:
		return b.addRow(kindRow, some)
	case !inOrder:
		return b.shape(some)
	}
	k, ok := b.sets[set]
	if !ok {
		k = uint32(len(b.looks.bits))
		b.sets[set], b.looks.bits = k, append(b.looks.bits, set)
	}
	at := b.addRow(kindLooks, some)
	b.nodes[at].sub = ref(k)
	return at
}

// maxFlagRow is how many flags are looked at one by one. More are worth an array.
const maxFlagRow = 64

// byFlags makes a node for items that differ in nothing but TCP flags.
func (b *builder) byFlags(items []uint32) ref {
	seen := make([]bool, 1<<16)
	some := items[:0:0]
	for _, i := range items {
		r := &b.rules[b.id(i)]
		if k := uint16(r.mask)<<8 | uint16(r.value); !seen[k] {
			seen[k], some = true, append(some, i)
		}
	}
	if len(some) <= maxFlagRow {
		return b.addRow(kindRow, some)
	}
	n := node{kind: kindDirect, field: fieldFlags, size: 256, at: uint32(len(b.words)), first: items[0]}
	for flags := range 256 {
		to := ref(0)
		for _, i := range some {
			r := &b.rules[b.id(i)]
			if b.free[b.id(i)]&(1<<fieldFlags) != 0 || uint8(flags)&r.mask == r.value {
				to = isRule | ref(i)
				break
			}
		}
		b.words = append(b.words, uint32(to))
	}
	return b.addNode(n)
}

// shape makes a node for items that differ in protocol, ports and flags only.
func (b *builder) shape(items []uint32) ref {
	look := make([]byte, 0, 11*len(items))
	for _, i := range items {
		r := &b.rules[i]
		look = binary.LittleEndian.AppendUint16(look, r.sport.First)
		look = binary.LittleEndian.AppendUint16(look, r.sport.Last)
		look = binary.LittleEndian.AppendUint16(look, r.dport.First)
		look = binary.LittleEndian.AppendUint16(look, r.dport.Last)
		look = append(look, r.protocol, r.mask, r.value)
	}
	sub, ok := b.shapes[string(look)]
	if !ok {
		places := make([]uint32, len(items))
		for i := range places {
			places[i] = uint32(i)
		}
		b.ids = items
		sub = b.build(places, allFields&^addressParts)
		b.ids = nil
		b.shapes[string(look)] = sub
	}
	at := b.addRow(kindShape, items)
	b.nodes[at].sub = sub
	return at
}

func (b *builder) addRow(k kind, items []uint32) ref {
	n := node{kind: k, size: uint32(len(items)), at: inARow, base: items[0], first: items[0]}
	if items[len(items)-1]-items[0] != n.size-1 {
		n.at = uint32(len(b.words))
		b.words = append(b.words, items...)
	}
	return b.addNode(n)
}
