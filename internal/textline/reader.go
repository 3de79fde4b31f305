package textline

import (
	"fmt"
	"strings"
)

// Each hands every record of a text to f. Empty lines and lines that begin with # are
// skipped. The first error ends the walk and comes back with the number of its line.
func Each(text string, f func(Line) error) error {
	n := 0
	for raw := range strings.Lines(text) {
		n++
		raw = strings.TrimSpace(raw)
		if raw == "" || raw[0] == '#' {
			continue
		}
		l, err := Parse(raw)
		if err == nil {
			err = f(l)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return nil
}

// Reader takes fields out of a line. The first error sticks; Done reports it, or what
// nobody took.
type Reader struct {
	fields []Field
	err    error
}

// Read starts taking fields from l.
func Read(l Line) *Reader { return &Reader{fields: append([]Field(nil), l.Fields...)} }

// One takes the first field of that key, parsed; the zero value when there is none.
func One[T any](r *Reader, key string, parse func(string) (T, error)) (v T) {
	for i, f := range r.fields {
		if f.Key == key {
			r.fields = append(r.fields[:i], r.fields[i+1:]...)
			return convert(r, f, parse)
		}
	}
	return v
}

// All takes every field of that key, in order; nil when there is none.
func All[T any](r *Reader, key string, parse func(string) (T, error)) (vs []T) {
	kept := r.fields[:0]
	for _, f := range r.fields {
		if f.Key == key {
			vs = append(vs, convert(r, f, parse))
			continue
		}
		kept = append(kept, f)
	}
	r.fields = kept
	return vs
}

func convert[T any](r *Reader, f Field, parse func(string) (T, error)) T {
	v, err := parse(f.Value)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("field %s: %w", f.Key, err)
	}
	return v
}

// String takes the first field of that key as it stands.
func (r *Reader) String(key string) string {
	return One(r, key, func(s string) (string, error) { return s, nil })
}

// Strings takes every field of that key as it stands.
func (r *Reader) Strings(key string) []string {
	return All(r, key, func(s string) (string, error) { return s, nil })
}

// Fail records an error of the caller's own unless an earlier one stands.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// Done returns the first error, or one that names a field nobody took.
func (r *Reader) Done() error {
	if r.err != nil {
		return r.err
	}
	if len(r.fields) > 0 {
		return fmt.Errorf("field %s: unknown here, or given twice", r.fields[0].Key)
	}
	return nil
}
