package host

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/vppmanager/inventory"
)

const status = "Name:\tmillrace\nCapEff:\t000001fffeffffff\nCpus_allowed:\tff\nCpus_allowed_list:\t0-2,6\n"

const meminfo = "MemTotal:       24576000 kB\nMemAvailable:   20480 kB\nHugepagesize:       2048 kB\n"

const v3flags = "fpu cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3 avx avx2 bmi1 bmi2 f16c fma abm movbe"

// tree lays files under a new root. A value of "dir" makes a directory.
func tree(t *testing.T, files map[string]string) Node {
	t.Helper()
	root := t.TempDir()
	all := map[string]string{
		"proc/self/status": status, "proc/meminfo": meminfo,
		"proc/cpuinfo": "processor: 0\nflags\t\t: " + v3flags + "\n\nprocessor: 1\nflags: fpu\n",
	}
	for name, text := range files {
		all[name] = text
	}
	for name, text := range all {
		path := filepath.Join(root, name)
		if text == "dir" {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Node{Root: root, Arch: "amd64"}
}

func TestInspect(t *testing.T) {
	n := tree(t, map[string]string{
		"dev/net/tun":       "",
		"usr/bin/vpp":       "not executable",
		"usr/bin/millrace":  "",
		"run":               "dir",
		"etc/file":          "",
		"usr/lib/vpp.d/bin": "dir",
		"sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages": "7\n",
		"sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages": "100\n",
		"sys/devices/system/node/possible":                                        "0-1\n",
	})
	if err := os.Chmod(filepath.Join(n.Root, "usr/bin/millrace"), 0o755); err != nil {
		t.Fatal(err)
	}
	got, err := n.Inspect(Query{VPP: "/usr/bin/vpp", Engine: "/usr/bin/millrace", Dirs: []string{"/run/vpp", "/run", "/etc/file/x", "/run/vpp"}})
	if err != nil {
		t.Fatal(err)
	}
	want := inventory.Node{
		VPP:             inventory.File{Path: "/usr/bin/vpp", Problem: "is not executable (mode 0644)"},
		Engine:          inventory.File{Path: "/usr/bin/millrace"},
		Dirs:            []inventory.File{{Path: "/etc/file/x", Problem: "cannot be read: not a directory"}, {Path: "/run"}, {Path: "/run/vpp", Missing: true}},
		Tun:             inventory.File{Path: "/dev/net/tun"},
		VhostNet:        inventory.File{Path: "/dev/vhost-net", Missing: true},
		NetAdmin:        true,
		CPUs:            []int{0, 1, 2, 6},
		CPULevel:        "x86-64-v3",
		MemoryAvailable: 20 << 20,
		HugePageSize:    2 << 20,
		VFIO:            inventory.File{Path: "/dev/vfio/vfio", Missing: true},
		MemoryTotal:     24576000 << 10,
		NUMA: []inventory.NUMANode{
			{ID: 0, HugePagesFree: 100, Pages: []inventory.HugePages{{Size: 2 << 20, Free: 100}}},
			{ID: 1, HugePagesFree: 7, Pages: []inventory.HugePages{{Size: 2 << 20, Free: 7}}},
		},
		Modules: noModules(),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("inventory (-want +got):\n%s", diff)
	}
}

// noModules are the modules that are looked for, with none there.
func noModules() []inventory.Module {
	var list []inventory.Module
	for _, name := range driverModules() {
		list = append(list, inventory.Module{Name: name, State: inventory.ModuleMissing})
	}
	return list
}

func TestInspectPoorNode(t *testing.T) {
	n := tree(t, map[string]string{
		"proc/self/status": "CapEff:\t0000000000000000\nCpus_allowed_list:\t1\n",
		"proc/meminfo":     "MemAvailable: 1 kB\nMemFree: 4 kB\n",
		"proc/cpuinfo":     "flags: fpu sse2\n",
		"usr/bin/vpp":      "dir",
	})
	got, err := n.Inspect(Query{VPP: "/usr/bin/vpp", Engine: "/none"})
	if err != nil {
		t.Fatal(err)
	}
	want := inventory.Node{
		VPP: inventory.File{Path: "/usr/bin/vpp", Problem: "is a directory"}, Engine: inventory.File{Path: "/none", Missing: true},
		Tun: inventory.File{Path: "/dev/net/tun", Missing: true}, VhostNet: inventory.File{Path: "/dev/vhost-net", Missing: true},
		VFIO: inventory.File{Path: "/dev/vfio/vfio", Missing: true},
		CPUs: []int{1}, CPULevel: "x86-64-v1", MemoryAvailable: 1 << 10, NUMA: []inventory.NUMANode{{MemoryFree: 4 << 10}}, Modules: noModules(),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("inventory (-want +got):\n%s", diff)
	}
}

func TestInspectNamesWhatItCannotRead(t *testing.T) {
	for file, text := range map[string]string{
		"proc/self/status": "CapEff:\tzz\nCpus_allowed_list:\t0\n",
		"proc/meminfo":     "MemAvailable: many kB\n",
	} {
		_, err := tree(t, map[string]string{file: text}).Inspect(Query{})
		if err == nil || !strings.Contains(err.Error(), "/"+file) {
			t.Errorf("%s: error %v does not name the file", file, err)
		}
	}
}

func TestNumbers(t *testing.T) {
	for in, want := range map[string][]int{"0": {0}, "0-3,8": {0, 1, 2, 3, 8}, "2,4-5": {2, 4, 5}} {
		if got, err := numbers(in); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "a", "3-1", "0-", "-", "0-99999999"} {
		if got, err := numbers(in); err == nil {
			t.Errorf("%q: no error, got %v", in, got)
		}
	}
}

// TestThisMachine reads the machine it runs on.
func TestThisMachine(t *testing.T) {
	inv, err := Machine().Inspect(Query{VPP: "/usr/bin/vpp", Engine: "/bin/sh", Dirs: []string{t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	if len(inv.CPUs) == 0 || inv.MemoryAvailable == 0 || len(inv.NUMA) == 0 || inv.Dirs[0].Problem != "" {
		t.Errorf("inventory has holes:\n%v", inv)
	}
}
