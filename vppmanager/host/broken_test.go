package host

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/vppmanager/inventory"
)

// freeText are files in which any text means something, at worst that what is looked for
// is not there; or which say nothing about this machine.
func freeText(path string) bool {
	for _, part := range []string{
		"/comm", "/cmdline", "proc/modules", "proc/misc", "/modules.", "proc/self/cgroup", "proc/self/mountinfo",
		"run/", "/lockdown", "lib/", "usr/", "dev/", "kernel.json",
	} {
		if strings.Contains("/"+path, part) {
			return true
		}
	}
	return false
}

// TestBrokenFiles breaks every single file of a machine: nothing stops the reading but
// what a plan cannot do without, and the message names the file.
func TestBrokenFiles(t *testing.T) {
	const file = "testdata/metal.tree"
	n := recorded(t, file)
	whole, err := n.Inspect(Query{VPP: "/usr/bin/vpp"})
	if err != nil || len(whole.Unread) > 0 {
		t.Fatalf("the whole machine: %v, %q", err, whole.Unread)
	}
	broken := 0
	for _, path := range regular(t, n.Root) {
		at := filepath.Join(n.Root, path)
		text, err := os.ReadFile(at)
		if err != nil {
			t.Fatal(err)
		}
		for how, breaks := range map[string]func() error{
			"garbage":   func() error { return os.WriteFile(at, []byte("\x1b[2J \xff -17x\n"), 0o644) },
			"directory": func() error { return asDirectory(at) },
			"fifo":      func() error { return asFIFO(at) },
		} {
			if freeText(path) && (how == "garbage" || !strings.HasPrefix(path, "proc/") || strings.HasSuffix(path, "/comm") || strings.HasSuffix(path, "/cmdline")) {
				continue
			}
			if path == "sys/devices/system/node/online" || path == "sys/fs/cgroup/cpuset.cpus.effective" {
				continue // not read
			}
			if err := breaks(); err != nil {
				t.Fatal(err)
			}
			got := complaints(t, n)
			if !slices.ContainsFunc(got, func(m string) bool { return names(m, n.Root, path) }) {
				t.Errorf("%s as %s: no message names it: %q", path, how, got)
			}
			if err := os.RemoveAll(at); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at, text, 0o644); err != nil {
				t.Fatal(err)
			}
			broken++
		}
	}
	if broken < 200 {
		t.Errorf("only %d files were broken", broken)
	}
}

// names says whether a message names the file, by any of the links that lead to it.
func names(message, root, path string) bool {
	for _, word := range strings.Fields(message) {
		word = strings.TrimSuffix(word, ":")
		if !strings.HasPrefix(word, "/") {
			continue
		}
		dir, err := filepath.EvalSymlinks(filepath.Join(root, filepath.Dir(word)))
		if err == nil && filepath.Join(dir, filepath.Base(word)) == filepath.Join(root, path) {
			return true
		}
	}
	return false
}

func complaints(t *testing.T, n Node) []string {
	t.Helper()
	type answer struct {
		inv inventory.Node
		err error
	}
	done := make(chan answer, 1)
	go func() {
		inv, err := n.Inspect(Query{VPP: "/usr/bin/vpp"})
		done <- answer{inv, err}
	}()
	select {
	case a := <-done:
		if a.err != nil {
			return []string{a.err.Error()}
		}
		if text := a.inv.Text(nil); strings.Contains(text, "\x1b") {
			t.Errorf("an escape sequence is printed")
		}
		return a.inv.Unread
	case <-time.After(time.Minute):
		t.Fatal("the reading hangs")
		return nil
	}
}

func regular(t *testing.T, root string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			rel, _ := filepath.Rel(root, path)
			list = append(list, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func asDirectory(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.Mkdir(path, 0o755)
}

func asFIFO(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return unix.Mkfifo(path, 0o644)
}

// TestHostileTree has links that lead nowhere or around, and names no kernel gives.
func TestHostileTree(t *testing.T) {
	n := recorded(t, "testdata/metal.tree")
	m := machine{t: t, root: n.Root}
	m.link("sys/bus/pci/devices/not-an-address", "../nowhere")
	m.link("sys/bus/pci/devices/0000:ff:00.0", "0000:ff:00.0")
	m.must(os.Remove(filepath.Join(n.Root, "sys/class/net/ens4f0")))
	m.link("sys/class/net/ens4f0", "ens4f0")
	m.file("proc/99999999999999999999/comm", "sshd\n")
	got := complaints(t, n)
	for _, want := range []string{"not-an-address", "0000:ff:00.0/vendor", "/sys/class/net/ens4f0/ifindex"} {
		if !slices.ContainsFunc(got, func(m string) bool { return strings.Contains(m, want) }) {
			t.Errorf("no message names %s: %q", want, got)
		}
	}
}

// TestLargeFile stops at a file that is larger than any the kernel makes.
func TestLargeFile(t *testing.T) {
	n := recorded(t, "testdata/metal.tree")
	if err := os.Truncate(filepath.Join(n.Root, "proc/meminfo"), 1<<40); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Inspect(Query{}); err == nil || !strings.Contains(err.Error(), "/proc/meminfo: it has more than") {
		t.Errorf("error %v", err)
	}
}

// FuzzTextFiles feeds the parsers of the kernel's tables.
func FuzzTextFiles(f *testing.F) {
	f.Add("  sl  local_address\n 0: 0100007F:0016 0200007F:C001 01 0:0 0:0 0 0 0 77 1\n", "5:cpuset:/a\n0::/b\n", "31 24 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0-3,8")
	f.Add("", "0::/../x", "1 2 3:4 /x /y rw shared:1 - cgroup cgroup rw,cpuset", "-")
	f.Fuzz(func(t *testing.T, tcp, groups, mounts, list string) {
		n := tree(t, map[string]string{"tcp": tcp})
		r := &reading{Node: n}
		connections, err := r.established("/tcp", map[string]bool{"77": true})
		for _, c := range connections {
			if err != nil || !c.local.IsValid() || !c.remote.IsValid() {
				t.Errorf("connection %v with %v", c, err)
			}
		}
		for _, controller := range []string{"cpuset", "hugetlb", ""} {
			h, found := findHierarchy(groups, mounts, controller)
			if found && len(h.dirs) == 0 {
				t.Error("a hierarchy without directories")
			}
		}
		if cpus, err := numbers(list); err == nil && !slices.IsSorted(cpus) && !strings.Contains(list, ",") {
			t.Errorf("%q: %v", list, cpus)
		}
	})
}
