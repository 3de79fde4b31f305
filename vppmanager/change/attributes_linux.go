package change

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// flagsKept are the flags that a person sets, but for IFF_UP.
const flagsKept = unix.IFF_PROMISC | unix.IFF_ALLMULTI | unix.IFF_NOARP | unix.IFF_MULTICAST | unix.IFF_DEBUG | unix.IFF_DYNAMIC

// restoreAttributes gives a link its saved attributes back, those that are others now, one
// by one, so that a message says which one a driver refuses. Up or down comes later.
func (h Host) restoreAttributes(now link, saved message) error {
	name := now.name()
	if hw := saved.find(unix.IFLA_ADDRESS); len(hw) > 0 && !bytes.Equal(hw, now.find(unix.IFLA_ADDRESS)) {
		if err := h.setAddress(now, hw); err != nil {
			return fmt.Errorf("set the MAC of %s: %w", name, err)
		}
	}
	for _, a := range []struct {
		kind uint16
		what string
	}{
		{unix.IFLA_MTU, "MTU"}, {unix.IFLA_TXQLEN, "transmit queue length"}, {unix.IFLA_GROUP, "group"},
		{unix.IFLA_GSO_MAX_SIZE, "GSO size"}, {unix.IFLA_GSO_MAX_SEGS, "GSO segments"}, {unix.IFLA_IFALIAS, "alias"},
	} {
		value := saved.find(a.kind)
		if bytes.Equal(value, now.find(a.kind)) || value == nil && a.kind != unix.IFLA_IFALIAS {
			continue
		}
		if err := h.setLink(now.index(), 0, 0, attr{a.kind, value}); err != nil {
			return fmt.Errorf("set the %s of %s: %w", a.what, name, err)
		}
	}
	if err := h.restoreNames(now, saved); err != nil {
		return err
	}
	want := link{saved}
	if differ := (want.flags() ^ now.flags()) & flagsKept; differ != 0 {
		if err := h.setLink(now.index(), want.flags(), differ); err != nil {
			return fmt.Errorf("set the flags of %s: %w", name, err)
		}
	}
	return h.restoreAddrGen(now, saved)
}

// setAddress sets a MAC. Some drivers want the link down for that.
func (h Host) setAddress(l link, hw []byte) error {
	err := h.setLink(l.index(), 0, 0, attr{unix.IFLA_ADDRESS, hw})
	if !errors.Is(err, unix.EBUSY) || !l.up() {
		return err
	}
	if err := h.setDown(l.index()); err != nil {
		return err
	}
	return h.setLink(l.index(), 0, 0, attr{unix.IFLA_ADDRESS, hw})
}

// altNames are a link's further names, without those that the kernel gives.
func altNames(m message) []string {
	list, err := parseAttrs(m.find(unix.IFLA_PROP_LIST))
	if err != nil {
		return nil
	}
	var names []string
	for _, a := range list {
		if a.kind&attrKind == unix.IFLA_ALT_IFNAME {
			names = append(names, text(a.value))
		}
	}
	return names
}

func (h Host) restoreNames(now link, saved message) error {
	have := altNames(now.message)
	for _, name := range altNames(saved) {
		if slices.Contains(have, name) {
			continue
		}
		list := appendAttrs(nil, attr{unix.IFLA_ALT_IFNAME, cstring(name)})
		body := appendAttrs(infoHead(now.index(), 0, 0), attr{unix.IFLA_PROP_LIST | unix.NLA_F_NESTED, list})
		// A service that names links may be the one that has set it.
		err := h.alter(unix.RTM_NEWLINKPROP, unix.NLM_F_CREATE|unix.NLM_F_APPEND|unix.NLM_F_EXCL, body)
		if errors.Is(err, unix.EEXIST) {
			h.tell("the name %s of %s is another link's by now", name, now.name())
			continue
		}
		if err != nil {
			return fmt.Errorf("give %s the name %s: %w", now.name(), name, err)
		}
	}
	return nil
}

// addrGen is how the kernel makes link-local IPv6 addresses for a link; nil: IPv6 is off.
func addrGen(m message) []byte {
	families, err := parseAttrs(m.find(unix.IFLA_AF_SPEC))
	if err != nil {
		return nil
	}
	v6, err := parseAttrs(message{attrs: families}.find(unix.AF_INET6))
	if err != nil {
		return nil
	}
	return message{attrs: v6}.find(unix.IFLA_INET6_ADDR_GEN_MODE)
}

