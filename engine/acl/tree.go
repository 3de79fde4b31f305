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

func (t *tree) bytes() int {
	return size(t.nodes[:len(t.nodes):len(t.nodes)]) + size(t.words[:len(t.words):len(t.words)])
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
	kindRow     kind = iota // rules in order, to be looked at one by one
	kindLooks               // a row whose looks, in its order, are set sub
	kindShape               // sub, with the row as its rules
	kindSearch              // by intervals, in a binary search over their beginnings
	kindBuckets             // the same within the bucket of a value
	kindDirect              // by an array of values
)

type node struct {
	kind  kind
	field field  // of kindSearch and the kinds after it
	size  uint32 // of the row, or number of intervals or values
	// at is where in words the row begins; or the beginnings of the intervals, then the ref
	// for each and then for each bucket the interval in which it begins, and twice the last;
	// or the ref for each value from base on.
	at   uint32
	base uint32 // first value of kindDirect or of the first bucket; of a row inARow, its first rule
	// sub is the node of the shape; the set of kindLooks; with kindDirect what is at all other
	// values; with kindBuckets their number shifted left by 6, and the logarithm of their size.
	sub ref
	// first is the first rule below, without those of next. In a shape, below its node of
	// protocol, it is the answer for fragments.
	first uint32
	next  ref // rules that hold the same points
}

// row is an order of rules: rule i of it is words[at+i], or where at is inARow, base+i.
type row struct{ at, base uint32 }

const inARow = ^uint32(0)

// identity is the row of all rules of a list.
var identity = row{at: inARow}

func (t *tree) pick(r row, i uint32) uint32 {
	if r.at == inARow {
		return r.base + i
	}
	return t.words[r.at+i]
}

// point is a key as the tree sees it.
type point struct {
	v        [fieldCount]uint32
	row      row    // of the shape that is looked at
	looks    uint64 // of the list that is looked at, if looked
	looked   bool
	six      bool
	fragment bool
}

// set makes p the point of k, which still lacks its classes.
func (p *point) set(k *Key) {
	p.v[fieldProto] = uint32(k.Protocol)
	if k.Flags&(KeyFragment|KeyNoL4) == KeyNoL4 {
		p.v[fieldProto] = noProto
	}
	p.v[fieldSport], p.v[fieldDport], p.v[fieldFlags] = uint32(k.SrcPort), uint32(k.DstPort), uint32(k.TCPFlags)
	p.row = identity
	p.six, p.fragment = k.Flags&KeyIPv6 != 0, k.Flags&KeyFragment != 0
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

// gate is where the rules of a family begin: at a node that looks at the class of one
// side, which most keys do not come past, or somewhere that may look at both.
type gate struct {
	root ref
	by   field // fieldSrc, fieldDst, or another for both
}

func (l *List) gate(six bool) *gate {
	if six {
		return &l.gate6
	}
	return &l.gate4
}

func (t *tree) gateOf(root ref) gate {
	g := gate{root: root, by: fieldCount}
	if root&isRule != 0 {
		return g
	}
	if n := &t.nodes[root]; n.kind >= kindSearch && n.next == 0 {
		g.by = n.field
	}
	return g
}

// match returns the number of the first rule that matches k, whose point is p, or none.
func (l *List) match(k *Key, p *point) uint32 {
	if at := l.enter(k, p); at != 0 {
		return l.find(at, k, p)
	}
	return none
}

// enter returns what is behind the gate for k, mostly nothing.
func (l *List) enter(k *Key, p *point) ref {
	g := l.gate(p.six)
	switch g.by {
	case fieldSrc:
		p.v[fieldSrc] = l.src.of(&k.Src, p.six)
	case fieldDst:
		p.v[fieldDst] = l.dst.of(&k.Dst, p.six)
	default:
		return g.root
	}
	return l.child(&l.nodes[g.root], p.v[g.by])
}

// find is match from what enter returned.
func (l *List) find(at ref, k *Key, p *point) uint32 {
	by := l.gate(p.six).by
	if by != fieldDst {
		p.v[fieldDst] = l.dst.of(&k.Dst, p.six)
	}
	if by != fieldSrc {
		p.v[fieldSrc] = l.src.of(&k.Src, p.six)
	}
	p.looked = false
	return l.walk(at, none, p)
}

// walk returns the place in p's row of the first rule at or below at that holds p, or best,
// if none comes before it.
func (l *List) walk(at ref, best uint32, p *point) uint32 {
	for at != 0 {
		if at&isRule != 0 {
			i := uint32(at &^ isRule)
			if i < best && l.rules[l.pick(p.row, i)].holds(p) {
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
			best, at = l.scan(n, best, p), n.next
			continue
		case kindLooks:
			best, at = l.looked(n, best, p), n.next
			continue
		case kindShape:
			best, at = l.shaped(n, best, p), n.next
			continue
		}
		if n.field > fieldProto && p.fragment {
			return n.first
		}
		sub := l.child(n, p.v[n.field])
		if n.next == 0 {
			at = sub
			continue
		}
		best, at = l.walk(sub, best, p), n.next
	}
	return best
}

// looked is walk for a node of kindLooks.
func (l *List) looked(n *node, best uint32, p *point) uint32 {
	if !p.looked {
		p.looks, p.looked = l.looks.of(p), true
	}
	set := l.looks.bits[n.sub]
	found := set & p.looks
	if found == 0 {
		return best
	}
	return min(best, l.pick(row{n.at, n.base}, place(set, found)))
}

// scan looks at the rules of a row before best.
func (l *List) scan(n *node, best uint32, p *point) uint32 {
	own := row{n.at, n.base}
	for j := range n.size {
		i := l.pick(own, j)
		if i >= best {
			break
		}
		if l.rules[l.pick(p.row, i)].holds(p) {
			return i
		}
	}
	return best
}

// shaped is walk for a node of kindShape.
func (l *List) shaped(n *node, best uint32, p *point) uint32 {
	p.row = row{n.at, n.base}
	if i := l.walk(n.sub, none, p); i != none {
		best = min(best, l.pick(p.row, i))
	}
	p.row = identity
	return best
}
