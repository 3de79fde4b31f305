package nodeconfig

import (
	"flag"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const head = "apiVersion: millrace.io/v1alpha1\nkind: NodeConfig\n"

func equalPrefixes(a, b netip.Prefix) bool { return a == b }

func TestDecodeKeepsDefaults(t *testing.T) {
	got, err := Decode([]byte(head))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), got, cmp.Comparer(equalPrefixes)); diff != "" {
		t.Errorf("a file with the head only differs from the defaults (-want +got):\n%s", diff)
	}
}

func TestDecodeEveryField(t *testing.T) {
	data, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		APIVersion: APIVersion, Kind: Kind, NodeName: "worker-7", Dataplane: UseVPP, LogLevel: Debug,
		RuntimeDir: "/run/millrace/vpp", StateDir: "/srv/millrace",
		Sockets:  Sockets{API: "/run/a.sock", Stats: "/run/s.sock", CNI: "/run/c.sock", Agent: "/run/g.sock"},
		MTU:      9000,
		MaxPods:  250,
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.7.0/24"), netip.MustParsePrefix("fd00:7::/64")},
		VPP: VPP{
			Binary: "/opt/vpp/bin/vpp", Workers: 3, MainHeapSize: 2 << 30, BuffersPerNuma: 131072,
			HugePages: HugePagesOn, AddHugePages: false, PCIDriver: PCIDriverUIO, AllowNoIOMMU: true, Plugins: []string{"wireguard", "nat"}, Extra: []string{"l3fib { fib-entry-pool-size 1M }"},
		},
		Uplinks: []Uplink{
			{Interface: "eth1", Mode: ModeAuto, Driver: DriverAuto},
			{PCI: "0000:03:00.0", Mode: ModeAuto, Driver: DriverDPDK, RxQueues: 4, TxQueues: 5, RxRing: 2048, TxRing: 1024, NoHostTap: true},
		},
		NodeToNode: NodeToNode{EncapsulationAlways},
		Masquerade: Masquerade{Enabled: false, NonMasqueradeCIDRs: []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("2001:db8::/32")}},
		Services:   Services{Enabled: false},
		Memif:      Memif{UseDMA: true},
		Engine:     Engine{Workers: 2},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(equalPrefixes)); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("validate: %v", err)
	}
}

func TestEncodeShowsEveryDefault(t *testing.T) {
	c := Default()
	c.Complete("node-1")
	text, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/default.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("printed defaults (-want +got); -update rewrites them:\n%s", diff)
	}
	if err := c.Validate(); err != nil {
		t.Errorf("the defaults are not valid: %v", err)
	}
}

func TestDecodeReadsWhatEncodePrints(t *testing.T) {
	full, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{"default": head, "full": string(full)} {
		t.Run(name, func(t *testing.T) {
			c, err := Decode([]byte(data))
			if err != nil {
				t.Fatal(err)
			}
			c.Complete("a")
			text, err := c.Encode()
			if err != nil {
				t.Fatal(err)
			}
			again, err := Decode([]byte(text))
			if err != nil {
				t.Fatalf("decode what was printed: %v\n%s", err, text)
			}
			if diff := cmp.Diff(c, again, cmp.Comparer(equalPrefixes)); diff != "" {
				t.Errorf("printed and read again (-first +again):\n%s", diff)
			}
		})
	}
}

