package startup

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// server is a node on which everything is there.
func server() inventory.Node {
	return inventory.Node{
		VPP:             inventory.File{Path: "/usr/bin/vpp"},
		Engine:          inventory.File{Path: "/usr/bin/millrace"},
		Dirs:            []inventory.File{{Path: "/run/vpp"}},
		Tun:             inventory.File{Path: "/dev/net/tun"},
		VhostNet:        inventory.File{Path: "/dev/vhost-net"},
		NetAdmin:        true,
		CPUs:            []int{0, 1, 2, 3, 8, 9},
		CPULevel:        "x86-64-v4",
		MemoryAvailable: 64 << 30,
		HugePageSize:    2 << 20,
		NUMA:            []inventory.NUMANode{{ID: 0, HugePagesFree: 1024}, {ID: 1, HugePagesFree: 1024}},
	}
}

// laptop has two CPUs, no VPP, no huge pages and no vhost-net.
func laptop() inventory.Node {
	inv := server()
	inv.VPP.Missing = true
	inv.VhostNet.Missing = true
	inv.CPUs = []int{0, 1}
	inv.CPULevel = "x86-64-v3"
	inv.MemoryAvailable = 6 << 30
	inv.NUMA = []inventory.NUMANode{{ID: 0}}
	return inv
}

func config(edit func(*nodeconfig.Config)) nodeconfig.Config {
	c := nodeconfig.Default()
	if edit != nil {
		edit(&c)
	}
	c.Complete("node-1")
	return c
}

func TestPlans(t *testing.T) {
	laptopWithVPP := laptop()
	laptopWithVPP.VPP = inventory.File{Path: "/opt/vpp/bin/vpp"}
	arm := server()
	arm.CPULevel = "arm64"
	arm.HugePageSize = 512 << 20
	arm.NUMA = []inventory.NUMANode{{ID: 0, HugePagesFree: 1}}
	for _, tt := range []struct {
		name string
		inv  inventory.Node
		edit func(*nodeconfig.Config)
	}{
		{"server-auto", server(), nil},
		{"server-workers", server(), func(c *nodeconfig.Config) {
			c.VPP.Workers = 4
			c.VPP.MainHeapSize = 4 << 30
			c.VPP.BuffersPerNuma = 131072
			c.VPP.HugePages = nodeconfig.HugePagesOn
			c.VPP.Plugins = []string{"wireguard", "nat_plugin.so", "acl"}
			c.VPP.Extra = []string{"l3fib {", "  fib-entry-pool-size 1M # routes", "}"}
			c.LogLevel = nodeconfig.Debug
		}},
		{"server-engine-forced", server(), func(c *nodeconfig.Config) { c.Dataplane = nodeconfig.UseEngine }},
		{"server-hugepages-off", server(), func(c *nodeconfig.Config) { c.VPP.HugePages = nodeconfig.HugePagesOff }},
		{"laptop-auto", laptop(), nil},
		{"laptop-vpp", laptopWithVPP, func(c *nodeconfig.Config) {
			c.Dataplane = nodeconfig.UseVPP
			c.VPP.Binary = "/opt/vpp/bin/vpp"
			c.RuntimeDir = "/run/millrace/vpp"
			c.LogLevel = nodeconfig.Warn
		}},
		{"arm-auto", arm, func(c *nodeconfig.Config) { c.LogLevel = nodeconfig.Error }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Make(tt.inv, config(tt.edit))
			if err != nil {
				t.Fatal(err)
			}
			golden(t, tt.name, p.String())
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got); -update rewrites it:\n%s", file, diff)
	}
}

