package change

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// linksOf lists the links of a PCI device by port. Those of a virtio NIC hang on the
// virtio device below it.
func (h Host) linksOf(pci string) ([]linkRef, error) {
	var list []linkRef
	for _, pattern := range []string{"net/*", "virtio*/net/*"} {
		dirs, err := filepath.Glob(h.path(pciDevices, pci, pattern))
		if err != nil {
			return nil, err
		}
		for _, dir := range dirs {
			rel, err := filepath.Rel(h.Root, dir)
			if err != nil {
				return nil, err
			}
			ref, err := h.linkRef(rel)
			if err != nil {
				return nil, err
			}
			list = append(list, ref)
		}
	}
	slices.SortFunc(list, func(a, b linkRef) int { return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Index, b.Index)) })
	return list, nil
}

// linkRef reads a link's directory in sysfs. The name of that may be old by now, the index
// stays.
func (h Host) linkRef(dir string) (linkRef, error) {
	index, err := h.number(dir, "ifindex")
	if err != nil {
		return linkRef{}, err
	}
	l, err := linkByIndex(index)
	if err != nil {
		return linkRef{}, err
	}
	ref := linkRef{Name: l.name(), Index: index}
	if h.there(dir, "dev_port") {
		if ref.Port, err = h.number(dir, "dev_port"); err != nil {
			return linkRef{}, err
		}
	}
	return ref, nil
}

// awaitLinks waits until a device has its links again and gives them their former names.
// Whoever names links (udev) may do so at the same time, so it looks until they stand.
func (h Host) awaitLinks(ctx context.Context, pci string, former []linkRef) error {
	var last error
	err := h.await(ctx, fmt.Sprintf("the %d links of %s come back", len(former), pci), func() (bool, error) {
		last = h.nameLinks(pci, former)
		return last == nil, nil
	})
	return errors.Join(err, last)
}

func (h Host) nameLinks(pci string, former []linkRef) error {
	now, err := h.linksOf(pci)
	if err != nil {
		return err // it may be going, or coming, at this moment
	}
	for i, f := range former {
		at := slices.IndexFunc(now, func(n linkRef) bool { return n.Port == f.Port && (f.Port != 0 || len(former) == 1) })
		if at < 0 && i < len(now) {
			at = i
		}
		if at < 0 {
			return fmt.Errorf("link %s is not there yet", f.Name)
		}
		if err := h.rename(now[at].Index, f.Name); err != nil {
			return err
		}
	}
	return nil
}

// rename gives a link another name. Older kernels want it down for that.
func (h Host) rename(index int, name string) error {
	l, err := linkByIndex(index)
	if err != nil || l.name() == name {
		return err
	}
	set := func() error { return h.setLink(index, 0, 0, attr{unix.IFLA_IFNAME, cstring(name)}) }
	err = set()
	if errors.Is(err, unix.EBUSY) && l.up() {
		if err := h.setDown(index); err != nil {
			return fmt.Errorf("set %s down to rename it: %w", l.name(), err)
		}
		err = errors.Join(set(), h.setUp(index))
	}
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("rename %s to %s: another link has that name", l.name(), name)
	}
	if err != nil {
		return fmt.Errorf("rename %s to %s: %w", l.name(), name, err)
	}
	return nil
}