func TestDecodeErrorsNameTheField(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     []string // each has to be in the error
	}{
		{"empty", "", []string{"empty", "apiVersion: millrace.io/v1alpha1"}},
		{"only comments", "# nothing\n---\n", []string{"empty"}},
		{"a list", "- a\n", []string{"want a mapping", "got a list"}},
		{"a word", "hello\n", []string{"want a mapping", `the text "hello"`}},
		{"no version", "kind: NodeConfig\n", []string{"apiVersion: missing"}},
		{"other version", "apiVersion: millrace.io/v2\nkind: NodeConfig\n", []string{`apiVersion: want millrace.io/v1alpha1, got the text "millrace.io/v2"`}},
		{"other kind", "apiVersion: millrace.io/v1alpha1\nkind: Pod\n", []string{"kind: want NodeConfig"}},
		{"two documents", head + "---\n" + head, []string{"2 YAML documents"}},
		{"not YAML", head + "vpp: {\n", []string{"decode NodeConfig", "yaml"}},
		{"field twice", head + "mtu: 1500\nmtu: 9000\n", []string{`"mtu" already set`}},
		{"unknown at the top", head + "datplane: vpp\n", []string{"datplane: unknown field", "dataplane"}},
		{"unknown below", head + "vpp:\n  wrokers: 2\n", []string{"vpp.wrokers: unknown field", "workers"}},
		{"wrong case", head + "VPP: {}\n", []string{"VPP: unknown field"}},
		{"text for number", head + "vpp:\n  workers: two\n", []string{`vpp.workers: want a whole number, got the text "two"`}},
		{"text for boolean", head + "memif:\n  useDMA: maybe\n", []string{`memif.useDMA: want true or false, got the text "maybe"`}},
		{"fraction", head + "mtu: 1500.5\n", []string{"mtu: want a whole number, got the number 1500.5"}},
		{"too large", head + "mtu: 99999999999\n", []string{"mtu: want a whole number"}},
		{"number for text", head + "nodeName: 7\n", []string{"nodeName: want text, got the number 7"}},
		{"list for mapping", head + "sockets: [a]\n", []string{"sockets: want a mapping, got a list"}},
		{"mapping for list", head + "podCIDRs: {a: b}\n", []string{"podCIDRs: want a list, got a mapping"}},
		{"mapping for name", head + "dataplane: {a: b}\n", []string{"dataplane: want text, got a mapping"}},
		{"bad name", head + "dataplane: ebpf\n", []string{`dataplane: "ebpf" is not one of auto, vpp, engine`}},
		{"bad size", head + "vpp: {mainHeapSize: 1G}\n", []string{`vpp.mainHeapSize: "1G" is not a size`, "512Mi"}},
		{"size out of range", head + "vpp: {mainHeapSize: 9999999999999Gi}\n", []string{"vpp.mainHeapSize"}},
		{"bad prefix", head + "podCIDRs: [10.0.0.0/24, 10.1.0.0]\n", []string{"podCIDRs[1]:"}},
		{"empty item", head + "podCIDRs: [~]\n", []string{"podCIDRs[0]: want a value"}},
		{"uplink unknown field", head + "uplinks: [{interface: eth0}, {nic: eth1}]\n", []string{"uplinks[1].nic: unknown field", "interface, mode, noHostTap, pci"}},
		{"uplink driver", head + "uplinks: [{interface: eth0, driver: netmap}]\n", []string{`uplinks[0].driver: "netmap" is not one of auto, dpdk`}},
		{"uplink mode", head + "uplinks: [{interface: eth0, mode: shared}]\n", []string{`uplinks[0].mode: "shared" is not one of auto, share, own`}},
		{"uplink number", head + "uplinks: [{interface: 7}]\n", []string{"uplinks[0].interface: want text, got the number 7"}},
		{"uplink word", head + "uplinks: [eth0]\n", []string{`uplinks[0]: want a mapping, got the text "eth0"`}},
		{"uplink nothing", head + "uplinks: [~]\n", []string{"uplinks[0]: want a value"}},
		{"uplink mapping", head + "uplinks: {interface: eth0}\n", []string{"uplinks: want a list, got a mapping"}},
		{"kernel driver", head + "vpp: {pciDriver: igb_uio}\n", []string{`vpp.pciDriver: "igb_uio" is not one of auto, vfio-pci, uio_pci_generic`}},
		{"several at once", head + "mtu: x\nvpp: {foo: 1}\nengine: {workers: []}\n", []string{"mtu:", "vpp.foo:", "engine.workers: want a whole number, got a list"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Decode([]byte(tt.in))
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error does not say %q:\n%v", w, err)
				}
			}
		})
	}
}

