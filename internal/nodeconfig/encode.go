package nodeconfig

import (
	"fmt"
	"reflect"
	"strings"

	"sigs.k8s.io/yaml"
)

// Encode prints the whole configuration, defaults included, in the order of the fields
// and with what each is for. Decode reads it back to the same value.
func (c Config) Encode() (string, error) {
	var b strings.Builder
	if err := encodeStruct(&b, "", reflect.ValueOf(c)); err != nil {
		return "", fmt.Errorf("encode NodeConfig: %w", err)
	}
	return b.String(), nil
}

func encodeStruct(b *strings.Builder, indent string, v reflect.Value) error {
	for i := range v.NumField() {
		field, value := v.Type().Field(i), v.Field(i)
		writeDoc(b, indent, field)
		if err := encodeField(b, indent, field.Tag.Get("yaml"), value); err != nil {
			return err
		}
	}
	return nil
}

func writeDoc(b *strings.Builder, indent string, field reflect.StructField) {
	if doc := field.Tag.Get("doc"); doc != "" {
		fmt.Fprintf(b, "%s# %s\n", indent, doc)
	}
}

func encodeField(b *strings.Builder, indent, name string, value reflect.Value) error {
	switch {
	case value.Kind() == reflect.Struct:
		fmt.Fprintf(b, "%s%s:\n", indent, name)
		return encodeStruct(b, indent+"  ", value)
	case value.Kind() == reflect.Slice && value.Type().Elem().Kind() == reflect.Struct && !isText(reflect.New(value.Type().Elem()).Elem()):
		return encodeStructs(b, indent, name, value)
	}
	text, err := yaml.Marshal(value.Interface())
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if value.Kind() == reflect.Slice && value.Len() > 0 {
		fmt.Fprintf(b, "%s%s:\n", indent, name)
		for line := range strings.Lines(string(text)) {
			fmt.Fprintf(b, "%s%s", indent, line)
		}
		return nil
	}
	fmt.Fprintf(b, "%s%s: %s", indent, name, text)
	return nil
}

// encodeStructs prints a list of mappings. What their fields are for stands above the
// list, once, and there also when the list is empty.
func encodeStructs(b *strings.Builder, indent, name string, list reflect.Value) error {
	item := list.Type().Elem()
	for i := range item.NumField() {
		field := item.Field(i)
		fmt.Fprintf(b, "%s#   %s: %s\n", indent, field.Tag.Get("yaml"), field.Tag.Get("doc"))
	}
	if list.Len() == 0 {
		fmt.Fprintf(b, "%s%s: []\n", indent, name)
		return nil
	}
	fmt.Fprintf(b, "%s%s:\n", indent, name)
	for i := range list.Len() {
		for j := range item.NumField() {
			mark := "  "
			if j == 0 {
				mark = "- "
			}
			var field strings.Builder
			if err := encodeField(&field, indent+"  ", item.Field(j).Tag.Get("yaml"), list.Index(i).Field(j)); err != nil {
				return fmt.Errorf("%s[%d]: %w", name, i, err)
			}
			fmt.Fprintf(b, "%s%s%s", indent, mark, strings.TrimPrefix(field.String(), indent+"  "))
		}
	}
	return nil
}
