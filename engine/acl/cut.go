package acl

import (
	"math"
	"slices"
)

// span is a range of values of a field, both ends in it.
type span struct{ first, last uint32 }

const maxValue = math.MaxUint32

// span returns the values of f that item holds.
func (b *builder) span(item uint32, f field) span {
	i := b.id(item)
	r := &b.rules[i]
	switch {
	case b.free[i]&(1<<f) != 0:
		return span{0, maxValue}
	case f == fieldSrc:
		return span{r.src, r.srcLast}
	case f == fieldDst:
		return span{r.dst, r.dstLast}
	case f == fieldProto:
		return span{uint32(r.protocol), uint32(r.protocol)}
	case f == fieldSport:
		return span{uint32(r.sport.First), uint32(r.sport.Last)}
	default:
		return span{uint32(r.dport.First), uint32(r.dport.Last)}
	}
}

// axis is a field cut into the intervals at whose borders spans begin or end.
type axis struct {
	field  field
	starts []uint32 // the first value of each interval, from 0
	spans  []span   // of the items
	in     []span   // the intervals in each of these
}

func (b *builder) axisOf(items []uint32, f field) axis {
	x := axis{field: f, spans: make([]span, len(items)), in: make([]span, len(items))}
	x.starts = make([]uint32, 1, 2*len(items)+1)
	for j, i := range items {
		s := b.span(i, f)
		x.spans[j] = s
		x.starts = append(x.starts, s.first)
		if s.last != maxValue {
			x.starts = append(x.starts, s.last+1)
		}
	}
	slices.Sort(x.starts)
	x.starts = slices.Compact(x.starts)
	for j, s := range x.spans {
		if j > 0 && s == x.spans[j-1] {
			x.in[j] = x.in[j-1]
			continue
		}
		first, _ := slices.BinarySearch(x.starts, s.first)
		last := len(x.starts) - 1
		switch {
		case s.last == maxValue:
		case first+1 < len(x.starts) && x.starts[first+1] == s.last+1:
			last = first
		default:
			after, _ := slices.BinarySearch(x.starts[first:], s.last+1)
			last = first + after - 1
		}
		x.in[j] = span{uint32(first), uint32(last)}
	}
	return x
}

// room is how often n items may stand in all intervals together.
func room(n int) int { return 2*n + 64 }

// rest is how many items are left behind the cut, on an average over them.
func (x *axis) rest() float64 {
	sizes := make([]int, len(x.starts)+1)
	for _, in := range x.in {
		sizes[in.first]++
		sizes[in.last+1]--
	}
	var size, sum, squares int
	for _, d := range sizes {
		size += d
		sum += size
		squares += size * size
	}
	if sum <= room(len(x.in)) {
		return float64(squares) / float64(sum)
	}
	alike := make([]uint64, len(x.in))
	for j, in := range x.in {
		alike[j] = uint64(in.first)<<32 | uint64(in.last)
	}
	slices.Sort(alike)
	squares = 0
	for i := 0; i < len(alike); {
		j := i
		for j < len(alike) && alike[j] == alike[i] {
			j++
		}
		squares += (j - i) * (j - i)
		i = j
	}
	return float64(squares) / float64(len(alike))
}

// part is which part of all intervals item j is in.
func (x *axis) part(j int) float64 {
	return float64(x.in[j].last-x.in[j].first+1) / float64(len(x.starts))
}

// slices puts each item into all of its intervals and builds these. An interval is full
// with the first item that holds all that comes there. When there is no room for all it
// reports false.
func (b *builder) slices(items []uint32, open fields, x *axis) (cuts, bool) {
	open = open.without(x.field)
	n := len(x.starts)
	next := make([]uint32, n+1) // the interval itself, or one behind it, until one that is not full
	for k := range next {
		next[k] = uint32(k)
	}
	type put struct{ interval, item uint32 }
	puts := make([]put, 0, room(len(items)))
	ends := make([]uint32, n+1)
	for j, i := range items {
		last := open&^b.free[b.id(i)] == 0
		for k := notFull(next, x.in[j].first); k <= x.in[j].last; k = notFull(next, k+1) {
			if len(puts) == cap(puts) {
				return cuts{}, false
			}
			puts = append(puts, put{k, i})
			ends[k+1]++
			if last {
				next[k] = k + 1
			}
		}
	}
	for k := range n {
		ends[k+1] += ends[k]
	}
	sorted, fill := make([]uint32, len(puts)), slices.Clone(ends)
	for _, p := range puts {
		sorted[fill[p.interval]] = p.item
		fill[p.interval]++
	}
	var c cuts
	var before []uint32
	for k, start := range x.starts {
		here := sorted[ends[k]:ends[k+1]]
		if k > 0 && slices.Equal(here, before) {
			continue
		}
		c.add(start, b.build(here, open))
		before = here
	}
	return c, true
}

// notFull returns the first interval from k on that is not full, and shortens the way there.
func notFull(next []uint32, k uint32) uint32 {
	for next[k] != k {
		next[k] = next[next[k]]
		k = next[k]
	}
	return k
}
