package hostnet

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/millrace/millrace/dataplane"
)

const (
	forward4 = "net/ipv4/ip_forward"
	forward6 = "net/ipv6/conf/all/forwarding"
)

func (h *Host) read(name string) (string, error) {
	data, err := os.ReadFile(filepath.Join(h.root, "proc/sys", name))
	return strings.TrimSpace(string(data)), err
}

func (h *Host) write(name, value string) error {
	// No O_CREATE or O_TRUNC: proc has neither.
	f, err := os.OpenFile(filepath.Join(h.root, "proc/sys", name), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(value)
		err = errors.Join(err, f.Close())
	}
	switch {
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w (the container has to be privileged, or have /proc/sys of the node writable; or set %s=%s on the node)", err, dotted(name), value)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w (root, or CAP_NET_ADMIN in the node's own namespaces, is needed; or set %s=%s on the node)", err, dotted(name), value)
	}
	return err
}

// dotted is a name as sysctl(8) has it, in which slash and dot change places.
func dotted(name string) string {
	return strings.NewReplacer("/", ".", ".", "/").Replace(name)
}

// settings are those that are noted, with the values that the kernel has now.
func (h *Host) settings() (list []dataplane.HostSetting) {
	for name, n := range h.notes.Settings {
		value, err := h.read(name)
		if err != nil {
			continue // it went with its interface, or setting it anew tells why
		}
		if h.serves(name, n.Value, value) {
			value = n.Value
		}
		list = append(list, dataplane.HostSetting{Name: name, Value: value, Interface: n.Interface})
	}
	return list
}

// serves says whether a value does what another one is wanted for. Of all reverse path
// filters, only a strict one is in the way: packets pass by the stricter of the interface's
// and everybody's, but where one of both is loose, neither is strict.
func (h *Host) serves(name, want, now string) bool {
	if want != "2" || !isPathFilter(name) || now != "0" {
		return now == want
	}
	all, err := h.read("net/ipv4/conf/all/rp_filter")
	return err == nil && all != "1"
}

func isPathFilter(name string) bool {
	return strings.HasPrefix(name, "net/ipv4/conf/") && path.Base(name) == "rp_filter"
}

// set brings a setting to its value. What it was is on disk before.
func (h *Host) set(s dataplane.HostSetting) error {
	now, err := h.read(s.Name)
	if err != nil {
		return err
	}
	if n := h.notes.Settings[s.Name]; n == nil {
		beside, err := h.beside(s.Name)
		if err != nil {
			return err
		}
		h.notes.Settings[s.Name] = &note{Before: now, Value: s.Value, Interface: s.Interface, Beside: beside}
	} else {
		n.Value, n.Interface = s.Value, s.Interface
	}
	if err := h.notes.save(); err != nil {
		return err
	}
	if h.serves(s.Name, s.Value, now) {
		return nil
	}
	if s.Name == forward6 {
		if err := h.goOnListening(); err != nil {
			return err
		}
	}
	return h.write(s.Name, s.Value)
}

// beside reads the settings that the kernel, or goOnListening, changes with this one.
func (h *Host) beside(name string) (map[string]string, error) {
	patterns := map[string][]string{
		forward4: {"net/ipv4/conf/*/forwarding", "net/ipv4/conf/all/accept_redirects"},
		forward6: {"net/ipv6/conf/*/forwarding", "net/ipv6/conf/*/accept_ra"},
	}[name]
	found := map[string]string{}
	for _, pattern := range patterns {
		list, err := h.glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, other := range list {
			value, err := h.read(other)
			if errors.Is(err, fs.ErrNotExist) || other == name {
				continue // an interface that has just gone
			}
			if err != nil {
				return nil, err
			}
			found[other] = value
		}
	}
	if len(found) == 0 {
		return nil, nil
	}
	return found, nil
}

func (h *Host) glob(pattern string) ([]string, error) {
	base := filepath.Join(h.root, "proc/sys")
	list, err := filepath.Glob(filepath.Join(base, pattern))
	for i := range list {
		list[i] = strings.TrimPrefix(list[i], base+"/")
	}
	return list, err
}

// goOnListening keeps the kernel from dropping, with the first packet that it may forward, the
// default routes that routers advertised: with accept_ra 1 it hears them only while it
// forwards nothing (Documentation/networking/ip-sysctl.rst).
func (h *Host) goOnListening() error {
	list, err := h.glob("net/ipv6/conf/*/accept_ra")
	if err != nil {
		return err
	}
	for _, name := range list {
		switch path.Base(path.Dir(name)) {
		case "all", "default", "lo":
			continue
		}
		value, err := h.read(name)
		if err == nil && value == "1" {
			err = h.write(name, "2")
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("go on hearing routers: %w", err)
		}
	}
	return nil
}

// restore gives a setting back, with those beside it. One that somebody else has changed since
// stays.
func (h *Host) restore(name string) error {
	n := h.notes.Settings[name]
	if n == nil {
		return nil
	}
	now, err := h.read(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && now == n.Value && now != n.Before {
		if err := h.write(name, n.Before); err != nil {
			return fmt.Errorf("give %s back: %w", dotted(name), err)
		}
		if err := h.restoreBeside(n.Beside); err != nil {
			return err
		}
	}
	delete(h.notes.Settings, name)
	return h.notes.save()
}

func (h *Host) restoreBeside(were map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(were)) {
		now, err := h.read(name)
		others := path.Base(name) == "accept_ra" && (were[name] != "1" || now != "2") // goOnListening did not do that
		if err == nil && now != were[name] && !others {
			err = h.write(name, were[name])
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("give %s back: %w", dotted(name), err)
		}
	}
	return nil
}
