package cni

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/millrace/millrace/cni/cnipb"
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
	memif := func(text string) string { return field(`"device": "memif", ` + text) }
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
		{field(`"capabilities": {"memif": true}`), types.ErrUnsupportedField, "capabilities.memif: true"},
		{field(`"capabilities": {"CNIDeviceInfoFile": true}`), types.ErrUnsupportedField, "capabilities.CNIDeviceInfoFile: true"},
		{field(`"memif": {}`), types.ErrUnsupportedField, `memif: belongs to a network with "device": "memif"`},
		{field(`"args": {"cni": {"memif": {}}}`), types.ErrUnsupportedField, "args.cni.memif: belongs"},
		{field(`"runtimeConfig": {"memif": {}}`), types.ErrUnsupportedField, "runtimeConfig.memif: belongs"},
		{field(`"runtimeConfig": {"CNIDeviceInfoFile": "/x"}`), types.ErrUnsupportedField, "runtimeConfig.CNIDeviceInfoFile: belongs"},
		{field(`"device": "tap"`), types.ErrInvalidNetworkConfig, `device: "tap": want kernel or memif`},
		{memif(`"memif": {"ringsize": 1024}`), types.ErrInvalidNetworkConfig, "memif.ringsize: no such field"},
		{memif(`"memif": {"ringSize": 1000}`), types.ErrInvalidNetworkConfig, "memif.ringSize: 1000"},
		{memif(`"memif": []`), types.ErrInvalidNetworkConfig, "memif: want an object"},
		{memif(`"args": {"cni": {"memif": {"rxQueues": 0}}}`), types.ErrInvalidNetworkConfig, "args.cni.memif.rxQueues: 0"},
		{memif(`"args": {"cni": 7}`), types.ErrDecodingFailure, "args.cni: want an object"},
		{memif(`"runtimeConfig": {"memif": {"secret": "x"}}`), types.ErrInvalidNetworkConfig, `runtimeConfig.memif.secret: "x"`},
		{memif(`"runtimeConfig": {"CNIDeviceInfoFile": "x"}`), types.ErrInvalidNetworkConfig, `runtimeConfig.CNIDeviceInfoFile: "x"`},
		{memif(`"runtimeConfig": {"ips": []}`), types.ErrUnsupportedField, "runtimeConfig.ips: []"},
		{memif(`"capabilities": {"ips": true}`), types.ErrUnsupportedField, "capabilities.ips: true"},
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

const memifConfig = `{
	"cniVersion": "1.1.0", "name": "fast", "type": "millrace", "device": "memif", "capabilities": {"memif": true, "CNIDeviceInfoFile": true},
	"memif": {"mode": "ip", "ringSize": 256, "rxQueues": 2, "secret": "keys/psk"}, "args": {"cni": {"memif": {"ringSize": 512, "txQueues": 3}, "x": 1}, "y": 2},
	"runtimeConfig": {"memif": {"txQueues": 4, "bufferSize": 4096}, "CNIDeviceInfoFile": "/run/x.json"}
}`

func TestMemifLayers(t *testing.T) {
	c, err := ParseConfig([]byte(memifConfig))
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.memif("net1")
	want := &cnipb.Memif{Name: "net1", Mode: "ip", RxQueues: 2, TxQueues: 4, RingSize: 512, BufferSize: 4096, Secret: "keys/psk"}
	if diff := cmp.Diff(want, got, protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("%v: %s", err, diff)
	}
	c.Memif.Args = json.RawMessage(`{"name": "fast0"}`)
	if got, err := c.memif("net1"); err != nil || got.Name != "fast0" {
		t.Errorf("%v, %v, want the name of the arguments", got, err)
	}
	least, err := ParseConfig([]byte(`{"name": "fast", "type": "millrace", "device": "memif"}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err = least.memif("net1")
	want = &cnipb.Memif{Name: "net1", Mode: "ethernet", RxQueues: 1, TxQueues: 1, RingSize: 1024, BufferSize: 2048}
	if diff := cmp.Diff(want, got, protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("%v: %s", err, diff)
	}
	if _, err := least.memif("net 1"); err == nil || !strings.Contains(err.Error(), "CNI_IFNAME") {
		t.Errorf("a name with a space: %v", err)
	}
	kernel := Config{Device: "kernel"}
	if got, err := kernel.memif("eth0"); got != nil || err != nil {
		t.Errorf("a kernel device is the memif %v, %v", got, err)
	}
}

// TestParseForRemoval: what went wrong after pods were made must not keep them alive.
func TestParseForRemoval(t *testing.T) {
	c, err := ParseForRemoval([]byte(`{"name": "pods", "type": "millrace", "socket": "/run/x.sock", "mtuu": 1, "mtu": "x", "prevResult": 7}`))
	if err != nil || c.Name != "pods" || c.Socket != "/run/x.sock" {
		t.Errorf("%+v, %v", c, err)
	}
	c, err = ParseForRemoval([]byte(`{"name": "fast", "device": "memif", "memif": 7, "runtimeConfig": {"CNIDeviceInfoFile": "/run/x.json", "memif": {"ringSize": 3}}}`))
	if err != nil || c.Device != "memif" || c.DeviceInfoFile != "/run/x.json" {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err = ParseForRemoval([]byte(`{"name": "fast", "runtimeConfig": 7}`)); err != nil || c.DeviceInfoFile != "" {
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
	f.Add([]byte(memifConfig))
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
