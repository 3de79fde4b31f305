package strictjson

import (
	"errors"
	"testing"
)

func TestMembers(t *testing.T) {
	all, err := Members([]byte(` {"b": [1, {"x": 2}], "a": null} `))
	if err != nil || len(all) != 2 || all[0].Key != "b" || string(all[0].Raw) != `[1, {"x": 2}]` || string(all[1].Raw) != "null" {
		t.Errorf("members %q, %v", all, err)
	}
	if none, err := Members([]byte("{}")); len(none) != 0 || err != nil {
		t.Errorf("an empty object has %q, %v", none, err)
	}
	for text, want := range map[string]string{
		"":                 "ends too early",
		"[]":               "want an object",
		"{} {}":            "more follows after the object",
		`{"a": 1, "a": 2}`: "a: stands twice",
		`{"a": nope}`:      "a: invalid character 'o' in literal null (expecting 'u')",
		`{"a": 1`:          "ends too early",
	} {
		_, err := Members([]byte(text))
		if err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
		if e, ok := errors.AsType[*Error](err); !ok || e.Twice != (want == "a: stands twice") {
			t.Errorf("%s: error %#v", text, err)
		}
	}
}

func TestItems(t *testing.T) {
	all, err := Items([]byte(`[1, {"a": 2}]`))
	if err != nil || len(all) != 2 || string(all[1]) != `{"a": 2}` {
		t.Errorf("items %q, %v", all, err)
	}
	for text, want := range map[string]string{
		"":      "ends too early",
		"{}":    "want a list",
		"[1] 2": "more follows after the list",
		"[1":    "ends too early",
		"[1,":   "ends too early",
	} {
		if _, err := Items([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}