func TestHugePagesReadsYAMLBooleans(t *testing.T) {
	for in, want := range map[string]HugePages{"on": HugePagesOn, "off": HugePagesOff, "auto": HugePagesAuto, `"on"`: HugePagesOn} {
		c, err := Decode([]byte(head + "vpp: {hugepages: " + in + "}\n"))
		if err != nil {
			t.Errorf("%s: %v", in, err)
		} else if c.VPP.HugePages != want {
			t.Errorf("%s: got %s, want %s", in, c.VPP.HugePages, want)
		}
	}
}

// TestEncodeUplinks checks that a list of mappings prints under our names, not Go's.
func TestEncodeUplinks(t *testing.T) {
	c := Default()
	c.Uplinks = []Uplink{{Interface: "eth1", Mode: ModeShare, Driver: DriverAuto}, {PCI: "0000:03:00.0", Mode: ModeAuto, Driver: DriverAVF, RxRing: 512}}
	text, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	const want = `uplinks:
- interface: eth1
  pci: ""
  mode: share
  driver: auto
  rxQueues: 0
  txQueues: 0
  rxRing: 0
  txRing: 0
  noHostTap: false
- interface: ""
  pci: "0000:03:00.0"
  mode: auto
  driver: avf
  rxQueues: 0
  txQueues: 0
  rxRing: 512
  txRing: 0
  noHostTap: false
`
	if !strings.Contains(text, want) {
		t.Errorf("printed\n%s\nwithout\n%s", text, want)
	}
}

