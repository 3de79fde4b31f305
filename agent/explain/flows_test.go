package explain_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/millrace/millrace/agent/explain"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/policy/oracle"
)

func TestReadFlows(t *testing.T) {
	got, err := explain.ReadFlows("f", []byte(`---
# who may
- {from: shop/web, to: shop/db, port: 5432, expect: allow}
- from: 192.0.2.1
  to: "fd00::1"
  port: 53
  protocol: UDP
  expect: deny
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []explain.Expectation{
		{From: explain.Endpoint{Pod: cluster.PodKey{Namespace: "shop", Name: "web"}}, To: explain.Endpoint{Pod: cluster.PodKey{Namespace: "shop", Name: "db"}},
			Service: explain.Service{Protocol: oracle.TCP, Port: 5432}, Allow: true},
		{From: explain.Endpoint{Address: netip.MustParseAddr("192.0.2.1")}, To: explain.Endpoint{Address: netip.MustParseAddr("fd00::1")},
			Service: explain.Service{Protocol: oracle.UDP, Port: 53}},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestReadFlowsStrictly: every error names file, index and field.
func TestReadFlowsStrictly(t *testing.T) {
	const good = "{from: a/b, to: c/d, port: 1, expect: deny}"
	for _, tt := range []struct{ text, want string }{
		{"[" + good + ", {to: c/d, port: 1, expect: deny}]", "f[1]: from: is missing"},
		{"[{from: a/b, to: c/d, expect: deny}]", "f[0]: port: is missing"},
		{"[{from: a/b, to: c/d, port: 1}]", "f[0]: expect: is missing"},
		{"[{from: a, to: c/d, port: 1, expect: deny}]", `f[0]: from: "a": want namespace/pod or an IP address`},
		{"[{from: a/b/c, to: c/d, port: 1, expect: deny}]", `f[0]: from: "a/b/c": want namespace/pod`},
		{"[{from: 10.0.0.0/8, to: /d, port: 1, expect: deny}]", `f[0]: to: "/d": want namespace/pod`},
		{"[{from: a/b, to: c/d, port: 0, expect: deny}]", "f[0]: port: 0: want a number of 1 to 65535"},
		{"[{from: a/b, to: c/d, port: 65536, expect: deny}]", "f[0]: port: 65536: want a number"},
		{"[{from: a/b, to: c/d, port: http, expect: deny}]", `f[0]: port: "http": want a number`},
		{"[{from: a/b, to: c/d, port: 1, protocol: tcp, expect: deny}]", `f[0]: protocol: protocol "tcp": want TCP, UDP or SCTP`},
		{"[{from: a/b, to: c/d, port: 1, expect: Allow}]", `f[0]: expect: "Allow": want allow or deny`},
		{"[{from: a/b, to: c/d, port: 1, expect: true}]", "f[0]: expect: true: want a text"},
		{"[{from: a/b, to: c/d, port: 1, expect: deny, note: x}]", "f[0]: note: no such field"},
		{"[{from: a/b, from: a/b, to: c/d, port: 1, expect: deny}]", "from"},
		{"[7]", "f[0]: want an object"},
		{good, "f: want a list of {from:"},
		{"", "f: "},
		{"[]\n---\n[]", "f: it holds several YAML documents"},
		{"[" + good, "f: "},
	} {
		_, err := explain.ReadFlows("f", []byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v does not say %q", tt.text, err, tt.want)
		}
	}
}

// FuzzReadFlows: whatever stands in a file, it gives flows with ends and a port, or an
// error.
func FuzzReadFlows(f *testing.F) {
	f.Add([]byte("- {from: a/b, to: 10.0.0.1, port: 80, protocol: SCTP, expect: deny}"))
	f.Add([]byte("[{from: '::1', to: c/d, port: 65535, expect: allow}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := explain.ReadFlows("f", data)
		if err != nil {
			return
		}
		for i, e := range list {
			for _, end := range []explain.Endpoint{e.From, e.To} {
				if again, err := explain.ParseEndpoint(end.String()); err != nil || again != end {
					t.Errorf("[%d] %v does not come back: %v, %v", i, end, again, err)
				}
			}
			if e.Service.Port == 0 {
				t.Errorf("[%d] has no port", i)
			}
		}
	})
}

func TestParseService(t *testing.T) {
	for text, want := range map[string]string{
		"80": "{6 80}", "80/tcp": "{6 80}", "53/UDP": "{17 53}", "9/sctp": "{132 9}", "icmp": "{1 0}", "ICMP": "{1 0}",
		"0/tcp": "want a port", "65536": "want a port", "/tcp": "want a port", "80/": "want TCP", "80/icmp": "want TCP", "": "want a port", "http": "want a port", "+80": "want a port",
	} {
		got, err := explain.ParseService(text)
		if said := fmt.Sprint(got); err != nil && !strings.Contains(err.Error(), want) || err == nil && said != want {
			t.Errorf("%q: %s, %v; want %s", text, said, err, want)
		}
	}
}