func (h Host) restoreAddrGen(now link, saved message) error {
	mode := addrGen(saved)
	if len(mode) != 1 || bytes.Equal(mode, addrGen(now.message)) {
		return nil
	}
	v6 := appendAttrs(nil, attr{unix.IFLA_INET6_ADDR_GEN_MODE, mode})
	spec := appendAttrs(nil, attr{unix.AF_INET6 | unix.NLA_F_NESTED, v6})
	if err := h.setLink(now.index(), 0, 0, attr{unix.IFLA_AF_SPEC | unix.NLA_F_NESTED, spec}); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("set how %s gets its link-local address: %w", now.name(), err)
	}
	return nil
}

// enslave puts a link into a bond or bridge. A bond takes only links that are down, and
// sets them up.
func (h Host) enslave(l link, master string) error {
	m, err := linkByName(master)
	if err != nil {
		return fmt.Errorf("put %s into %s: %w", l.name(), master, err)
	}
	if int(l.number(unix.IFLA_MASTER)) == m.index() {
		return nil
	}
	if m.virtual() == "bond" && l.up() {
		if err := h.setDown(l.index()); err != nil {
			return fmt.Errorf("set %s down for %s: %w", l.name(), master, err)
		}
	}
	if err := h.setLink(l.index(), 0, 0, attr{unix.IFLA_MASTER, u32(uint32(m.index()))}); err != nil {
		return fmt.Errorf("put %s into %s: %w", l.name(), master, err)
	}
	return nil
}

// create makes a link anew that went with the one below it.
func (h Host) create(s settings, saved message) (link, error) {
	below, err := linkByName(s.Parent)
	if err != nil {
		return link{}, fmt.Errorf("make %s again: %w", s.Name, err)
	}
	info, err := parseAttrs(saved.find(unix.IFLA_LINKINFO))
	if err != nil {
		return link{}, err
	}
	m := message{attrs: info}
	m.keep(unix.IFLA_INFO_KIND, unix.IFLA_INFO_DATA)
	if err := m.acceptable(); err != nil {
		return link{}, fmt.Errorf("make %s on %s again: %w", s.Name, s.Parent, err)
	}
	body := appendAttrs(infoHead(0, 0, 0),
		attr{unix.IFLA_IFNAME, cstring(s.Name)}, attr{unix.IFLA_LINK, u32(uint32(below.index()))},
		attr{unix.IFLA_ADDRESS, saved.find(unix.IFLA_ADDRESS)}, attr{unix.IFLA_LINKINFO, appendAttrs(nil, m.attrs...)})
	if err := h.alter(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body); err != nil {
		return link{}, fmt.Errorf("make %s on %s again: %w", s.Name, s.Parent, err)
	}
	return linkByName(s.Name)
}

// acceptable takes out of IFLA_LINKINFO what the kernel tells and does not take.
func (m *message) acceptable() error {
	data, err := parseAttrs(m.find(unix.IFLA_INFO_DATA))
	if err != nil {
		return err
	}
	d := message{attrs: data}
	switch m.text(unix.IFLA_INFO_KIND) {
	case "macvlan", "macvtap":
		const macCount, bcQueueLenUsed = 6, 8 // of linux/if_link.h
		d.drop(macCount, bcQueueLenUsed)
	case "vlan":
		// The mask says all ones; as a wish, only flags that there are may be in it.
		if flags := d.find(unix.IFLA_VLAN_FLAGS); len(flags) == 8 {
			const reorder = 1 // VLAN_FLAG_REORDER_HDR, which is on in a new one
			set := binary.NativeEndian.Uint32(flags)
			d.set(unix.IFLA_VLAN_FLAGS, slices.Concat(u32(set), u32(set|reorder)))
		}
	default:
		return nil
	}
	m.set(unix.IFLA_INFO_DATA, appendAttrs(nil, d.attrs...))
	return nil
}

// mapped is the index that stands for a saved one.
func mapped(to map[int]int, index int) int {
	if now, ok := to[index]; ok {
		return now
	}
	return index
}

func putIndex(head []byte, offset int, to map[int]int) {
	binary.NativeEndian.PutUint32(head[offset:], uint32(mapped(to, int(binary.NativeEndian.Uint32(head[offset:])))))
}
