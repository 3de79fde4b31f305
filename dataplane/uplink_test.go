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

// TestVXLANText reads a tunnel and a bypass back, and what is wrong with others.
func TestVXLANText(t *testing.T) {
	const text = `interface tunnel/a/ip4 device=vxlan src=192.0.2.1 dst=192.0.2.2 port=4789 vni=4096 mac=02:00:00:00:00:01 uplink=uplink:eth0 mtu=1450
tunnel-bypass uplink:eth0 ip4
`
	s, err := ParseState(text)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.String(); got != text {
		t.Errorf("read and printed:\n%s\nwant\n%s", got, text)
	}
	for old, want := range map[string]string{
		"dst=192.0.2.2":      "want two addresses of one family",
		"vni=4096":           "want a vni of 1 to",
		"mac=02:":            "want a unicast address",
		"uplink=uplink:eth0": "want the name of an uplink",
	} {
		bad := map[string]string{"dst=192.0.2.2": "dst=fd00::2", "vni=4096": "vni=16777216", "mac=02:": "mac=03:", "uplink=uplink:eth0": "uplink=eth0"}[old]
		if _, err := ParseState(strings.Replace(text, old, bad, 1)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", bad, err, want)
		}
	}
}
