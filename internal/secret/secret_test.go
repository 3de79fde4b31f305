package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const password = "correct horse battery"

func TestText(t *testing.T) {
	s := New(password, Salt{1})
	if text, salt, ok := s.Reveal(); text != password || salt != (Salt{1}) || !ok {
		t.Errorf("revealed %q, %v, %v", text, salt, ok)
	}
	back, err := Parse(s.String())
	if err != nil || !back.Equal(s) || back != s.Sealed() {
		t.Errorf("%s was read back as %s, %v", s, back, err)
	}
	if _, _, ok := back.Reveal(); ok {
		t.Error("a digest reveals something")
	}
	for _, other := range []Text{New(password, Salt{2}), New(password+".", Salt{1}), {}} {
		if other.Equal(s) {
			t.Errorf("%s equals %s", other, s)
		}
	}
	if none := New("", Salt{1}); !none.IsZero() || none.String() != "" {
		t.Errorf("the empty text is the secret %q", none)
	}
	if text, _, ok := (Text{}).Reveal(); text != "" || !ok {
		t.Error("no secret is something unknown")
	}
	for _, bad := range []string{"", "00", "00112233445x", "00112233445566"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q is taken for a digest", bad)
		}
	}
}

// TestNothingPrintsIt prints a secret in all the ways that an accident may.
func TestNothingPrintsIt(t *testing.T) {
	type holder struct {
		Shown  Text
		hidden Text
		list   []Text
	}
	s := New(password, Salt{1})
	h := holder{s, s, []Text{s}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{s, &s, h, &h, map[string]Text{"a": s}, fmt.Errorf("wrapped: %v", h)} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("text", "secret", s, "holder", h)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "secret", s, "holder", h)
	data, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(data)
	for _, form := range []string{password, fmt.Sprintf("%x", password), "correct"} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the secret stands in\n%s", out.String())
		}
	}
}
