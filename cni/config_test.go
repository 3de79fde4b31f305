package cni

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
)

const fullConfig = `{
	"cniVersion": "1.1.0", "name": "pods", "type": "millrace", "socket": "/run/x.sock", "mtu": 9000, "timeout": "5s",
	"logLevel": "debug", "ipam": {}, "ipMasq": false, "capabilities": {"bandwidth": false}, "runtimeConfig": {}, "args": {"cni": {"x": 1}},
	"dns": {"nameservers": ["10.0.0.10"], "domain": "cluster.local", "search": ["a", "b"], "options": ["ndots:5"]},
	"disableCheck": true, "disableGC": false, "prevResult": {"cniVersion": "1.1.0"},
	"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}], "cni.dev/attachments": [], "cni.dev/whatever": 1
}`

func TestParseConfig(t *testing.T) {
	got, err := ParseConfig([]byte(fullConfig))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		CNIVersion: "1.1.0", Name: "pods", Type: "millrace", Socket: "/run/x.sock", MTU: 9000, Timeout: 5 * time.Second, LogLevel: "debug",
		DNS:        types.DNS{Nameservers: []string{"10.0.0.10"}, Domain: "cluster.local", Search: []string{"a", "b"}, Options: []string{"ndots:5"}},
		PrevResult: []byte(`{"cniVersion": "1.1.0"}`), Valid: []types.GCAttachment{{ContainerID: "c1", IfName: "eth0"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	least, err := ParseConfig([]byte(`{"name": "pods", "type": "millrace-cni"}`))
	if err != nil {
		t.Fatal(err)
	}
	if least.Socket != DefaultSocket || least.CNIVersion != "0.1.0" || least.Timeout != time.Minute || least.MTU != 0 {
		t.Errorf("defaults %+v", least)
	}
}

func TestParseConfigErrors(t *testing.T) {
	field := func(text string) string {
		return `{"cniVersion": "1.1.0", "name": "pods", "type": "millrace", ` + text + `}`
	}
	tests := []struct {
		config string
		code   uint
		starts string // the path stands first
	}{
		{``, types.ErrDecodingFailure, "network configuration: "},
		{`[]`, types.ErrDecodingFailure, "network configuration: want an object"},
		{`{"name": "pods"`, types.ErrDecodingFailure, "network configuration: "},
		{`{"name": "pods", "type": "millrace"} {}`, types.ErrDecodingFailure, "network configuration: more follows"},
		{`{"name": }`, types.ErrDecodingFailure, "name: "},
		{`{"name": "pods"}`, types.ErrInvalidNetworkConfig, "type: is missing"},
		{`{"type": "millrace"}`, types.ErrInvalidNetworkConfig, "name: is missing"},
		{`{"name": "pods", "type": "bridge"}`, types.ErrInvalidNetworkConfig, `type: "bridge"`},
		{field(`"mtuu": 1500`), types.ErrInvalidNetworkConfig, "mtuu: no such field; known are args, "},
		{field(`"MTU": 1500`), types.ErrInvalidNetworkConfig, "MTU: no such field"},
		{field(`"mtu": 1500, "mtu": 1400`), types.ErrInvalidNetworkConfig, "mtu: stands twice"},
		{field(`"mtu": "1500"`), types.ErrDecodingFailure, "mtu: "},
		{field(`"mtu": 1.5`), types.ErrDecodingFailure, "mtu: "},
		{field(`"mtu": 576`), types.ErrInvalidNetworkConfig, "mtu: 576"},
		{field(`"mtu": 4294968796`), types.ErrInvalidNetworkConfig, "mtu: 4294968796"},
		{field(`"socket": "cni.sock"`), types.ErrInvalidNetworkConfig, "socket: "},
		{field(`"socket": "/` + strings.Repeat("x", 107) + `"`), types.ErrInvalidNetworkConfig, "socket: 108 bytes"},
		{field(`"timeout": "soon"`), types.ErrInvalidNetworkConfig, "timeout: "},
		{field(`"timeout": "1h"`), types.ErrInvalidNetworkConfig, "timeout: 1h"},
		{field(`"logLevel": "loud"`), types.ErrInvalidNetworkConfig, `logLevel: "loud"`},
		{field(`"dns": {"nameserver": "10.0.0.10"}`), types.ErrInvalidNetworkConfig, "dns.nameserver: no such field"},
		{field(`"dns": {"search": "a"}`), types.ErrDecodingFailure, "dns.search: "},
		{field(`"ipam": {"type": "host-local"}`), types.ErrUnsupportedField, "ipam: "},
		{field(`"ipMasq": true`), types.ErrUnsupportedField, "ipMasq: true"},
		{field(`"ipMasq": "yes"`), types.ErrDecodingFailure, "ipMasq: "},
		{field(`"capabilities": {"portMappings": true}`), types.ErrUnsupportedField, "capabilities.portMappings: true"},
		{field(`"runtimeConfig": {"ips": ["10.0.0.1"]}`), types.ErrUnsupportedField, `runtimeConfig.ips: ["10.0.0.1"]`},
		{field(`"args": 3`), types.ErrDecodingFailure, "args: want an object"},
		{field(`"disableCheck": 1`), types.ErrDecodingFailure, "disableCheck: "},
		{field(`"cni.dev/valid-attachments": 1`), types.ErrDecodingFailure, "cni.dev/valid-attachments: "},
	}
	for _, tt := range tests {
		_, err := ParseConfig([]byte(tt.config))
		var e *types.Error
		if !errors.As(err, &e) || e.Code != tt.code || !strings.HasPrefix(e.Msg, tt.starts) {
			t.Errorf("%s:\n got %v\nwant code %d and %q", tt.config, err, tt.code, tt.starts)
		}
	}
}

// TestParseForRemoval: what went wrong after pods were made must not keep them alive.
func TestParseForRemoval(t *testing.T) {
	c, err := ParseForRemoval([]byte(`{"name": "pods", "type": "millrace", "socket": "/run/x.sock", "mtuu": 1, "mtu": "x", "prevResult": 7}`))
	if err != nil || c.Name != "pods" || c.Socket != "/run/x.sock" {
		t.Errorf("%+v, %v", c, err)
	}
	for _, bad := range []string{`{`, `{"socket": "x"}`, `{"timeout": 1}`} {
		if _, err := ParseForRemoval([]byte(bad)); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func TestParseArgs(t *testing.T) {
	pod, err := parseArgs("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=1f=;K8S_POD_INFRA_CONTAINER_ID=c;FOO=bar;")
	if err != nil || pod.Namespace != "default" || pod.Name != "web" || pod.Uid != "1f=" {
		t.Errorf("%v, %v", pod, err)
	}
	if pod, err := parseArgs(""); err != nil || pod.Name != "" {
		t.Errorf("%v, %v", pod, err)
	}
	for args, want := range map[string]string{
		"FOO=bar":                 `["FOO=bar"]`,
		"IgnoreUnknown=0;FOO=bar": "IgnoreUnknown=1",
		"IgnoreUnknown=maybe":     "IgnoreUnknown=maybe",
		"K8S_POD_NAME":            `"K8S_POD_NAME"`,
		"K8S_POD_NAME=web":        "go together",
		"IgnoreUnknown=1;K8S_POD_NAMESPACE=default": "go together",
	} {
		var e *types.Error
		if _, err := parseArgs(args); !errors.As(err, &e) || e.Code != types.ErrInvalidEnvironmentVariables || !strings.Contains(e.Msg, want) {
			t.Errorf("parseArgs(%q) = %v, want %q", args, err, want)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(fullConfig))
	f.Add([]byte(`{"name": "a", "type": "millrace", "dns": {"search": [null]}}`))
	f.Add([]byte(`{"a": 1, "a": 2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		strict, err := ParseConfig(data)
		if err != nil {
			var e *types.Error
			if !errors.As(err, &e) || e.Code == 0 || e.Msg == "" {
				t.Errorf("%v is no CNI error", err)
			}
			return
		}
		lenient, err := ParseForRemoval(data)
		if err != nil || lenient.Name != strict.Name || lenient.Socket != strict.Socket {
			t.Errorf("taken strictly as %+v, for removal %+v, %v", strict, lenient, err)
		}
	})
}

func FuzzParsePrevResult(f *testing.F) {
	f.Add([]byte(`{"interfaces": [{"name": "eth0", "sandbox": "/n"}], "ips": [{"interface": 0, "address": "10.1.0.2/32"}]}`), "1.1.0")
	f.Add([]byte(`{"ip4": {"ip": "10.1.0.2/32"}}`), "0.2.0")
	f.Add([]byte(`{"interfaces": [null], "ips": [null, {}]}`), "1.0.0")
	f.Fuzz(func(t *testing.T, data []byte, version string) {
		result, err := parsePrevResult(data, version)
		if err != nil {
			return
		}
		request := checkRequest("/n")
		if err := promised(request, result); err == nil && len(request.Addresses) == 0 {
			t.Error("promised nothing without an error")
		}
	})
}
