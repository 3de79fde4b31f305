package dataplane

import (
	"strings"
	"testing"
)

// TestUplinkPath: a route may lead out of an uplink, which is no object of the state.
func TestUplinkPath(t *testing.T) {
	u := Uplink{Name: "eth0.10"}
	r := Route{0, prefix("10.2.0.0/24"), []Path{{Interface: u.Interface(), Via: addr("192.0.2.2")}}}
	s, err := NewState(r)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseState(s.String())
	if err != nil || !again.Equal(s) {
		t.Errorf("read back: %v, %v", again, err)
	}
	if r.Paths[0].Interface = u.Name; refusal(r) == "" {
		t.Error("a route out of an interface that is neither there nor an uplink is taken")
	}
	if got := refusal(Interface{Name: u.Interface(), Device: Loopback{}, MTU: 1500}); !strings.Contains(got, "is for uplinks") {
		t.Errorf("an interface of an uplink's name: %q", got)
	}
}

// refusal is the text of the error, or nothing.
func refusal(o ...Object) string {
	if _, err := NewState(o...); err != nil {
		return err.Error()
	}
	return ""
}
