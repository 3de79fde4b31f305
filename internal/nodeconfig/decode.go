package nodeconfig

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// Decode reads one YAML (or JSON) document over the defaults. It is strict: an unknown
// field, a field given twice, a value of another type and a second document are errors.
// Every error names its field by path (vpp.workers, podCIDRs[1]), and all are reported
// together. The result is not yet completed or validated.
func Decode(data []byte) (Config, error) {
	c := Default()
	doc, err := onlyDocument(data)
	if err != nil {
		return Config{}, fmt.Errorf("decode NodeConfig: %w", err)
	}
	asJSON, err := yaml.YAMLToJSONStrict(doc)
	if err != nil {
		return Config{}, fmt.Errorf("decode NodeConfig: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(asJSON))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return Config{}, fmt.Errorf("decode NodeConfig: %w", err)
	}
	fields, ok := tree.(map[string]any)
	if !ok {
		return Config{}, fmt.Errorf("decode NodeConfig: want a mapping that begins with apiVersion: %s, got %s", APIVersion, describe(tree))
	}
	if err := checkHead(fields); err != nil {
		return Config{}, fmt.Errorf("decode NodeConfig: %w", err)
	}
	if err := errors.Join(decodeStruct("", fields, reflect.ValueOf(&c).Elem())...); err != nil {
		return Config{}, fmt.Errorf("decode NodeConfig: %w", err)
	}
	return c, nil
}

// onlyDocument refuses a second YAML document: the parser would drop it silently.
func onlyDocument(data []byte) ([]byte, error) {
	var found []byte
	docs := 0
	for doc := range bytes.SplitSeq(append([]byte("\n"), data...), []byte("\n---")) {
		if !blank(doc) {
			docs++
			found = doc
		}
	}
	switch docs {
	case 0:
		return nil, fmt.Errorf("the file is empty: it has to begin with apiVersion: %s", APIVersion)
	case 1:
		return found, nil
	}
	return nil, fmt.Errorf("the file holds %d YAML documents: want one", docs)
}

func blank(doc []byte) bool {
	for line := range bytes.Lines(doc) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}

func checkHead(fields map[string]any) error {
	for _, head := range []struct{ name, want string }{{"apiVersion", APIVersion}, {"kind", Kind}} {
		if got, given := fields[head.name]; !given {
			return fmt.Errorf("%s: missing: want %s", head.name, head.want)
		} else if got != head.want {
			return fmt.Errorf("%s: want %s, got %s", head.name, head.want, describe(got))
		}
	}
	return nil
}

// decodeStruct lays the mapping over the struct, whose tags name the fields.
func decodeStruct(path string, fields map[string]any, into reflect.Value) []error {
	known := map[string]reflect.Value{}
	for i := range into.NumField() {
		known[into.Type().Field(i).Tag.Get("yaml")] = into.Field(i)
	}
	var errs []error
	for _, name := range sortedKeys(fields) {
		full := strings.TrimPrefix(path+"."+name, ".")
		if field, ok := known[name]; ok {
			errs = append(errs, decodeValue(full, fields[name], field)...)
			continue
		}
		errs = append(errs, fmt.Errorf("%s: unknown field; known here: %s", full, strings.Join(sortedKeys(known), ", ")))
	}
	return errs
}

func decodeValue(path string, v any, into reflect.Value) []error {
	if v == nil { // "field:" with nothing behind it keeps the default
		return nil
	}
	if into.Kind() == reflect.Struct && !isText(into) {
		fields, ok := v.(map[string]any)
		if !ok {
			return []error{fmt.Errorf("%s: want a mapping, got %s", path, describe(v))}
		}
		return decodeStruct(path, fields, into)
	}
	if into.Kind() == reflect.Slice {
		return decodeList(path, v, into)
	}
	if err := decodeScalar(v, into); err != nil {
		return []error{fmt.Errorf("%s: %w", path, err)}
	}
	return nil
}

func decodeList(path string, v any, into reflect.Value) []error {
	items, ok := v.([]any)
	if !ok {
		return []error{fmt.Errorf("%s: want a list, got %s", path, describe(v))}
	}
	var errs []error
	list := reflect.MakeSlice(into.Type(), len(items), len(items))
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", path, i)
		if item == nil {
			errs = append(errs, fmt.Errorf("%s: want a value, got nothing", at))
			continue
		}
		if d, ok := list.Index(i).Addr().Interface().(interface{ setDefaults() }); ok {
			d.setDefaults()
		}
		errs = append(errs, decodeValue(at, item, list.Index(i))...)
	}
	into.Set(list)
	return errs
}

func decodeScalar(v any, into reflect.Value) error {
	if isText(into) {
		text, ok := v.(string)
		if b, isBool := v.(bool); isBool {
			text, ok = strconv.FormatBool(b), true
		} else if n, isNumber := v.(json.Number); isNumber {
			text, ok = n.String(), true
		}
		if !ok {
			return fmt.Errorf("want text, got %s", describe(v))
		}
		return into.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text))
	}
	switch into.Kind() {
	case reflect.String:
		s, ok := v.(string)
		if !ok {
			return fmt.Errorf("want text, got %s (quote it)", describe(v))
		}
		into.SetString(s)
	case reflect.Int:
		n, ok := v.(json.Number)
		i, err := strconv.ParseInt(n.String(), 10, 32)
		if !ok || err != nil {
			return fmt.Errorf("want a whole number, got %s", describe(v))
		}
		into.SetInt(i)
	case reflect.Bool:
		b, ok := v.(bool)
		if !ok {
			return fmt.Errorf("want true or false, got %s", describe(v))
		}
		into.SetBool(b)
	default:
		return fmt.Errorf("decode into a %s: this type has no rule", into.Type())
	}
	return nil
}

func isText(v reflect.Value) bool {
	_, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	return ok
}

func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case string:
		return fmt.Sprintf("the text %q", v)
	case json.Number:
		return "the number " + v.String()
	case bool:
		return fmt.Sprintf("the boolean %t", v)
	case []any:
		return "a list"
	}
	return "a mapping"
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