func TestConflicts(t *testing.T) {
	type c = nodeconfig.Config
	for _, tt := range []struct {
		name string
		node func(*inventory.Node)
		edit func(*c)
		want []string // each has to be in the error
	}{
		{"vpp forced, missing", func(i *inventory.Node) { i.VPP.Missing = true }, func(c *c) { c.Dataplane = nodeconfig.UseVPP },
			[]string{"/usr/bin/vpp is missing", "VPP_BIN", "--dataplane engine"}},
		{"vpp named under auto, missing", func(i *inventory.Node) { i.VPP = inventory.File{Path: "/opt/vpp", Missing: true} }, func(c *c) { c.VPP.Binary = "/opt/vpp" },
			[]string{"/opt/vpp was named but is missing"}},
		{"vpp not executable, auto", func(i *inventory.Node) { i.VPP.Problem = "is not executable (mode 0644)" }, nil,
			[]string{"/usr/bin/vpp is not executable (mode 0644)", "make it executable"}},
		{"vpp not executable, forced", func(i *inventory.Node) { i.VPP.Problem = "is a directory" }, func(c *c) { c.Dataplane = nodeconfig.UseVPP },
			[]string{"/usr/bin/vpp is a directory"}},
		{"no privilege", func(i *inventory.Node) { i.NetAdmin = false }, nil, []string{"no privilege", "CAP_NET_ADMIN"}},
		{"no tun for the engine", func(i *inventory.Node) { i.VPP.Missing, i.Tun.Missing = true, true }, nil, []string{"/dev/net/tun (missing)", "modprobe tun"}},
		{"tun forbidden", func(i *inventory.Node) { i.VPP.Missing, i.Tun.Problem = true, "operation not permitted" }, nil, []string{"/dev/net/tun (operation not permitted)"}},
		{"directory not writable", func(i *inventory.Node) { i.Dirs[0].Problem = "is on a read-only file system" }, nil, []string{"directory /run/vpp is on a read-only file system"}},
		{"engine workers", func(i *inventory.Node) { i.VPP.Missing = true }, func(c *c) { c.Engine.Workers = 7 }, []string{"engine.workers: 7", "0-3,8-9"}},
		{"no CPU", func(i *inventory.Node) { i.CPUs = nil }, nil, []string{"no CPU"}},
		{"engine program gone", func(i *inventory.Node) { i.VPP.Missing, i.Engine.Missing = true, true }, nil, []string{"/usr/bin/millrace (missing)"}},
		{"vpp workers", nil, func(c *c) { c.VPP.Workers = 6 }, []string{"vpp.workers: 6 workers and the main thread need 7 CPUs"}},
		{"huge pages on, one node short", func(i *inventory.Node) { i.NUMA[1].HugePagesFree = 10 }, func(c *c) { c.VPP.HugePages, c.VPP.AddHugePages = nodeconfig.HugePagesOn, false },
			[]string{"vpp.hugepages: 65536 buffers need 75 huge pages of 2Mi on NUMA node 1", "10 are free", "vm.nr_hugepages"}},
		{"huge pages on, none known", func(i *inventory.Node) { i.HugePageSize = 0 }, func(c *c) { c.VPP.HugePages = nodeconfig.HugePagesOn },
			[]string{"the kernel has no huge pages"}},
		{"memory", func(i *inventory.Node) { i.MemoryAvailable = 512 << 20 }, nil, []string{"vpp.mainHeapSize", "512 MiB are available"}},
		{"old CPU", func(i *inventory.Node) { i.CPULevel = "x86-64-v1" }, nil, []string{"SSE4.2"}},
		{"path VPP cannot read", nil, func(c *c) { c.Sockets.API = "/run/vpp/a:b.sock" }, []string{"/run/vpp/a:b.sock", "':'"}},
		{"plugin path", nil, func(c *c) { c.VPP.Plugins = []string{"acl", "../evil"} }, []string{"vpp.plugins[1]"}},
		{"plugin dpdk", nil, func(c *c) { c.VPP.Plugins = []string{"dpdk_plugin.so"} }, []string{"vpp.plugins[0]: dpdk", "every idle NIC"}},
		{"extra owns a section", nil, func(c *c) { c.VPP.Extra = []string{"l3fib { }", "  unix{", "}"} }, []string{"vpp.extra[1]: the section unix"}},
		{"extra not closed", nil, func(c *c) { c.VPP.Extra = []string{"l3fib {"} }, []string{"vpp.extra: 1 { without }"}},
		{"extra closes ours", nil, func(c *c) { c.VPP.Extra = []string{"}", "unix {"} }, []string{"vpp.extra[0]: a } without"}},
		{"extra with a line break", nil, func(c *c) { c.VPP.Extra = []string{"a {\n}"} }, []string{"vpp.extra[0]: holds a line break"}},
		{"several at once", func(i *inventory.Node) { i.NetAdmin = false; i.Dirs[0].Problem = "cannot be written" }, func(c *c) { c.VPP.Workers = 99 },
			[]string{"no privilege", "cannot be written", "vpp.workers"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inv := server()
			if tt.node != nil {
				tt.node(&inv)
			}
			p, err := Make(inv, config(tt.edit))
			if err == nil {
				t.Fatalf("no error, but the plan\n%v", p)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error does not say %q:\n%v", w, err)
				}
			}
		})
	}
}

// TestSegmentPrefix checks that two runtime directories never share names in /dev/shm.
func TestSegmentPrefix(t *testing.T) {
	long := "/run/" + strings.Repeat("x", 200)
	seen := map[string]string{}
	for _, dir := range []string{"/run/vpp", "/run/millrace/vpp", long + "/a", long + "/b", "/a" + long, "/"} {
		p := segmentPrefix(dir)
		if other, dup := seen[p]; dup || len(p) > 200 || strings.Contains(p, "/") {
			t.Errorf("%s and %s share %q", dir, other, p)
		}
		seen[p] = dir
	}
}
