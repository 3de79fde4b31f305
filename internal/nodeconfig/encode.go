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
		if doc := field.Tag.Get("doc"); doc != "" {
			fmt.Fprintf(b, "%s# %s\n", indent, doc)
		}
		name := field.Tag.Get("yaml")
		if value.Kind() == reflect.Struct {
			fmt.Fprintf(b, "%s%s:\n", indent, name)
			if err := encodeStruct(b, indent+"  ", value); err != nil {
				return err
			}
			continue
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
			continue
		}
		fmt.Fprintf(b, "%s%s: %s", indent, name, text)
	}
	return nil
}
