package dataplane

// tree is a set of objects in order of their keys: a treap, whose shape follows from its
// keys alone. No node ever changes: who puts an object in makes the nodes on the way to it
// anew and shares all others, so that two sets that come from one are compared by looking
// only at where they part.
type tree struct {
	key         Key
	object      Object
	weight      uint64 // a hash of the key; none below has a greater one
	left, right *tree
}

// weigh is FNV-1a with a last stir, so that keys that differ at their end weigh apart.
func weigh(k Key) uint64 {
	h := uint64(14695981039346656037) ^ uint64(k.Kind)
	for i := range len(k.Name) {
		h = (h ^ uint64(k.Name[i])) * 1099511628211
	}
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return h ^ h>>32
}

func (t *tree) find(k Key) *tree {
	for t != nil {
		switch c := k.Compare(t.key); {
		case c == 0:
			return t
		case c < 0:
			t = t.left
		default:
			t = t.right
		}
	}
	return nil
}

// put returns a set with one object more, or another one of a key.
func (t *tree) put(k Key, o Object, weight uint64) *tree {
	if t == nil {
		return &tree{key: k, object: o, weight: weight}
	}
	c := k.Compare(t.key)
	if c != 0 && weight > t.weight {
		left, _, right := t.split(k)
		return &tree{k, o, weight, left, right}
	}
	n := *t
	switch {
	case c == 0:
		n.object = o
	case c < 0:
		n.left = t.left.put(k, o, weight)
	default:
		n.right = t.right.put(k, o, weight)
	}
	return &n
}

// remove returns a set without a key that is in it.
func (t *tree) remove(k Key) *tree {
	c := k.Compare(t.key)
	if c == 0 {
		return join(t.left, t.right)
	}
	n := *t
	if c < 0 {
		n.left = t.left.remove(k)
	} else {
		n.right = t.right.remove(k)
	}
	return &n
}

// split returns what is before a key, at it and behind it.
func (t *tree) split(k Key) (before, at, behind *tree) {
	if t == nil {
		return nil, nil, nil
	}
	c := k.Compare(t.key)
	if c == 0 {
		return t.left, t, t.right
	}
	n := *t
	if c < 0 {
		before, at, n.left = t.left.split(k)
		return before, at, &n
	}
	n.right, at, behind = t.right.split(k)
	return &n, at, behind
}

// join puts two sets together, of which all of the first is before all of the second.
func join(a, b *tree) *tree {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	if a.weight >= b.weight {
		n := *a
		n.right = join(a.right, b)
		return &n
	}
	n := *b
	n.left = join(a, b.left)
	return &n
}

func (t *tree) each(yield func(Object) bool) bool {
	return t == nil || t.left.each(yield) && yield(t.object) && t.right.each(yield)
}

// eachOf yields the objects of one kind.
func (t *tree) eachOf(k Kind, yield func(Object) bool) bool {
	if t == nil {
		return true
	}
	return (t.key.Kind < k || t.left.eachOf(k, yield)) &&
		(t.key.Kind != k || yield(t.object)) &&
		(t.key.Kind > k || t.right.eachOf(k, yield))
}

// part calls f, in order, with each key's objects in a and b that lie in parts which the
// two do not share; nil stands for none.
func part(a, b *tree, f func(k Key, a, b Object)) {
	switch {
	case a == b:
	case a == nil:
		b.each(func(o Object) bool { f(o.Key(), nil, o); return true })
	case b == nil:
		a.each(func(o Object) bool { f(o.Key(), o, nil); return true })
	case a.weight >= b.weight:
		before, at, behind := b.split(a.key)
		part(a.left, before, f)
		f(a.key, a.object, at.held())
		part(a.right, behind, f)
	default:
		before, at, behind := a.split(b.key)
		part(before, b.left, f)
		f(b.key, at.held(), b.object)
		part(behind, b.right, f)
	}
}

func (t *tree) held() Object {
	if t == nil {
		return nil
	}
	return t.object
}
