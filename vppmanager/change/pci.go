package change

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/vppmanager/startup"
)

const (
	pciDevices = "sys/bus/pci/devices"
	pciDrivers = "sys/bus/pci/drivers"
)

// errNoDevice is a device that is not in the machine, or was taken out of it.
var errNoDevice = errors.New("there is no PCI device")

// driver is the one a device is bound to; "" = none.
func (h Host) driver(pci string) (string, error) {
	if !h.there(pciDevices, pci) {
		return "", fmt.Errorf("%w %s", errNoDevice, pci)
	}
	return h.target(pciDevices, pci, "driver")
}

// override is a device's driver_override; "" = none.
func (h Host) override(pci string) (string, error) {
	value, err := h.read(pciDevices, pci, "driver_override")
	if value == "(null)" {
		value = ""
	}
	return value, err
}

func lookOverride(h Host, c startup.Change) (state, error) {
	value, err := h.override(c.PCI)
	return state{Value: value}, err
}

func doOverride(_ context.Context, h Host, s *step) (*state, error) {
	return nil, h.write(s.Change.Driver, pciDevices, s.Change.PCI, "driver_override")
}

// undoOverride leaves an override that is not ours.
func undoOverride(_ context.Context, h Host, _ *Journal, s *step) error {
	now, err := h.override(s.Change.PCI)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the device was taken out
	}
	if err != nil || now == s.Before.Value {
		return err
	}
	if now != s.Change.Driver {
		h.tell("the driver_override of %s stays %s: somebody else has set that since", s.Change.PCI, now)
		return nil
	}
	return h.write(s.Before.Value, pciDevices, s.Change.PCI, "driver_override")
}

func lookBound(h Host, c startup.Change) (state, error) {
	driver, err := h.driver(c.PCI)
	if err != nil || driver == "" || c.Kind == startup.Probe {
		return state{Driver: driver}, err
	}
	module, err := h.target(pciDrivers, driver, "module")
	if err != nil {
		return state{}, err
	}
	links, err := h.linksOf(c.PCI)
	return state{Driver: driver, Module: module, Links: links}, err
}

func doUnbind(ctx context.Context, h Host, s *step) (*state, error) {
	if s.Before.Driver == "" {
		return nil, nil
	}
	return nil, h.unbind(ctx, s.Change.PCI, s.Before.Driver)
}

// unbind takes a device from a driver. The kernel waits, without end, for the process that
// has a device of vfio open; so that one is waited for, and named, before.
func (h Host) unbind(ctx context.Context, pci, driver string) error {
	var user string
	err := h.await(ctx, "wait for the users of "+pci, func() (free bool, err error) {
		user, err = h.user(pci)
		return user == "", err
	})
	if err != nil && user != "" {
		return fmt.Errorf("%w: %s has it open: end that process", err, user)
	}
	if err != nil {
		return err
	}
	if err := h.write(pci, pciDrivers, driver, "unbind"); err != nil {
		return err
	}
	return h.await(ctx, fmt.Sprintf("%s lets go of %s", driver, pci), func() (bool, error) {
		now, err := h.driver(pci)
		return now != driver, err
	})
}

func doProbe(ctx context.Context, h Host, s *step) (*state, error) {
	c := s.Change
	if s.Before.Driver == c.Driver {
		return nil, nil
	}
	if s.Before.Driver != "" {
		return nil, fmt.Errorf("%s is bound to %s: it has to be unbound first", c.PCI, s.Before.Driver)
	}
	if !h.there(pciDrivers, c.Driver) {
		return nil, fmt.Errorf("the kernel has no PCI driver %s at this moment: its module is not loaded", c.Driver)
	}
	if err := h.write(c.PCI, "sys/bus/pci/drivers_probe"); err != nil {
		return nil, err
	}
	var now string
	err := h.await(ctx, c.Driver+" takes "+c.PCI, func() (_ bool, err error) {
		now, err = h.driver(c.PCI)
		return now == c.Driver, err
	})
	if err != nil && now != "" {
		return nil, fmt.Errorf("%w: %s took it", err, now)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the kernel's log (dmesg) says why the driver refused it", err)
	}
	return nil, nil
}

