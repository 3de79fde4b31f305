package acl

import "math/bits"

// cuts are intervals, by their first values, and what is below each.
type cuts struct {
	starts []uint32
	refs   []ref
}

func (c *cuts) add(start uint32, to ref) {
	n := len(c.starts)
	if n > 0 && c.starts[n-1] == start {
		n--
		c.starts, c.refs = c.starts[:n], c.refs[:n]
	}
	if n > 0 && c.refs[n-1] == to {
		return
	}
	c.starts, c.refs = append(c.starts, start), append(c.refs, to)
}

// dense reports whether an array of all values but those at both ends is small.
func (c *cuts) dense() bool {
	last := len(c.starts) - 1
	return last > 0 && c.refs[0] == c.refs[last] && c.starts[last]-c.starts[1] <= 4*uint32(last)
}

// minBuckets is how many intervals are worth buckets.
const minBuckets = 16

// addCuts makes a node of c.
func (t *tree) addCuts(f field, c cuts, first uint32) ref {
	n := node{kind: kindSearch, field: f, size: uint32(len(c.starts)), at: uint32(len(t.words)), first: first}
	if c.dense() {
		t.addValues(&n, c)
		return t.addNode(n)
	}
	t.words = append(t.words, c.starts...)
	for _, r := range c.refs {
		t.words = append(t.words, uint32(r))
	}
	if n.size >= minBuckets {
		t.addBuckets(&n, c)
	}
	return t.addNode(n)
}

// addValues makes n direct.
func (t *tree) addValues(n *node, c cuts) {
	last := len(c.starts) - 1
	n.kind, n.base, n.size, n.sub = kindDirect, c.starts[1], c.starts[last]-c.starts[1], c.refs[0]
	k := 1
	for v := n.base; v < c.starts[last]; v++ {
		if v == c.starts[k+1] {
			k++
		}
		t.words = append(t.words, uint32(c.refs[k]))
	}
}

// addBuckets cuts the values from the second interval to the last into about as many equal
// buckets as there are intervals.
func (t *tree) addBuckets(n *node, c cuts) {
	last := len(c.starts) - 1
	n.kind, n.base = kindBuckets, c.starts[1]
	wide := uint64(c.starts[last]-n.base) + 1
	shift := max(bits.Len64(wide)-bits.Len32(n.size), 0)
	count := uint32((wide + 1<<shift - 1) >> shift)
	k := 1
	for b := range count {
		for begin := n.base + b<<shift; k < last && c.starts[k+1] <= begin; {
			k++
		}
		t.words = append(t.words, uint32(k))
	}
	t.words = append(t.words, uint32(last), uint32(last))
	n.sub = ref(count<<6 | uint32(shift))
}

func (t *tree) addNode(n node) ref {
	t.nodes = append(t.nodes, n)
	return ref(len(t.nodes) - 1)
}

// child returns what is below n, of kindSearch or after, for a value of its field.
func (t *tree) child(n *node, v uint32) ref {
	switch n.kind {
	case kindDirect:
		if i := v - n.base; i < n.size {
			return ref(t.words[n.at+i])
		}
		return n.sub
	case kindBuckets:
		return t.bucket(n, v)
	}
	w := t.words[n.at : n.at+2*n.size]
	return ref(w[n.size+interval(w, 0, n.size, v)])
}

func (t *tree) bucket(n *node, v uint32) ref {
	w := t.words[n.at:]
	if v < n.base {
		return ref(w[n.size])
	}
	b := 2*n.size + min((v-n.base)>>(n.sub&31), uint32(n.sub>>6))
	low := w[b]
	return ref(w[n.size+interval(w, low, w[b+1]-low+1, v)])
}

// interval returns the last of size beginnings from w[low] on that is not after v.
func interval(w []uint32, low, size, v uint32) uint32 {
	for size > 1 {
		half := size / 2
		// Without a branch, which would go wrong every other time: half, if that one is not
		// after v.
		low += half & uint32(int64(uint64(w[low+half])-uint64(v)-1)>>63)
		size -= half
	}
	return low
}
