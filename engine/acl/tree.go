package acl

// A tree leads from a point, the fields of a key as numbers, to the first rule whose box
// holds it. Each node looks at one field, which cuts the rules down to those that hold the
// point in it, and that no deeper node looks at again:
//
//	source class, destination class ─► shape: protocol ─► ports ─► TCP flags ─► rule
//
// Rules that most values of a field have in common would stand below each of them. Where
// that is too much, they stand once, in a node that others continue with by next: what a
// lookup finds there counts if it comes first.
//
// Below a shape, nodes speak of places in a row of rules instead of rules. Rows that look
// at protocol, ports and flags alike, such as those of a thousand peers with the same ten
// ports, share one shape.
type tree struct {
	nodes []node // nodes[0] is none
	words []uint32
}

// field is one of the numbers of a point.
type field uint8

const (
	fieldSrc   field = iota // class of the source
	fieldDst                // class of the destination
	fieldProto              // protocol, or noProto
	fieldSport
	fieldDport
	fieldFlags
	fieldCount
)

const protoTCP = 6 // the protocol that has flags

// noProto is the protocol of a packet without L4, which rules of all protocols hold only.
const noProto = 256

// ref is a node by number, or with the top bit set a rule. 0 is nothing.
type ref uint32

const isRule = ref(1) << 31

type kind uint8

const (
	kindRow    kind = iota // rules in order, to be looked at one by one
	kindShape              // sub, with the row as its rules
	kindSearch             // by binary search over the beginnings of intervals
	kindDirect             // by an array of values
)

type node struct {
	kind  kind
	field field  // of kindSearch and kindDirect
	size  uint32 // of the row, or number of intervals or values
	// at is where in words the row begins, or the beginnings of the intervals and then the
	// ref for each, or the ref for each value from base on.
	at   uint32
	base uint32 // first value of kindDirect; of a row without words, its first rule
	sub  ref    // of kindShape; of kindDirect, for all other values
	// first is the first rule below, next left aside. In a shape, below its node of protocol, it is
	// also the answer for fragments.
	first uint32
	next  ref // rules that hold the same points
}

// plain is the at of a row of rules that follow each other.
const plain = ^uint32(0)

// row is an order of rules: rule i of it is rule at(i) of the list.
type row struct {
	words []uint32 // nil: base, base+1, ...
	base  uint32
}

func (r *row) at(i uint32) uint32 {
	if r.words == nil {
		return r.base + i
	}
	return r.words[i]
}

func (t *tree) row(n *node) row {
	if n.at == plain {
		return row{base: n.base}
	}
	return row{words: t.words[n.at : n.at+n.size]}
}

// point is a key as the tree sees it.
type point struct {
	v        [fieldCount]uint32
	fragment bool
}

func newPoint(k *Key, src, dst uint32) point {
	p := point{fragment: k.Flags&KeyFragment != 0}
	p.v = [fieldCount]uint32{src, dst, uint32(k.Protocol), uint32(k.SrcPort), uint32(k.DstPort), uint32(k.TCPFlags)}
	if k.Flags&(KeyFragment|KeyNoL4) == KeyNoL4 {
		p.v[fieldProto] = noProto
	}
	return p
}

// holds reports whether p is in the box of r.
func (r *rule) holds(p *point) bool {
	if p.v[fieldSrc] < r.src || p.v[fieldSrc] > r.srcLast || p.v[fieldDst] < r.dst || p.v[fieldDst] > r.dstLast {
		return false
	}
	if r.protocol == 0 {
		return true
	}
	if uint32(r.protocol) != p.v[fieldProto] {
		return false
	}
	if p.fragment {
		return true
	}
	sport, dport := uint16(p.v[fieldSport]), uint16(p.v[fieldDport])
	return r.sport.has(sport) && r.dport.has(dport) &&
		(r.protocol != protoTCP || uint8(p.v[fieldFlags])&r.mask == r.value)
}

// match returns the number of the first rule that matches k, or none.
func (l *List) match(k *Key) uint32 {
	p := newPoint(k, l.src.of(&k.Src, k.Flags), l.dst.of(&k.Dst, k.Flags))
	return l.find(&p, k.Flags)
}

func (l *List) find(p *point, flags KeyFlags) uint32 {
	root := l.root4
	if flags&KeyIPv6 != 0 {
		root = l.root6
	}
	return l.walk(root, none, row{}, p)
}

// walk returns the place in r of the first rule at or below at that holds p, or best, if
// none comes before it.
func (l *List) walk(at ref, best uint32, r row, p *point) uint32 {
	for at != 0 {
		if at&isRule != 0 {
			i := uint32(at &^ isRule)
			if i < best && l.rules[r.at(i)].holds(p) {
				return i
			}
			return best
		}
		n := &l.nodes[at]
		if n.first >= best {
			at = n.next
			continue
		}
		switch n.kind {
		case kindRow:
			best = l.scan(n, best, r, p)
			at = n.next
			continue
		case kindShape:
			best = l.shaped(n, best, p)
			at = n.next
			continue
		}
		if n.field > fieldProto && p.fragment {
			best, at = n.first, n.next
			continue
		}
		sub := l.child(n, p.v[n.field])
		if n.next == 0 {
			at = sub
			continue
		}
		best, at = l.walk(sub, best, r, p), n.next
	}
	return best
}

// scan looks at the rules of a row before best.
func (l *List) scan(n *node, best uint32, r row, p *point) uint32 {
	own := l.row(n)
	for j := range n.size {
		i := own.at(j)
		if i >= best {
			break
		}
		if l.rules[r.at(i)].holds(p) {
			return i
		}
	}
	return best
}

// shaped is walk for a node of kindShape.
func (l *List) shaped(n *node, best uint32, p *point) uint32 {
	r := l.row(n)
	if i := l.walk(n.sub, none, r, p); i != none {
		return min(best, r.at(i))
	}
	return best
}

// child returns what is below n for a value of its field.
func (t *tree) child(n *node, v uint32) ref {
	if n.kind == kindDirect {
		if i := v - n.base; i < n.size {
			return ref(t.words[n.at+i])
		}
		return n.sub
	}
	w := t.words[n.at : n.at+2*n.size]
	low, size := uint32(0), n.size
	for size > 1 {
		half := size / 2
		if w[low+half] <= v {
			low += half
		}
		size -= half
	}
	return ref(w[n.size+low])
}