func undoProbe(ctx context.Context, h Host, _ *Journal, s *step) error {
	now, err := h.driver(s.Change.PCI)
	if errors.Is(err, errNoDevice) {
		return nil
	}
	if err != nil || now != s.Change.Driver || s.Before.Driver == s.Change.Driver {
		return err
	}
	return h.unbind(ctx, s.Change.PCI, now)
}

// undoUnbind binds the device to its former driver and waits for its links. It sees to the
// override before, which may have been made earlier than the unbinding.
func undoUnbind(ctx context.Context, h Host, j *Journal, s *step) error {
	pci, former := s.Change.PCI, s.Before.Driver
	if former == "" {
		return nil
	}
	now, err := h.driver(pci)
	if errors.Is(err, errNoDevice) {
		h.tell("%s was taken out of the machine", pci)
		return nil
	}
	if err != nil {
		return err
	}
	if now != "" && now != former {
		return fmt.Errorf("%s is bound to %s: unbind it from that first", pci, now)
	}
	if now == "" {
		for _, other := range j.steps {
			if other.Change.Kind == startup.OverrideDriver && other.Change.PCI == pci {
				if err := undoOverride(ctx, h, j, other); err != nil {
					return err
				}
			}
		}
		if err := h.bind(ctx, pci, former, s.Before.Module); err != nil {
			return err
		}
	}
	return h.awaitLinks(ctx, pci, s.Before.Links)
}

func (h Host) bind(ctx context.Context, pci, driver, module string) error {
	if !h.there(pciDrivers, driver) && module != "" {
		if err := h.load(ctx, module); err != nil {
			return fmt.Errorf("load %s, in which the driver %s is: %w", module, driver, err)
		}
	}
	err := h.write(pci, pciDrivers, driver, "bind")
	if now, look := h.driver(pci); look == nil && now == driver {
		return nil // the kernel was faster
	}
	if err != nil {
		return fmt.Errorf("bind %s to %s: %w: the kernel's log (dmesg) says why", pci, driver, err)
	}
	return h.await(ctx, driver+" takes "+pci, func() (bool, error) {
		now, err := h.driver(pci)
		return now == driver, err
	})
}

// user names the process that has a device of vfio or uio open; "" = none.
func (h Host) user(pci string) (string, error) {
	nodes, err := h.nodes(pci)
	if err != nil || len(nodes) == 0 {
		return "", err
	}
	fds, err := filepath.Glob(h.path("proc/[0-9]*/fd/*"))
	if err != nil {
		return "", err
	}
	for _, fd := range fds {
		// It may have been closed since.
		if to, err := os.Readlink(fd); err == nil && nodes[to] {
			pid := filepath.Base(filepath.Dir(filepath.Dir(fd)))
			name, err := h.read("proc", pid, "comm")
			if err != nil {
				continue
			}
			return fmt.Sprintf("%s (pid %s)", name, pid), nil
		}
	}
	return "", nil
}

// nodes are the files in /dev through which processes have a device.
func (h Host) nodes(pci string) (map[string]bool, error) {
	driver, err := h.driver(pci)
	if err != nil {
		return nil, err
	}
	nodes := map[string]bool{}
	if strings.HasPrefix(driver, "vfio") {
		group, err := h.target(pciDevices, pci, "iommu_group")
		if err != nil {
			return nil, err
		}
		nodes["/dev/vfio/"+group], nodes["/dev/vfio/noiommu-"+group] = true, true
	}
	for dir, where := range map[string]string{"vfio-dev": "/dev/vfio/devices/", "uio": "/dev/"} {
		entries, err := os.ReadDir(h.path(pciDevices, pci, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			nodes[where+e.Name()] = true
		}
	}
	return nodes, nil
}
