package change

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/vppmanager/startup"
)

const sampleHead = `{"journal":"millrace-manager","version":1,"boot":"b"}` + "\n"

const sample = sampleHead +
	`{"step":1,"mark":"intend","change":{"kind":"load-module","module":"vfio-pci","why":"w"},"before":{"modules":["vfio"]}}` + "\n" +
	`{"step":1,"mark":"done","after":{"modules":["vfio_pci"]}}` + "\n" +
	`{"step":2,"mark":"intend","change":{"kind":"add-hugepages","pageSize":"2Mi","pages":4,"why":"w"},"before":{"pages":3}}` + "\n" +
	`{"step":2,"mark":"undo","after":{"pages":3}}` + "\n" +
	`{"step":2,"mark":"undone"}` + "\n"

func TestParseJournal(t *testing.T) {
	c, err := parseJournal([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	want := []*step{
		{ID: 1, Change: startup.Change{Kind: startup.LoadModule, Module: "vfio-pci", Why: "w"}, Before: state{Modules: []string{"vfio"}},
			After: &state{Modules: []string{"vfio_pci"}}, Done: true},
		{ID: 2, Change: startup.Change{Kind: startup.AddHugePages, PageSize: 2 << 20, Pages: 4, Why: "w"}, Before: state{Pages: 3},
			Target: &state{Pages: 3}, Undone: true},
	}
	if diff := cmp.Diff(want, c.steps); diff != "" {
		t.Error(diff)
	}
	if c.head.Boot != "b" || c.whole != len(sample) {
		t.Errorf("head %+v, %d of %d bytes whole", c.head, c.whole, len(sample))
	}
}

// TestParseJournalTorn cuts the journal at every byte: what was whole before the cut is
// read, and nothing else.
func TestParseJournalTorn(t *testing.T) {
	for n := range len(sample) {
		for _, tail := range []string{"", "\x00\x00\x00", "\x00\x00\n"} {
			c, err := parseJournal([]byte(sample[:n] + tail))
			if err != nil {
				t.Fatalf("cut at %d, then %q: %v", n, tail, err)
			}
			if want := strings.LastIndex(sample[:n], "\n") + 1; c.whole != want {
				t.Fatalf("cut at %d, then %q: %d bytes whole, want %d", n, tail, c.whole, want)
			}
		}
	}
}

func TestParseJournalRefuses(t *testing.T) {
	for want, text := range map[string]string{
		"no journal of the millrace manager": `{"journal":"other","version":1,"boot":"b"}` + "\n" + sample,
		"another release":                    `{"journal":"millrace-manager","version":2,"boot":"b"}` + "\n",
		"boot id is missing":                 `{"journal":"millrace-manager","version":1}` + "\n",
		"line 2: damaged":                    sampleHead + "x\n" + `{"step":1,"mark":"done"}` + "\n",
		"step 7: there is none":              sampleHead + `{"step":7,"mark":"done"}` + "\n",
		"step 2: want step 1":                sampleHead + `{"step":2,"mark":"intend","change":{"kind":"unbind","pci":"0000:03:00.0"},"before":{}}` + "\n",
		`mark "undonne"`:                     sample + `{"step":1,"mark":"undonne"}` + "\n",
		"kind of change \"x\"":               sampleHead + `{"step":1,"mark":"intend","change":{"kind":"x"},"before":{}}` + "\n",
		"PCI address":                        sampleHead + `{"step":1,"mark":"intend","change":{"kind":"unbind","pci":"../x"},"before":{}}` + "\n",
		"unknown field":                      sample + `{"step":1,"mark":"done","extra":1}` + "\n",
	} {
		if _, err := parseJournal([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	_, err := parseJournal([]byte(`{"journal":"millrace-manager","version":2,"boot":"b"}` + "\n"))
	if !errors.Is(err, errVersion) {
		t.Errorf("error %v, want errVersion", err)
	}
}

// FuzzParseJournal: what is read as whole reads the same again, alone.
func FuzzParseJournal(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte(sample[:len(sample)-9]))
	f.Add([]byte(sampleHead + `{"step":1,"mark":"intend","change":{"kind":"set-sysctl","path":"/sys/module/vfio/parameters/x","value":"1"},"before":{}}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseJournal(data)
		if err != nil {
			return
		}
		if c.whole > len(data) || c.whole > 0 && data[c.whole-1] != '\n' {
			t.Fatalf("%d bytes whole of %d", c.whole, len(data))
		}
		again, err := parseJournal(data[:c.whole])
		if err != nil || again.whole != c.whole {
			t.Fatalf("alone: %d bytes whole, want %d: %v", again.whole, c.whole, err)
		}
		if diff := cmp.Diff(c.steps, again.steps); diff != "" {
			t.Fatal(diff)
		}
		for _, s := range c.steps {
			if err := check(s.Change); err != nil {
				t.Fatalf("step %d was let in: %v", s.ID, err)
			}
			if kindOf(s.Change.Kind).undo == nil {
				t.Fatalf("step %d cannot be undone", s.ID)
			}
		}
	})
}

func TestCheck(t *testing.T) {
	good := []startup.Change{
		{Kind: startup.LoadModule, Module: "vfio-pci"},
		{Kind: startup.AddHugePages, PageSize: 1 << 30, Pages: 1, NUMA: 1},
		{Kind: startup.SetSysctl, Path: "net/ipv4/ip_forward", Value: "1"},
		{Kind: startup.SetSysctl, Path: "net/ipv4/conf/eth1.100/rp_filter", Value: "0"},
		{Kind: startup.SetSysctl, Path: "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", Value: "Y"},
		{Kind: startup.OverrideDriver, PCI: "0000:03:00.0", Driver: "vfio-pci"},
		{Kind: startup.Unbind, PCI: "10000:e1:00.7"},
		{Kind: startup.Probe, PCI: "0000:03:00.0", Driver: "uio_pci_generic"},
	}
	for _, c := range good {
		if err := check(c); err != nil {
			t.Errorf("%s: %v", c, err)
		}
	}
	bad := []startup.Change{
		{}, {Kind: startup.LoadModule}, {Kind: startup.LoadModule, Module: "../x"}, {Kind: startup.LoadModule, Module: "a b"},
		{Kind: startup.AddHugePages, PageSize: 2 << 20}, {Kind: startup.AddHugePages, Pages: 1}, {Kind: startup.AddHugePages, Pages: 1, PageSize: 2 << 20, NUMA: -1},
		{Kind: startup.SetSysctl, Value: "1"}, {Kind: startup.SetSysctl, Path: "../x", Value: "1"}, {Kind: startup.SetSysctl, Path: "a/../b", Value: "1"},
		{Kind: startup.SetSysctl, Path: "/etc/passwd", Value: "1"}, {Kind: startup.SetSysctl, Path: "/sys/module/../parameters/x", Value: "1"},
		{Kind: startup.SetSysctl, Path: "net/x"}, {Kind: startup.SetSysctl, Path: "net/x", Value: "1\n2"},
		{Kind: startup.OverrideDriver, PCI: "0000:03:00.0"}, {Kind: startup.OverrideDriver, PCI: "03:00.0", Driver: "x"},
		{Kind: startup.Unbind, PCI: "0000:03:00.G"}, {Kind: startup.Unbind, PCI: "0000:03:00.0\n"}, {Kind: startup.Probe, PCI: "0000:03:00.0", Driver: "a/b"},
	}
	for _, c := range bad {
		if err := check(c); err == nil {
			t.Errorf("%s was let through", c)
		}
	}
}

func TestOpenRefusesForeignFiles(t *testing.T) {
	other := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.WriteFile(other, []byte(sample), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, place := range map[string]func(path string) error{
		"others could have written it": func(path string) error {
			return errors.Join(os.WriteFile(path, []byte(sample), 0o600), os.Chmod(path, 0o622))
		},
		"too many levels": func(path string) error { return os.Symlink(other, path) },
		"is a directory":  func(path string) error { return os.Mkdir(path, 0o700) },
		"another release": func(path string) error {
			return os.WriteFile(path, bytes.Replace([]byte(sample), []byte(`"version":1`), []byte(`"version":9`), 1), 0o600)
		},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, JournalFile)
		if err := place(path); err != nil {
			t.Fatal(err)
		}
		before, _ := os.ReadFile(path)
		j, err := Open(dir)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("error %v, want one with %q and the path", err, want)
		}
		if err == nil {
			j.Close()
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
			t.Errorf("%s: the file was changed", want)
		}
	}
	if os.Geteuid() != 0 {
		return
	}
	dir := t.TempDir()
	path := filepath.Join(dir, JournalFile)
	if err := errors.Join(os.WriteFile(path, []byte(sample), 0o600), os.Chown(path, 65534, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
		t.Errorf("error %v", err)
	}
}

func TestOpenLocks(t *testing.T) {
	dir := t.TempDir()
	first, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "a manager that runs holds it") {
		t.Errorf("error %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if entries := besidesLock(t, dir); len(entries) != 0 {
		t.Errorf("opening left %v", entries)
	}
}

// besidesLock is what is in a state directory, the file of the lock left out.
func besidesLock(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(entries, func(e os.DirEntry) bool { return e.Name() == lockFile })
}

// TestOpenBesideAgent: manager and agent have one state directory, and the agent locks it.
func TestOpenBesideAgent(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// TestJournalGoesOnAfterATear: what is appended after a torn line must not become part
// of it.
func TestJournalGoesOnAfterATear(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, JournalFile), []byte(sample+`{"step":1,"ma`), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.undone(j.steps[0]), j.Close()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, JournalFile))
	if want := sample + `{"step":1,"mark":"undone"}` + "\n"; err != nil || string(data) != want {
		t.Errorf("%v\n%s", err, cmp.Diff(want, string(data)))
	}
}

func TestJournalIsBounded(t *testing.T) {
	j, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := j.begin("b", 1); err != nil {
		t.Fatal(err)
	}
	size := j.size
	big := state{Value: strings.Repeat("x", lineMax)}
	if _, err := j.intend(startup.Change{Kind: startup.Unbind, PCI: "0000:03:00.0"}, big); err == nil || !strings.Contains(err.Error(), "more than 32: remove routes") {
		t.Errorf("error %v", err)
	}
	info, err := j.file.Stat()
	if err != nil || info.Size() != size || info.Mode().Perm() != 0o600 || len(j.steps) != 0 {
		t.Errorf("%v, %v, %d steps", info, err, len(j.steps))
	}
	data, err := os.ReadFile(j.path)
	if err != nil || !json.Valid(data) {
		t.Errorf("%q, %v", data, err)
	}
}

// TestLeft looks into a journal that another holds, and changes nothing of it, not even a torn
// line.
func TestLeft(t *testing.T) {
	m := newMachine(t)
	h := Host{Root: m.root}
	boot, err := h.bootID()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "state")
	if left, err := h.Left(dir); err != nil || len(left) > 0 {
		t.Errorf("without a directory: %v, %v", left, err)
	}
	held, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	path := filepath.Join(dir, JournalFile)
	step := `{"step":1,"mark":"intend","change":{"kind":"unbind","pci":"0000:03:00.0","why":"w"},"before":{}}` + "\n"
	head := func(boot string) string {
		return `{"journal":"millrace-manager","version":1,"boot":"` + boot + "\"}\n"
	}
	for _, tt := range []struct {
		name, text string
		left       int
		err        string
	}{
		{"nothing yet", "", 0, ""},
		{"this boot's", head(boot) + step, 1, ""},
		{"undone", head(boot) + step + `{"step":1,"mark":"undone"}` + "\n", 0, ""},
		{"torn", head(boot) + step + `{"step":1,"mark":"und`, 1, ""},
		{"another boot's", head("earlier") + step, 0, ""},
		{"another's", "{}\n", 0, "this is no journal of the millrace manager"},
	} {
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		left, err := h.Left(dir)
		if len(left) != tt.left || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, %v", tt.name, left, err)
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != tt.text {
			t.Errorf("%s: the journal is %q (%v)", tt.name, data, err)
		}
	}
}
