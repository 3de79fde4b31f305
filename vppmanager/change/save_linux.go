package change

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/vppmanager/startup"
)

func lookSave(h Host, c startup.Change) (state, error) {
	l, err := linkByName(c.Link)
	if err != nil {
		return state{}, err
	}
	s, err := h.settings(l)
	if err != nil {
		return state{}, fmt.Errorf("read the settings of %s: %w", c.Link, err)
	}
	return state{Saved: &s}, nil
}

// settings reads all that hangs on a link.
func (h Host) settings(l link) (settings, error) {
	now, err := sinceBoot()
	if err != nil {
		return settings{}, err
	}
	s := settings{Name: l.name(), Index: l.index(), Taken: now, Link: l.encode()}
	if s.PCI, s.Port, err = h.deviceOf(l); err != nil {
		return settings{}, err
	}
	for _, other := range []struct {
		kind uint16
		name *string
	}{{unix.IFLA_MASTER, &s.Master}, {unix.IFLA_LINK, &s.Parent}} {
		// A parent in another namespace has an index of that one.
		if index := int(l.number(other.kind)); index != 0 && index != s.Index && l.find(unix.IFLA_LINK_NETNSID) == nil {
			o, err := linkByIndex(index)
			if err != nil {
				return settings{}, err
			}
			*other.name = o.name()
		}
	}
	own := h.mine(l)
	if s.Files, err = h.readFiles(s.Name, own); err != nil {
		return settings{}, err
	}
	if s.Hardware, err = readHardware(s.Name); err != nil {
		return settings{}, err
	}
	return s, s.readHanging()
}

// readHanging dumps what names the link, by number or by name.
func (s *settings) readHanging() (err error) {
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		addresses, err := addressesOf(s.Index, family)
		if err != nil {
			return err
		}
		neighbors, err := neighborsOf(s.Index, family)
		if err != nil {
			return err
		}
		rules, err := rulesOf(s.Name, family)
		if err != nil {
			return err
		}
		s.Addresses = append(s.Addresses, encodeAll(addresses)...)
		s.Neighbors = append(s.Neighbors, encodeAll(neighbors)...)
		s.Rules = append(s.Rules, encodeAll(rules)...)
	}
	objects, err := nexthopsOf(s.Index)
	if err != nil {
		return err
	}
	s.Nexthops = encodeAll(objects)
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		routes, err := routesOf(s.Index, family)
		if err != nil {
			return err
		}
		addresses, err := addressesOf(s.Index, family)
		if err != nil {
			return err
		}
		sourced, err := sourcedBy(addresses, s.Index, family)
		if err != nil {
			return err
		}
		s.Routes = append(s.Routes, encodeAll(append(routes, sourced...))...)
	}
	qdiscs, err := qdiscsOf(s.Index)
	s.Qdiscs = encodeAll(qdiscs)
	return err
}

func encodeAll(list []message) (bodies [][]byte) {
	for _, m := range list {
		bodies = append(bodies, m.encode())
	}
	return bodies
}

// listing dumps a kind of object and keeps those that are wanted.
func listing(kind int, answer uint16, request []byte, headLen int, want func(message) bool) ([]message, error) {
	bodies, err := dump(kind, request, answer)
	if err != nil {
		return nil, err
	}
	var list []message
	for _, body := range bodies {
		m, err := parseMessage(body, headLen)
		if err != nil {
			return nil, err
		}
		if want(m) {
			list = append(list, m)
		}
	}
	return list, nil
}

func family(f byte, length int) []byte { return append([]byte{f}, make([]byte, length-1)...) }

func (m message) indexAt(offset int) int { return int(binary.NativeEndian.Uint32(m.head[offset:])) }

func addressesOf(index int, f byte) ([]message, error) {
	list, err := listing(unix.RTM_GETADDR, unix.RTM_NEWADDR, family(f, addrLen), addrLen, func(m message) bool { return m.indexAt(4) == index })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return list, nil
}

// neighborsOf lists what somebody set: permanent neighbours, and those that are answered
// for.
func neighborsOf(index int, f byte) ([]message, error) {
	set := func(m message) bool {
		return m.indexAt(4) == index && (binary.NativeEndian.Uint16(m.head[8:])&unix.NUD_PERMANENT != 0 || m.head[10]&unix.NTF_PROXY != 0)
	}
	list, err := listing(unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, family(f, neighLen), neighLen, set)
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	proxies := family(f, neighLen)
	proxies[10] = unix.NTF_PROXY
	more, err := listing(unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, proxies, neighLen, set)
	if err != nil {
		return nil, fmt.Errorf("list proxy neighbours: %w", err)
	}
	return append(list, more...), nil
}

func rulesOf(name string, f byte) ([]message, error) {
	list, err := listing(unix.RTM_GETRULE, unix.RTM_NEWRULE, family(f, ruleLen), ruleLen, func(m message) bool {
		return m.text(unix.FRA_IIFNAME) == name || m.text(unix.FRA_OIFNAME) == name
	})
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	return list, nil
}

// qdiscsOf lists those that somebody gave a handle: the kernel's own have none.
func qdiscsOf(index int) ([]message, error) {
	list, err := listing(unix.RTM_GETQDISC, unix.RTM_NEWQDISC, family(0, qdiscLen), qdiscLen, func(m message) bool {
		return m.indexAt(4) == index && m.indexAt(8) != 0
	})
	if err != nil {
		return nil, fmt.Errorf("list qdiscs: %w", err)
	}
	return list, nil
}

// mine says whether the link's directory in sysfs is that link's: sysfs shows the links of
// the namespace it was mounted in.
func (h Host) mine(l link) bool {
	index, err := h.number("sys/class/net", l.name(), "ifindex")
	return err == nil && index == l.index()
}

// deviceOf is the PCI device of a link, itself or below a virtio device, and the port.
func (h Host) deviceOf(l link) (pci string, port int, err error) {
	dir := filepath.Join("sys/class/net", l.name())
	if !h.mine(l) || !h.there(dir, "device") {
		return "", 0, nil
	}
	at, err := filepath.EvalSymlinks(h.path(dir, "device"))
	if err != nil {
		return "", 0, err
	}
	for ; at != filepath.Dir(at); at = filepath.Dir(at) {
		if checkPCI(filepath.Base(at)) == nil {
			if h.there(dir, "dev_port") {
				port, err = h.number(dir, "dev_port")
			}
			return filepath.Base(at), port, err
		}
	}
	return "", 0, nil
}

func sinceBoot() (int64, error) {
	var t unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t)
	return int64(t.Sec), err
}

// creatable are the kinds of links that go with the link below them.
func creatable(kind string) bool {
	return slices.Contains([]string{"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "vxlan"}, kind)
}

// find returns the link that stands for a saved one at this moment.
func (h Host) find(s settings) (link, error) {
	saved, err := parseMessage(s.Link, infoLen)
	if err != nil {
		return link{}, err
	}
	if s.PCI != "" {
		refs, err := h.linksOf(s.PCI)
		if err != nil {
			return link{}, err
		}
		at := slices.IndexFunc(refs, func(r linkRef) bool { return r.Port == s.Port })
		if at < 0 {
			return link{}, fmt.Errorf("%w of the device %s", errNoLink, s.PCI)
		}
		return linkByIndex(refs[at].Index)
	}
	l, err := linkByIndex(s.Index)
	if errors.Is(err, errNoLink) {
		l, err = linkByName(s.Name)
	}
	if err == nil && l.virtual() != (link{saved}).virtual() {
		return link{}, fmt.Errorf("%w %s any more: the one of that name is a %s", errNoLink, s.Name, l.virtual())
	}
	return l, err
}