func TestCompleteFollowsRuntimeDir(t *testing.T) {
	c := Default()
	c.RuntimeDir = "/run/x"
	c.Sockets.Stats = "/run/own.sock"
	c.Complete("host")
	want := Sockets{API: "/run/x/api.sock", Stats: "/run/own.sock", CNI: "/run/millrace/cni.sock", Agent: "/run/millrace/agent.sock"}
	if diff := cmp.Diff(want, c.Sockets); diff != "" || c.NodeName != "host" {
		t.Errorf("node %q, sockets (-want +got):\n%s", c.NodeName, diff)
	}
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*Config)
		want string
	}{
		{"relative path", func(c *Config) { c.RuntimeDir = "run" }, `runtimeDir: "run" is not an absolute path`},
		{"trailing slash", func(c *Config) { c.StateDir = "/a/" }, `stateDir: "/a/" has to be written as /a`},
		{"blank in a path", func(c *Config) { c.VPP.Binary = "/a b" }, "vpp.binary"},
		{"long socket", func(c *Config) { c.Sockets.CNI = "/" + strings.Repeat("x", 107) }, "sockets.cni"},
		{"same socket", func(c *Config) { c.Sockets.Stats = c.Sockets.API }, "four different paths"},
		{"small MTU", func(c *Config) { c.MTU = 576 }, "mtu: 576"},
		{"large MTU", func(c *Config) { c.MTU = 65536 }, "mtu: 65536"},
		{"no pods", func(c *Config) { c.MaxPods = 0 }, "maxPods: 0"},
		{"negative workers", func(c *Config) { c.VPP.Workers = -1 }, "vpp.workers"},
		{"engine workers", func(c *Config) { c.Engine.Workers = 257 }, "engine.workers"},
		{"small heap", func(c *Config) { c.VPP.MainHeapSize = 1 << 20 }, "vpp.mainHeapSize: 1Mi"},
		{"no buffers", func(c *Config) { c.VPP.BuffersPerNuma = 1000 }, "vpp.buffersPerNuma"},
		{"host bits", func(c *Config) { c.PodCIDRs = prefixes("10.0.0.1/24") }, "podCIDRs[0]: 10.0.0.1/24 has host bits set: want 10.0.0.0/24"},
		{"overlap", func(c *Config) { c.PodCIDRs = prefixes("10.0.0.0/16", "fd00::/64", "10.0.3.0/24") }, "podCIDRs[2]: 10.0.3.0/24 overlaps podCIDRs[0] 10.0.0.0/16"},
		{"shared by DPDK", func(c *Config) {
			c.Uplinks = []Uplink{{Interface: "eth0", Mode: ModeShare, Driver: DriverDPDK}}
		}, "uplinks[0].mode: share is by af_xdp, and driver is dpdk"},
		{"shared without a host", func(c *Config) {
			c.Uplinks = []Uplink{{Interface: "eth0", Mode: ModeShare, Driver: DriverAuto, NoHostTap: true}}
		}, "uplinks[0].noHostTap: the host keeps a NIC that is shared"},
		{"uplink without a name", func(c *Config) { c.Uplinks = []Uplink{{}} }, "uplinks[0]: names no NIC: give interface or pci"},
		{"uplink with two names", func(c *Config) { c.Uplinks = []Uplink{{Interface: "eth0", PCI: "0000:03:00.0"}} }, "give one of them"},
		{"uplink short PCI", func(c *Config) { c.Uplinks = []Uplink{{PCI: "03:00.0"}} }, `uplinks[0].pci: "03:00.0" is not an address with its domain`},
		{"uplink large PCI", func(c *Config) { c.Uplinks = []Uplink{{PCI: "0000:0A:00.0"}} }, "in small letters"},
		{"uplink name", func(c *Config) { c.Uplinks = []Uplink{{Interface: "eth0/1"}} }, `uplinks[0].interface: "eth0/1" is not a kernel name`},
		{"uplink long name", func(c *Config) { c.Uplinks = []Uplink{{Interface: "abcdefghijklmnop"}} }, "at most 15"},
		{"uplink queues", func(c *Config) { c.Uplinks = []Uplink{{Interface: "eth0", TxQueues: -1}} }, "uplinks[0].txQueues: -1"},
		{"uplink ring", func(c *Config) { c.Uplinks = []Uplink{{Interface: "a"}, {Interface: "eth0", RxRing: 1000}} }, "uplinks[1].rxRing: 1000 is neither 0 nor a power of two"},
		{"uplink twice", func(c *Config) { c.Uplinks = []Uplink{{Interface: "eth0"}, {Interface: "eth0"}} }, "uplinks[1]: eth0 is uplinks[0] already"},
		{"multicast", func(c *Config) { c.PodCIDRs = prefixes("ff00::/8") }, "cannot be given to pods"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Default()
			c.Complete("n")
			tt.edit(&c)
			if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v does not say %q", err, tt.want)
			}
		})
	}
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestSizeText(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "7": 7, "4Ki": 4096, "512Mi": 512 << 20, "3Gi": 3 << 30} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want || s.String() != text {
			t.Errorf("%s: got %d, printed %s, error %v", text, s, s, err)
		}
	}
	if s := Size(1536 << 20); s.String() != "1536Mi" {
		t.Errorf("1.5 Gi prints as %s", s)
	}
}

func FuzzDecode(f *testing.F) {
	full, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	f.Add([]byte(head))
	f.Add([]byte(head + "podCIDRs: [10.0.0.0/24]\nvpp: {extra: ['a: b', \"#\"]}\nnodeName: 'no'\n"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Decode(data)
		if err != nil {
			return
		}
		text, err := c.Encode()
		if err != nil {
			t.Fatalf("encode what was decoded: %v", err)
		}
		again, err := Decode([]byte(text))
		if err != nil {
			t.Fatalf("decode what was printed: %v\n%s", err, text)
		}
		if diff := cmp.Diff(c, again, cmp.Comparer(equalPrefixes), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("printed and read again (-first +again):\n%s", diff)
		}
	})
}
