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

// misplaced are addresses of a link that have to go before the missing ones come, because
// the kernel adds them behind (IPv4) or before (IPv6) those that are there, and because it
// numbers IPv4 labels when a link is renamed and lets nobody change them. Others than the
// saved ones are none.
func misplaced(s settings, onto link) ([]message, error) {
	var out []message
	for _, f := range []byte{unix.AF_INET, unix.AF_INET6} {
		have, err := addressesOf(onto.index(), f)
		if err != nil {
			return nil, err
		}
		var want []message
		for _, body := range s.Addresses {
			m, err := parseMessage(body, addrLen)
			if err != nil {
				return nil, err
			}
			if m.head[0] == f {
				want = append(want, m)
			}
		}
		have = slices.DeleteFunc(have, func(o message) bool { return !slices.ContainsFunc(want, o.sameAddress) })
		if f == unix.AF_INET6 {
			slices.Reverse(want)
			slices.Reverse(have)
		}
		// Of IPv6 addresses each scope (at 3) is in an order of its own.
		for scope := range 256 {
			other := func(m message) bool { return f == unix.AF_INET6 && int(m.head[3]) != scope }
			out = append(out, behind(slices.DeleteFunc(slices.Clone(want), other), slices.DeleteFunc(slices.Clone(have), other))...)
			if f == unix.AF_INET {
				break
			}
		}
	}
	return out, nil
}

// behind is what of have comes after the beginning that it has in common with want.
func behind(want, have []message) []message {
	for i, m := range have {
		if i >= len(want) || !m.sameAddress(want[i]) || m.text(unix.IFA_LABEL) != want[i].text(unix.IFA_LABEL) {
			return have[i:]
		}
	}
	return nil
}

func (h Host) removeAddress(m message) error {
	c := message{m.head, slices.Clone(m.attrs)}
	c.keep(unix.IFA_ADDRESS, unix.IFA_LOCAL)
	if err := h.alter(unix.RTM_DELADDR, 0, c.encode()); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("remove address %s: %w", m.addressText(), err)
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
	at := slices.IndexFunc(have, m.sameAddress)
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
	return prefixText(m.own(), int(m.head[1]))
}

// own is the address itself; IFA_ADDRESS is the peer's where there is one.
func (m message) own() []byte {
	if v := m.find(unix.IFA_LOCAL); v != nil {
		return v
	}
	return m.find(unix.IFA_ADDRESS)
}

func (m message) sameAddress(o message) bool {
	same := func(kind uint16) bool { return bytes.Equal(m.find(kind), o.find(kind)) }
	return m.head[0] == o.head[0] && m.head[1] == o.head[1] && same(unix.IFA_ADDRESS) && same(unix.IFA_LOCAL)
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
			if err := h.removeAddress(list[0]); err != nil {
				return err
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
