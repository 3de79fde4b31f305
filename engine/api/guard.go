package api

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// The generated decoders allocate what a count on the wire claims before they look at
// the bytes. A guard is compiled once per message from its struct tags and walks the
// bytes first: it follows counts and refuses those that the message is too short for.

// step is one stretch of a message's fields: skip fixed bytes, then, unless count is
// zero, an array whose count was seen, or a string with a u32 length.
type step struct {
	fixed    int
	countAt  int // offset of the count from the start of the enclosing struct's fixed part
	count    int // width of the count in bytes; 0 = no array
	isString bool
	element  []step // of an element
	size     int    // of an element's fixed bytes, 0 if element has its own arrays
}

// guard is the walk over one message; nil when all its fields have fixed sizes.
type guard []step

// newGuard compiles the walk for a message's struct type.
func newGuard(t reflect.Type) (guard, error) {
	c := compiler{}
	if err := c.fields(t); err != nil {
		return nil, fmt.Errorf("compile guard of %s: %w", t, err)
	}
	if len(c.steps) == 0 {
		return nil, nil
	}
	return append(c.steps, step{fixed: c.fixed}), nil
}

// check reports whether the counts in the fields b fit its length.
func (g guard) check(b []byte) bool {
	_, ok := walk(g, b)
	return ok
}

// walk returns what is left behind the steps. Offsets of counts are relative to where
// the walk began; the compiler lets them point into the first fixed stretch only.
func walk(steps []step, b []byte) ([]byte, bool) {
	start := b
	for _, s := range steps {
		if len(b) < s.fixed {
			return nil, false
		}
		b = b[s.fixed:]
		switch {
		case s.isString:
			if len(b) < 4 {
				return nil, false
			}
			n := binary.BigEndian.Uint32(b)
			b = b[4:]
			if uint64(n) > uint64(len(b)) {
				return nil, false
			}
			b = b[n:]
		case s.count > 0:
			n := readCount(start[s.countAt:], s.count)
			if s.element == nil {
				if n > uint64(len(b)) || n*uint64(s.size) > uint64(len(b)) {
					return nil, false
				}
				b = b[n*uint64(s.size):]
				continue
			}
			// An element has at least a byte, so that the loop is bounded by len(b).
			if n > uint64(len(b)) {
				return nil, false
			}
			for range n {
				var ok bool
				if b, ok = walk(s.element, b); !ok {
					return nil, false
				}
			}
		}
	}
	return b, true
}

func readCount(b []byte, width int) uint64 {
	switch width {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.BigEndian.Uint16(b))
	default:
		return uint64(binary.BigEndian.Uint32(b))
	}
}

// compiler gathers the steps of one struct. Nested structs are laid out inline.
type compiler struct {
	steps  []step
	fixed  int // bytes since the last step
	offset int // bytes since the start; meaningless behind an array
	counts map[string]countField
}

type countField struct{ at, width int }

// fields lays out the fields of struct t; counts are visible among its own fields only.
func (c *compiler) fields(t reflect.Type) error {
	outer := c.counts
	c.counts = map[string]countField{}
	defer func() { c.counts = outer }()
	for i := range t.NumField() {
		f := t.Field(i)
		tag, name := wireTag(f)
		if err := c.field(f.Type, tag, name); err != nil {
			return fmt.Errorf("field %s: %w", f.Name, err)
		}
	}
	return nil
}

// wireTag splits `binapi:"u32[count],name=x"` into its type and its name.
func wireTag(f reflect.StructField) (tag, name string) {
	parts := strings.Split(f.Tag.Get("binapi"), ",")
	for _, p := range parts[1:] {
		if n, ok := strings.CutPrefix(p, "name="); ok {
			name = n
		}
	}
	return parts[0], name
}

func (c *compiler) field(t reflect.Type, tag, name string) error {
	open := strings.IndexByte(tag, '[')
	switch t.Kind() {
	case reflect.String:
		n, err := strconv.Atoi(strings.TrimSuffix(tag[open+1:], "]"))
		if open < 0 || err != nil || n == 0 {
			c.add(step{isString: true})
			return nil
		}
		c.skip(n)
		return nil
	case reflect.Slice:
		return c.slice(t.Elem(), strings.TrimSuffix(tag[open+1:], "]"))
	case reflect.Struct:
		return c.fields(t)
	case reflect.Array:
		for range t.Len() {
			if err := c.field(t.Elem(), "", ""); err != nil {
				return err
			}
		}
		return nil
	case reflect.Bool, reflect.Uint8, reflect.Int8, reflect.Uint16, reflect.Int16,
		reflect.Uint32, reflect.Int32, reflect.Uint64, reflect.Int64, reflect.Float64:
		c.counts[name] = countField{c.offset, int(t.Size())}
		c.skip(int(t.Size()))
		return nil
	default:
		return fmt.Errorf("kind %s is not known on the wire", t.Kind())
	}
}

// slice lays out an array of fixed length, as in u32[4], or one with a count.
func (c *compiler) slice(elem reflect.Type, length string) error {
	e := compiler{counts: map[string]countField{}}
	if err := e.field(elem, "", ""); err != nil {
		return err
	}
	if n, err := strconv.Atoi(length); err == nil && n > 0 {
		if len(e.steps) > 0 {
			return fmt.Errorf("fixed array of %s, whose size varies", elem)
		}
		c.skip(n * e.fixed)
		return nil
	}
	count, ok := c.counts[length]
	if !ok || count.width > 4 {
		return fmt.Errorf("array without a count %q before it", length)
	}
	if count.at < 0 {
		return fmt.Errorf("count %q stands behind an array", length)
	}
	s := step{count: count.width, countAt: count.at, size: e.fixed}
	if len(e.steps) > 0 {
		s.element = append(e.steps, step{fixed: e.fixed})
	}
	c.add(s)
	return nil
}

func (c *compiler) skip(n int) {
	c.fixed += n
	c.offset += n
}

// add ends a stretch. Behind it, offsets from the start are unknown.
func (c *compiler) add(s step) {
	s.fixed = c.fixed
	c.steps = append(c.steps, s)
	c.fixed, c.offset = 0, -1<<30
}
