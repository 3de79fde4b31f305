package change

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"golang.org/x/sys/unix"
)

// addressFlags are those that a person sets. The others are the kernel's findings.
const addressFlags = unix.IFA_F_NODAD | unix.IFA_F_HOMEADDRESS | unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_MCAUTOJOIN

// replayAddresses puts the addresses that are missing onto a link, each as it was, with
// what is left of its lifetime. Those that are there already somebody else has put back.
func (h Host) replayAddresses(s settings, onto link, elapsed int64) error {
	list := slices.Clone(s.Addresses)
	// The kernel puts the newest IPv6 address first, the newest IPv4 address last.
	slices.SortStableFunc(list, func(a, b []byte) int { return int(a[0]) - int(b[0]) })
	at := slices.IndexFunc(list, func(b []byte) bool { return b[0] == unix.AF_INET6 })
	if at >= 0 {
		slices.Reverse(list[at:])
	}
	for _, body := range list {
		m, err := parseMessage(body, addrLen)
		if err != nil {
			return err
		}
		if !age(&m, elapsed) {
			continue // it would have ended by now
		}
		if err := h.replayAddress(m, s.Name, onto); err != nil {
			return err
		}
	}
	return nil
}

func (h Host) replayAddress(m message, former string, onto link) error {
	binary.NativeEndian.PutUint32(m.head[4:], uint32(onto.index()))
	flags := m.addressFlags()
	m.head[2] = 0
	m.set(unix.IFA_FLAGS, u32(flags&addressFlags))
	if label := m.text(unix.IFA_LABEL); label == former && former != onto.name() {
		m.set(unix.IFA_LABEL, cstring(onto.name()))
	}
	have, err := addressesOf(onto.index(), m.head[0])
	if err != nil {
		return err
	}
	at := slices.IndexFunc(have, func(o message) bool { return sameAddress(o, m) })
	if at >= 0 && (m.head[0] == unix.AF_INET || have[at].addressFlags()&unix.IFA_F_NODAD == flags&unix.IFA_F_NODAD) {
		return nil
	}
	if at < 0 {
		// It was in use here a moment ago: nobody is asked again whether it is free, so that
		// it can be the source of routes at once.
		first := message{slices.Clone(m.head), slices.Clone(m.attrs)}
		if m.head[0] == unix.AF_INET6 {
			first.set(unix.IFA_FLAGS, u32(flags&addressFlags|unix.IFA_F_NODAD))
		}
		err := h.alter(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, first.encode())
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add address %s to %s: %w", m.addressText(), onto.name(), err)
		}
	}
	if m.head[0] == unix.AF_INET || flags&unix.IFA_F_NODAD != 0 {
		return nil
	}
	// Gone meanwhile: that is its owner's business.
	if err := h.alter(unix.RTM_NEWADDR, unix.NLM_F_REPLACE, m.encode()); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("set address %s of %s: %w", m.addressText(), onto.name(), err)
	}
	return nil
}

func (m message) addressFlags() uint32 {
	if v := m.find(unix.IFA_FLAGS); len(v) == 4 {
		return binary.NativeEndian.Uint32(v)
	}
	return uint32(m.head[2])
}

func (m message) addressText() string {
	v := m.find(unix.IFA_LOCAL)
	if v == nil {
		v = m.find(unix.IFA_ADDRESS)
	}
	return prefixText(v, int(m.head[1]))
}

func sameAddress(a, b message) bool {
	same := func(kind uint16) bool { return bytes.Equal(a.find(kind), b.find(kind)) }
	return a.head[0] == b.head[0] && a.head[1] == b.head[1] && same(unix.IFA_ADDRESS) && same(unix.IFA_LOCAL)
}

// age takes the time since it was saved off an address's lifetimes (struct ifa_cacheinfo:
// preferred, valid, in seconds), and says whether anything is left.
func age(m *message, elapsed int64) bool {
	info := slices.Clone(m.find(unix.IFA_CACHEINFO))
	if len(info) < 8 {
		return true
	}
	for _, at := range []int{0, 4} {
		if left := binary.NativeEndian.Uint32(info[at:]); left != math.MaxUint32 {
			binary.NativeEndian.PutUint32(info[at:], uint32(max(int64(left)-elapsed, 0)))
		}
	}
	m.set(unix.IFA_CACHEINFO, info)
	return binary.NativeEndian.Uint32(info[4:]) > 0
}

// flushAddresses removes all addresses of a link. With an IPv4 address those that are
// secondary to it may go, so it looks again after each.
func (h Host) flushAddresses(index int) error {
	for _, f := range []byte{unix.AF_INET, unix.AF_INET6} {
		for tries := 0; ; tries++ {
			list, err := addressesOf(index, f)
			if err != nil || len(list) == 0 {
				if err != nil {
					return err
				}
				break
			}
			if tries == 10_000 {
				return fmt.Errorf("addresses come back as fast as they are removed, the last one %s", list[0].addressText())
			}
			m := list[0]
			m.keep(unix.IFA_ADDRESS, unix.IFA_LOCAL)
			if err := h.alter(unix.RTM_DELADDR, 0, m.encode()); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return fmt.Errorf("remove address %s: %w", list[0].addressText(), err)
			}
		}
	}
	return nil
}

// replayNeighbors puts the entries back that are missing or are others.
func (h Host) replayNeighbors(s settings, onto link) error {
	for _, body := range s.Neighbors {
		m, err := parseMessage(body, neighLen)
		if err != nil {
			return err
		}
		binary.NativeEndian.PutUint32(m.head[4:], uint32(onto.index()))
		m.keep(unix.NDA_DST, unix.NDA_LLADDR, ndaProtocol, ndaFlagsExt)
		have, err := neighborsOf(onto.index(), m.head[0])
		if err != nil {
			return err
		}
		if slices.ContainsFunc(have, func(o message) bool {
			return m.head[10] == o.head[10] && bytes.Equal(m.find(unix.NDA_DST), o.find(unix.NDA_DST)) && bytes.Equal(m.find(unix.NDA_LLADDR), o.find(unix.NDA_LLADDR))
		}) {
			continue
		}
		if err := h.alter(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, m.encode()); err != nil {
			return fmt.Errorf("set neighbour %s of %s: %w", prefixText(m.find(unix.NDA_DST), -1), onto.name(), err)
		}
	}
	return nil
}

// Attributes of neighbours that came later (linux/neighbour.h).
const (
	ndaProtocol = 12
	ndaFlagsExt = 15
)
