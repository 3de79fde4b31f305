// Package textline owns the line that every printed value of ours is made of: words, then
// fields written key=value, quoted where needed, read back strictly.
//
// It knows no kind of object and never decides what a field means.
package textline

import (
	"fmt"
	"strconv"
	"strings"
)

// Line is one record: the words that name it, then its fields in order. A list is a key
// that stands several times.
type Line struct {
	Words  []string
	Fields []Field
}

// Field is one key=value. Keys are plain lower-case words; a value is any string.
type Field struct{ Key, Value string }

// New begins a line with its words.
func New(words ...string) Line { return Line{Words: words} }

// Add appends a field unless its value is empty: what is absent is not printed.
func (l *Line) Add(key, value string) {
	if value != "" {
		l.Fields = append(l.Fields, Field{key, value})
	}
}

// AddUint appends a number unless it is zero.
func (l *Line) AddUint(key string, value uint64) {
	if value != 0 {
		l.Fields = append(l.Fields, Field{key, strconv.FormatUint(value, 10)})
	}
}

// AddAll appends one field per value, in the order given.
func AddAll[T fmt.Stringer](l *Line, key string, values []T) {
	for _, v := range values {
		l.Fields = append(l.Fields, Field{key, v.String()})
	}
}

// String is the line without a newline.
func (l Line) String() string {
	var b strings.Builder
	for i, w := range l.Words {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(word(w))
	}
	for _, f := range l.Fields {
		b.WriteByte(' ')
		b.WriteString(f.Key)
		b.WriteByte('=')
		b.WriteString(quote(f.Value))
	}
	return b.String()
}

// word quotes what would be taken for a field, a comment or nothing.
func word(s string) string {
	if s == "" || s[0] == '#' || strings.Contains(s, "=") {
		return strconv.Quote(s)
	}
	return quote(s)
}

func quote(s string) string {
	for _, r := range s {
		if r <= ' ' || r == '"' || r == '\\' || r == 0x7f || r == '\ufffd' || !strconv.IsPrint(r) {
			return strconv.Quote(s)
		}
	}
	return s
}

// Parse reads one line. Words stand before fields.
func Parse(s string) (Line, error) {
	var l Line
	for rest := strings.TrimLeft(s, " \t"); rest != ""; rest = strings.TrimLeft(rest, " \t") {
		key := fieldKey(rest)
		value, tail, err := token(rest[len(key):])
		if err != nil {
			return Line{}, fmt.Errorf("read %q: %w", rest, err)
		}
		rest = tail
		switch {
		case key != "":
			l.Fields = append(l.Fields, Field{strings.TrimSuffix(key, "="), value})
		case len(l.Fields) > 0:
			return Line{}, fmt.Errorf("read %q: a word stands after a field", value)
		default:
			l.Words = append(l.Words, value)
		}
	}
	return l, nil
}

// fieldKey returns the "key=" that s begins with, or "" when s begins with a word.
func fieldKey(s string) string {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '=' && i > 0:
			return s[:i+1]
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-':
		default:
			return ""
		}
	}
	return ""
}

// token takes one value, quoted or plain, off the front of s.
func token(s string) (value, tail string, err error) {
	if strings.HasPrefix(s, `"`) {
		quoted, err := strconv.QuotedPrefix(s)
		if err != nil {
			return "", "", fmt.Errorf("unfinished quote")
		}
		tail := s[len(quoted):]
		if tail != "" && tail[0] != ' ' && tail[0] != '\t' {
			return "", "", fmt.Errorf("text follows a closing quote")
		}
		value, err := strconv.Unquote(quoted)
		return value, tail, err
	}
	if i := strings.IndexAny(s, " \t"); i >= 0 {
		return s[:i], s[i:], nil
	}
	return s, "", nil
}
