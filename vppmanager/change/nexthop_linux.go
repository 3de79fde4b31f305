package change

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Attributes of nexthop objects (linux/nexthop.h).
const (
	nhaID       = 1
	nhaGroup    = 2 // of struct nexthop_grp: id 32, weight 8, 3 bytes
	nhaOIF      = 5
	nexthopSize = 8
)

// nexthopsOf lists the nexthop objects over a link, then the groups they are in.
func nexthopsOf(index int) ([]message, error) {
	all, err := listing(unix.RTM_GETNEXTHOP, unix.RTM_NEWNEXTHOP, family(0, nhLen), nhLen, func(message) bool { return true })
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil // a kernel before 5.3
	}
	if err != nil {
		return nil, fmt.Errorf("list nexthops: %w", err)
	}
	ours := map[uint32]bool{}
	var list []message
	for _, m := range all {
		if int(m.number(nhaOIF)) == index {
			ours[m.number(nhaID)] = true
			list = append(list, m)
		}
	}
	for _, m := range all {
		group := m.find(nhaGroup)
		for ; len(group) >= nexthopSize; group = group[nexthopSize:] {
			if ours[binary.NativeEndian.Uint32(group)] {
				list = append(list, m)
				break
			}
		}
	}
	return list, nil
}

// replayNexthops makes the objects that are missing. A group that lost members is made
// whole.
func (h Host) replayNexthops(s settings, to map[int]int) error {
	for _, body := range s.Nexthops {
		m, err := parseMessage(body, nhLen)
		if err != nil {
			return err
		}
		m.head[1] = 0 // the scope is the kernel's finding
		binary.NativeEndian.PutUint32(m.head[4:], binary.NativeEndian.Uint32(m.head[4:])&unix.RTNH_F_ONLINK)
		if oif := m.find(nhaOIF); oif != nil {
			m.set(nhaOIF, u32(uint32(mapped(to, int(m.number(nhaOIF))))))
		}
		if m.find(nhaGroup) != nil {
			m.keep(nhaID, nhaGroup, 3) // 3: NHA_GROUP_TYPE; others of a dump cannot be set
		}
		err = h.alter(unix.RTM_NEWNEXTHOP, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, m.encode())
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("make nexthop %d: %w", m.number(nhaID), err)
		}
	}
	return nil
}

// flushNexthops removes the objects over a link, and with them their routes. A group goes
// with the last of its members.
func (h Host) flushNexthops(index int) error {
	list, err := nexthopsOf(index)
	if err != nil {
		return err
	}
	for _, m := range list {
		if m.find(nhaOIF) == nil {
			continue
		}
		body := appendAttrs(make([]byte, nhLen), attr{nhaID, m.find(nhaID)})
		if err := h.alter(unix.RTM_DELNEXTHOP, 0, body); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove nexthop %d: %w", m.number(nhaID), err)
		}
	}
	return nil
}
