package change

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const testNIC = "0000:03:00.0"

// machine is a tree that stands for sys and proc, and the kernel behind it: pipes take
// what is written to bind, unbind and drivers_probe, and a goroutine does what the kernel
// would do.
type machine struct {
	root    string
	plug    func(driver string) error // makes the links of a device that a driver took
	unplug  func(driver string) error
	failing bool // no driver takes anything

	mu    sync.Mutex // held while the kernel works
	pipes map[string]*os.File
	err   error
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	none := func(string) error { return nil }
	m := &machine{root: t.TempDir(), plug: none, unplug: none, pipes: map[string]*os.File{}}
	device := filepath.Join(pciDevices, testNIC)
	m.file(t, "proc/sys/kernel/random/boot_id", "boot-1")
	m.file(t, "proc/sys/kernel/osrelease", "6.1.0")
	m.file(t, "proc/sys/vm/max_map_count", "65530")
	m.file(t, "sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "3")
	m.file(t, "sys/devices/system/node/node0/hugepages/hugepages-2048kB/surplus_hugepages", "0")
	m.file(t, filepath.Join(device, "driver_override"), "(null)")
	m.link(t, filepath.Join(device, "iommu_group"), "../../../../kernel/iommu_groups/7")
	for _, driver := range []string{"e1000e", "vfio-pci"} {
		m.pipe(t, filepath.Join(pciDrivers, driver, "bind"))
		m.pipe(t, filepath.Join(pciDrivers, driver, "unbind"))
		m.link(t, filepath.Join(pciDrivers, driver, "module"), "../../../../module/"+moduleName(driver))
	}
	m.pipe(t, "sys/bus/pci/drivers_probe")
	m.link(t, filepath.Join(device, "driver"), "../../drivers/e1000e")
	m.run(t)
	return m
}

func (m *machine) path(rel string) string { return filepath.Join(m.root, rel) }

func (m *machine) file(t *testing.T, rel, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(m.path(rel)), 0o755), os.WriteFile(m.path(rel), []byte(text+"\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) link(t *testing.T, rel, to string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(m.path(rel)), 0o755), os.Symlink(to, m.path(rel))); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) pipe(t *testing.T, rel string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(m.path(rel)), 0o755), unix.Mkfifo(m.path(rel), 0o600)); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(m.path(rel), os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	m.pipes[rel] = f
	t.Cleanup(func() { f.Close() })
}

// run starts the kernel, which ends with the test.
func (m *machine) run(t *testing.T) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				m.settle()
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-done
		if m.err != nil {
			t.Errorf("the machine: %v", m.err)
		}
	})
}

func (m *machine) fail(failing bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failing = failing
}

// settle does all that was written so far. A process that died after it wrote died after
// the real kernel would have done that.
func (m *machine) settle() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, rel := range slices.Sorted(maps.Keys(m.pipes)) {
		var buf [4096]byte
		n, err := unix.Read(int(m.pipes[rel].Fd()), buf[:])
		if err != nil {
			continue // nothing in it
		}
		for _, pci := range strings.Fields(string(buf[:n])) {
			m.err = errors.Join(m.err, m.act(rel, pci))
		}
	}
	override := m.path(filepath.Join(pciDevices, testNIC, "driver_override"))
	if text, err := os.ReadFile(override); err == nil && string(text) == "\n" {
		m.err = errors.Join(m.err, os.WriteFile(override, []byte("(null)\n"), 0o644))
	}
}

func (m *machine) act(rel, pci string) error {
	dir := filepath.Join(pciDevices, pci)
	to, err := os.Readlink(m.path(filepath.Join(dir, "driver")))
	bound := filepath.Base(to)
	if err != nil {
		bound = ""
	}
	text, err := os.ReadFile(m.path(filepath.Join(dir, "driver_override")))
	if err != nil {
		return err
	}
	only := strings.TrimSpace(string(text))
	driver := filepath.Base(filepath.Dir(rel))
	switch filepath.Base(rel) {
	case "unbind":
		if bound != driver {
			return fmt.Errorf("unbind %s from %s: it is bound to %q", pci, driver, bound)
		}
		return errors.Join(os.Remove(m.path(filepath.Join(dir, "driver"))), m.unplug(driver))
	case "drivers_probe":
		driver = "e1000e"
		if only != "(null)" && only != "" {
			driver = only
		}
	}
	if bound != "" || m.failing || only != "(null)" && only != "" && only != driver {
		return nil // the kernel says ENODEV or EBUSY, a pipe cannot
	}
	return errors.Join(m.plug(driver), os.Symlink("../../drivers/"+driver, m.path(filepath.Join(dir, "driver"))))
}

// snapshot is the whole tree; indexes of links are the kernel's choice.
func (m *machine) snapshot(t *testing.T) map[string]string {
	t.Helper()
	m.settle()
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string]string{}
	err := filepath.WalkDir(m.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(m.root, path)
		if err != nil {
			return err
		}
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			all[rel], err = os.Readlink(path)
		case d.Type().IsRegular() && d.Name() != "ifindex":
			var text []byte
			text, err = os.ReadFile(path)
			all[rel] = string(bytes.TrimSpace(text))
		default:
			all[rel] = d.Type().String()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
