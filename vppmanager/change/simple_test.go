package change

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/vppmanager/startup"
)

// bindChanges are what a plan for vfio-pci has of sysfs.
func bindChanges() []startup.Change {
	return []startup.Change{
		{Kind: startup.SetSysctl, Path: "vm/max_map_count", Value: "262144"},
		{Kind: startup.AddHugePages, PageSize: 2 << 20, Pages: 4},
		{Kind: startup.OverrideDriver, PCI: testNIC, Driver: "vfio-pci"},
		{Kind: startup.Unbind, PCI: testNIC},
		{Kind: startup.Probe, PCI: testNIC, Driver: "vfio-pci"},
	}
}

func (m *machine) host() Host { return Host{Root: m.root, Patience: time.Minute} }

func open(t *testing.T, dir string) *Journal {
	t.Helper()
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func TestApplyAndUndo(t *testing.T) {
	m, dir := newMachine(t), t.TempDir()
	before := m.snapshot(t)
	j := open(t, dir)
	if err := m.host().Apply(t.Context(), j, bindChanges()); err != nil {
		t.Fatal(err)
	}
	during := m.snapshot(t)
	for path, want := range map[string]string{
		pciDevices + "/" + testNIC + "/driver":                                  "../../drivers/vfio-pci",
		pciDevices + "/" + testNIC + "/driver_override":                         "vfio-pci",
		"sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages": "7",
		"proc/sys/vm/max_map_count":                                             "262144",
	} {
		if during[path] != want {
			t.Errorf("%s is %q, want %q", path, during[path], want)
		}
	}
	if err := m.host().Apply(t.Context(), j, bindChanges()); err == nil || !strings.Contains(err.Error(), "holds 5 changes that are not undone") {
		t.Errorf("a second time: %v", err)
	}
	if err := errors.Join(m.host().Undo(t.Context(), j), m.host().Undo(t.Context(), j)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, m.snapshot(t)); diff != "" {
		t.Error(diff)
	}
	if entries := besidesLock(t, dir); len(entries) != 0 {
		t.Errorf("left %v", entries)
	}
}

// TestApplyFails: no driver takes the device; what was done before is undone.
func TestApplyFails(t *testing.T) {
	m := newMachine(t)
	before := m.snapshot(t)
	h := m.host()
	h.Patience = 100 * time.Millisecond
	j := open(t, t.TempDir())
	m.fail(true)
	err := h.Apply(t.Context(), j, bindChanges())
	if err == nil || !strings.Contains(err.Error(), "probe 0000:03:00.0 to vfio-pci: vfio-pci takes 0000:03:00.0: not so after 100ms") {
		t.Errorf("error %v", err)
	}
	m.fail(false)
	if err := m.host().Undo(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, m.snapshot(t)); diff != "" {
		t.Error(diff)
	}
}

func TestApplyEndsWithItsContext(t *testing.T) {
	m := newMachine(t)
	before := m.snapshot(t)
	ctx, cancel := context.WithCancel(t.Context())
	h := m.host()
	h.hook = func(point string) {
		if strings.HasSuffix(point, "e1000e/unbind") {
			m.settle() // the real kernel has done it when the write returns
			cancel()
		}
	}
	err := h.Apply(ctx, open(t, t.TempDir()), bindChanges())
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "everything was undone") {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff(before, m.snapshot(t)); diff != "" {
		t.Error(diff)
	}
}

// TestUndoGoesOn: a step that cannot be undone hinders none of the others, and a later
// undo does what is left.
func TestUndoGoesOn(t *testing.T) {
	m, dir := newMachine(t), t.TempDir()
	before := m.snapshot(t)
	j := open(t, dir)
	if err := m.host().Apply(t.Context(), j, bindChanges()); err != nil {
		t.Fatal(err)
	}
	// A process has the device open.
	m.file(t, "proc/4711/comm", "dpdk-testpmd")
	m.link(t, "proc/4711/fd/5", "/dev/vfio/7")
	h := m.host()
	h.Patience = 10 * time.Millisecond
	err := h.Undo(t.Context(), j)
	if err == nil || !strings.Contains(err.Error(), "dpdk-testpmd (pid 4711) has it open") {
		t.Errorf("error %v", err)
	}
	left := m.snapshot(t)
	if left["proc/sys/vm/max_map_count"] != "65530" || left["sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages"] != "3" {
		t.Error("the undoing stopped at the step that failed")
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(m.path("proc/4711")); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir)
	if n := len(j.Pending()); n != 2 {
		t.Errorf("%d changes are pending, want probe and unbind: %v", n, j.Pending())
	}
	if err := m.host().Undo(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, m.snapshot(t)); diff != "" {
		t.Error(diff)
	}
}

func TestUndoAfterReboot(t *testing.T) {
	m, dir := newMachine(t), t.TempDir()
	j := open(t, dir)
	if err := m.host().Apply(t.Context(), j, bindChanges()); err != nil {
		t.Fatal(err)
	}
	m.file(t, "proc/sys/kernel/random/boot_id", "boot-2")
	before := m.snapshot(t)
	var said []string
	h := m.host()
	h.Tell = func(line string) { said = append(said, line) }
	if err := h.Undo(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, m.snapshot(t)); diff != "" {
		t.Errorf("it undid what the reboot had: %s", diff)
	}
	if entries := besidesLock(t, dir); len(entries) != 0 || len(said) != 1 || !strings.Contains(said[0], "booted since") {
		t.Errorf("left %v, said %q", entries, said)
	}
}

// TestOthersChangesStay: who sets something of ours anew meanwhile, keeps it.
func TestOthersChangesStay(t *testing.T) {
	m := newMachine(t)
	j := open(t, t.TempDir())
	if err := m.host().Apply(t.Context(), j, bindChanges()[:3]); err != nil {
		t.Fatal(err)
	}
	m.file(t, "proc/sys/vm/max_map_count", "300000")
	m.file(t, "sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "17")
	m.file(t, filepath.Join(pciDevices, testNIC, "driver_override"), "igb_uio")
	if err := m.host().Undo(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	got := m.snapshot(t)
	for path, want := range map[string]string{
		"proc/sys/vm/max_map_count": "300000",
		"sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages": "13", // only our four went
		pciDevices + "/" + testNIC + "/driver_override":                         "igb_uio",
	} {
		if got[path] != want {
			t.Errorf("%s is %q, want %q", path, got[path], want)
		}
	}
}

func TestHugePagesThatTheKernelDoesNotHave(t *testing.T) {
	m := newMachine(t)
	before := m.snapshot(t)
	h := m.host()
	const count = "sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages"
	h.hook = func(point string) {
		if n, err := h.number(count); strings.HasSuffix(point, count) && err == nil && n > 5 {
			m.file(t, count, "5")
		}
	}
	err := h.Apply(t.Context(), open(t, t.TempDir()), []startup.Change{{Kind: startup.AddHugePages, PageSize: 2 << 20, Pages: 4}})
	if err == nil || !strings.Contains(err.Error(), "the kernel gave 2 of 4 pages") || !strings.Contains(err.Error(), "everything was undone") {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff(before, m.snapshot(t)); diff != "" {
		t.Error(diff)
	}
	err = m.host().Apply(t.Context(), open(t, t.TempDir()), []startup.Change{{Kind: startup.AddHugePages, PageSize: 1 << 30, Pages: 4}})
	if err == nil || !strings.Contains(err.Error(), "there are no huge pages of 1Gi on NUMA node 0") {
		t.Errorf("error %v", err)
	}
}

// modules gives the machine a library of modules and a kernel that loads and unloads
// them.
func (m *machine) modules(t *testing.T) moduleCalls {
	m.file(t, "lib/modules/6.1.0/modules.dep", `kernel/vfio/vfio.ko.xz:
kernel/vfio/vfio_iommu_type1.ko.xz: kernel/vfio/vfio.ko.xz
kernel/vfio/pci/vfio-pci-core.ko: kernel/vfio/vfio_virqfd.ko kernel/vfio/vfio.ko.xz kernel/virt/irqbypass.ko
kernel/vfio/vfio_virqfd.ko:
kernel/virt/irqbypass.ko:
kernel/vfio/pci/vfio-pci.ko: kernel/vfio/pci/vfio-pci-core.ko kernel/vfio/vfio_virqfd.ko kernel/vfio/vfio.ko.xz kernel/virt/irqbypass.ko`)
	m.file(t, "lib/modules/6.1.0/modules.softdep", "# comment\nsoftdep vfio post: vfio_iommu_type1 vfio_iommu_spapr_tce")
	m.file(t, "proc/modules", "irqbypass 16384 0 - Live 0x0")
	m.file(t, "sys/module/irqbypass/initstate", "live")
	set := func(uses map[string]int) {
		var lines []string
		for name, n := range uses {
			lines = append(lines, fmt.Sprintf("%s 16384 %d - Live 0x0", name, n))
		}
		slices.Sort(lines)
		m.file(t, "proc/modules", strings.Join(lines, "\n"))
	}
	return moduleCalls{
		insert: func(file string) error {
			name := fileModule(file)
			uses, err := m.host().loadedModules()
			if err != nil {
				return err
			}
			l, err := m.host().library()
			if err != nil {
				return err
			}
			for _, need := range l.needs[name] {
				if _, ok := uses[need]; !ok {
					return fmt.Errorf("%s: %s is not there: %w", name, need, unix.ENOENT)
				}
				uses[need]++
			}
			uses[name] = 0
			set(uses)
			m.file(t, "sys/module/"+name+"/initstate", "live")
			return nil
		},
		remove: func(name string) error {
			uses, err := m.host().loadedModules()
			if err != nil {
				return err
			}
			if uses[name] > 0 {
				return unix.EWOULDBLOCK
			}
			l, err := m.host().library()
			if err != nil {
				return err
			}
			for _, need := range l.needs[name] {
				uses[need]--
			}
			delete(uses, name)
			set(uses)
			return os.RemoveAll(m.path("sys/module/" + name))
		},
	}
}

func TestModules(t *testing.T) {
	m := newMachine(t)
	h := m.host()
	h.modules = m.modules(t)
	before := m.snapshot(t)
	load := []startup.Change{{Kind: startup.LoadModule, Module: "vfio-pci"}, {Kind: startup.LoadModule, Module: "vfio-pci"}}
	j := open(t, t.TempDir())
	if err := h.Apply(t.Context(), j, load); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"vfio_pci", "vfio_pci_core", "vfio_iommu_type1"} {
		if !h.present(want) {
			t.Errorf("%s is not loaded", want)
		}
	}
	if err := h.Undo(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, m.snapshot(t)); diff != "" {
		t.Error(diff)
	}
	err := h.Apply(t.Context(), j, []startup.Change{{Kind: startup.LoadModule, Module: "igb_uio"}})
	if err == nil || !strings.Contains(err.Error(), "this kernel has no module igb_uio") {
		t.Errorf("error %v", err)
	}
}

func TestModulesThatOthersUseStay(t *testing.T) {
	m := newMachine(t)
	h := m.host()
	h.modules = m.modules(t)
	j := open(t, t.TempDir())
	if err := h.Apply(t.Context(), j, []startup.Change{{Kind: startup.LoadModule, Module: "vfio-pci"}}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(m.path("proc/modules"))
	if err != nil {
		t.Fatal(err)
	}
	// Somebody has a container of vfio open.
	m.file(t, "proc/modules", strings.Replace(string(text), "vfio_iommu_type1 16384 0", "vfio_iommu_type1 16384 1", 1))
	var said []string
	h.Tell = func(line string) { said = append(said, line) }
	if err := h.Undo(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	if h.present("vfio_pci") || !h.present("vfio_iommu_type1") || !h.present("vfio") {
		t.Errorf("want vfio and vfio_iommu_type1 to stay, vfio_pci to go:\n%s", text)
	}
	if want := "modules that others use by now stay: vfio vfio_iommu_type1"; !slices.Contains(said, want) {
		t.Errorf("said %q, want %q", said, want)
	}
}
