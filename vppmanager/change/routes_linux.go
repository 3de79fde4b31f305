package change

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

const rtaNHID = 30 // RTA_NH_ID of linux/rtnetlink.h: the number of a nexthop object

// routesOf lists the routes through a link, in all tables, alone or beside others. What
// the kernel makes of addresses by itself (table local) is left to it.
func routesOf(index int, f byte) ([]message, error) {
	list, err := listing(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, family(f, routeLen), routeLen, func(m message) bool {
		kernels := m.head[5] == unix.RTPROT_KERNEL && m.number(unix.RTA_TABLE) == unix.RT_TABLE_LOCAL
		cloned := binary.NativeEndian.Uint32(m.head[8:])&unix.RTM_F_CLONED != 0
		return !kernels && !cloned && slices.Contains(m.links(), index)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return list, nil
}

// sourcedBy lists the routes out of other links that have an address of this one as their
// source. The kernel removes them with that address (IPv4), or leaves them without a
// source (IPv6).
func sourcedBy(addresses []message, index int, f byte) ([]message, error) {
	list, err := listing(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, family(f, routeLen), routeLen, func(m message) bool {
		source, links := m.find(unix.RTA_PREFSRC), m.links()
		return m.head[5] != unix.RTPROT_KERNEL && len(source) > 0 && !slices.Contains(links, index) &&
			slices.ContainsFunc(addresses, func(a message) bool { return bytes.Equal(a.own(), source) })
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return list, nil
}

// links are the links a route goes through.
func (m message) links() []int {
	var list []int
	if m.find(unix.RTA_OIF) != nil {
		list = append(list, int(m.number(unix.RTA_OIF)))
	}
	for hop := range hops(m.find(unix.RTA_MULTIPATH)) {
		list = append(list, int(binary.NativeEndian.Uint32(hop[4:])))
	}
	return list
}

// hops are the parts of a route over several (struct rtnexthop: length 16, flags 8,
// weight 8, index 32, then attributes).
func hops(b []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) >= unix.SizeofRtNexthop {
			length := int(binary.NativeEndian.Uint16(b))
			if length < unix.SizeofRtNexthop || length > len(b) || !yield(b[:length]) {
				return
			}
			b = b[min((length+3)&^3, len(b)):]
		}
	}
}

// route makes of a dumped route one that can be added: indexes are those of now, findings
// of the kernel are left out, of a lifetime the rest is asked for.
func route(body []byte, to map[int]int, elapsed int64) (m message, alive bool, err error) {
	if m, err = parseMessage(body, routeLen); err != nil {
		return m, false, err
	}
	m.attrs = slices.Clone(m.attrs)
	m.keepFlags()
	if m.find(unix.RTA_OIF) != nil {
		m.set(unix.RTA_OIF, u32(uint32(mapped(to, int(m.number(unix.RTA_OIF))))))
	}
	if paths := m.find(unix.RTA_MULTIPATH); paths != nil {
		paths = slices.Clone(paths)
		for hop := range hops(paths) {
			hop[2] &= unix.RTNH_F_ONLINK
			putIndex(hop, 4, to)
		}
		m.set(unix.RTA_MULTIPATH, paths)
	}
	if m.find(rtaNHID) != nil {
		m.drop(unix.RTA_OIF, unix.RTA_GATEWAY, unix.RTA_VIA, unix.RTA_MULTIPATH, unix.RTA_ENCAP, unix.RTA_ENCAP_TYPE)
	}
	// struct rta_cacheinfo: expires at 8, in hundredths of a second.
	info := m.find(unix.RTA_CACHEINFO)
	m.drop(unix.RTA_CACHEINFO)
	if len(info) >= 12 && m.head[0] == unix.AF_INET6 {
		if left := int64(int32(binary.NativeEndian.Uint32(info[8:]))); left != 0 {
			left = left/100 - elapsed
			if left <= 0 {
				return m, false, nil
			}
			m.set(unix.RTA_EXPIRES, u32(uint32(left)))
		}
	}
	return m, true, nil
}

func (m *message) keepFlags() {
	binary.NativeEndian.PutUint32(m.head[8:], binary.NativeEndian.Uint32(m.head[8:])&unix.RTNH_F_ONLINK)
}

// identity is what tells routes apart, without lifetimes.
func (m message) identity() string {
	c := message{slices.Clone(m.head), slices.Clone(m.attrs)}
	c.keepFlags()
	c.drop(unix.RTA_CACHEINFO, unix.RTA_EXPIRES, unix.RTA_PREF)
	if m.find(rtaNHID) != nil {
		c.drop(unix.RTA_OIF, unix.RTA_GATEWAY, unix.RTA_VIA, unix.RTA_MULTIPATH, unix.RTA_ENCAP, unix.RTA_ENCAP_TYPE)
	}
	if paths := c.find(unix.RTA_MULTIPATH); paths != nil {
		paths = slices.Clone(paths)
		for hop := range hops(paths) {
			hop[2] &= unix.RTNH_F_ONLINK
		}
		c.set(unix.RTA_MULTIPATH, paths)
	}
	slices.SortFunc(c.attrs, func(a, b attr) int { return cmp.Compare(a.kind, b.kind) })
	return string(c.encode())
}

// place is where a route lies: the kernel takes one route there, unless told otherwise.
func (m message) place() string {
	c := message{slices.Clone(m.head[:5]), slices.Clone(m.attrs)}
	c.keep(unix.RTA_DST, unix.RTA_SRC, unix.RTA_PRIORITY, unix.RTA_TABLE)
	slices.SortFunc(c.attrs, func(a, b attr) int { return cmp.Compare(a.kind, b.kind) })
	return string(c.encode())
}

func (m message) routeText() string {
	bits := int(m.head[1])
	dst := "default"
	if bits > 0 {
		dst = prefixText(m.find(unix.RTA_DST), bits)
	}
	return fmt.Sprintf("%s in table %d", dst, m.number(unix.RTA_TABLE))
}

// prefixText prints an address; bits below 0: alone.
func prefixText(v []byte, bits int) string {
	a, ok := netip.AddrFromSlice(v)
	if !ok {
		return fmt.Sprintf("%x", v)
	}
	if bits < 0 {
		return a.String()
	}
	return netip.PrefixFrom(a, bits).String()
}

// replayRoutes adds the routes that are missing, in turns as long as a turn gets on: a
// gateway has to be reached by another route before. absent are links that are not back
// yet: the one of them that comes last gets the routes they share.
func (h Host) replayRoutes(s settings, to map[int]int, absent absence, elapsed int64) error {
	var open []message
	for _, body := range s.Routes {
		m, alive, err := route(body, to, elapsed)
		if err != nil {
			return err
		}
		saved, err := parseMessage(body, routeLen)
		if err != nil {
			return err
		}
		if alive && !absent.hinders(saved) {
			open = append(open, m)
		}
	}
	have, err := routesByPlace()
	if err != nil {
		return err
	}
	all := slices.Clone(open)
	for {
		var later []message
		var errs []error
		for _, m := range open {
			if err := h.addRoute(m, all, have); err != nil {
				later, errs = append(later, m), append(errs, fmt.Errorf("add route %s: %w", m.routeText(), err))
			}
		}
		if len(later) == 0 || len(later) == len(open) {
			return errors.Join(errs...)
		}
		open = later
	}
}

// routesByPlace are all routes there are. One dump serves thousands of routes to come.
func routesByPlace() (map[string][]message, error) {
	have := map[string][]message{}
	for _, f := range []byte{unix.AF_INET, unix.AF_INET6} {
		list, err := listing(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, family(f, routeLen), routeLen, func(m message) bool {
			return binary.NativeEndian.Uint32(m.head[8:])&unix.RTM_F_CLONED == 0
		})
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, m := range list {
			have[m.place()] = append(have[m.place()], m)
		}
	}
	return have, nil
}

// addRoute adds one route. In its place there may be others: those of the list go side by
// side with it, one that lost some of its ways or its source is made whole, and one that
// somebody made meanwhile stays. It keeps have, the routes that there are, up to date.
func (h Host) addRoute(m message, all []message, have map[string][]message) error {
	place := m.place()
	there := have[place]
	if at := slices.IndexFunc(there, m.same); at >= 0 {
		// The kernel's own for an address that ends, while it shall be for good.
		if !there[at].ends() || m.ends() {
			return nil
		}
		if err := h.removeRoute(there[at]); err != nil {
			return err
		}
		there = slices.Delete(there, at, at+1)
		have[place] = there
	}
	flags := unix.NLM_F_CREATE | unix.NLM_F_EXCL
	rest := func(o message) bool { return partOf(o, m) || unsourced(o, m) }
	stranger := func(o message) bool { return stands(o, m) && !slices.ContainsFunc(all, o.same) }
	switch {
	case slices.ContainsFunc(there, rest):
		flags = unix.NLM_F_CREATE | unix.NLM_F_REPLACE
	case slices.ContainsFunc(there, stranger):
		h.tell("route %s stays as somebody else has made it since", m.routeText())
		return nil
	case len(there) > 0:
		flags = unix.NLM_F_CREATE | unix.NLM_F_APPEND
	}
	err := h.alter(unix.RTM_NEWROUTE, flags, m.encode())
	if err != nil && !errors.Is(err, unix.EEXIST) { // or somebody was faster
		return err
	}
	if flags&unix.NLM_F_REPLACE != 0 {
		there = slices.DeleteFunc(there, rest)
	}
	have[place] = append(there, m)
	return nil
}

// ends says whether a route has a lifetime (struct rta_cacheinfo: expires at 8).
func (m message) ends() bool {
	info := m.find(unix.RTA_CACHEINFO)
	return m.find(unix.RTA_EXPIRES) != nil || m.head[0] == unix.AF_INET6 && len(info) >= 12 && binary.NativeEndian.Uint32(info[8:]) != 0
}

func (m message) same(o message) bool { return m.identity() == o.identity() }

// stands says whether a route in the place of another has to stand alone: one over the
// same link, or one that the kernel would make a way beside others of.
func stands(o, m message) bool {
	shared := slices.ContainsFunc(o.links(), func(index int) bool { return slices.Contains(m.links(), index) })
	return shared || m.head[0] == unix.AF_INET6 && m.find(unix.RTA_GATEWAY) != nil
}

// partOf says whether a route has some of the ways of another, and no way else.
func partOf(part, whole message) bool {
	if whole.find(unix.RTA_MULTIPATH) == nil {
		return false
	}
	links := whole.links()
	for _, index := range part.links() {
		if !slices.Contains(links, index) {
			return false
		}
	}
	return len(part.links()) < len(links)
}

// unsourced says whether a route is what another one becomes when its source goes.
func unsourced(o, m message) bool {
	if m.find(unix.RTA_PREFSRC) == nil {
		return false
	}
	c := message{m.head, slices.Clone(m.attrs)}
	c.drop(unix.RTA_PREFSRC)
	return c.same(o)
}

func (h Host) removeRoute(m message) error {
	c := message{slices.Clone(m.head), slices.Clone(m.attrs)}
	c.keepFlags()
	c.drop(unix.RTA_CACHEINFO)
	if err := h.alter(unix.RTM_DELROUTE, 0, c.encode()); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove route %s: %w", m.routeText(), err)
	}
	return nil
}

// flushRoutes removes the routes through a link that do not go with its addresses.
func (h Host) flushRoutes(index int) error {
	for _, f := range []byte{unix.AF_INET, unix.AF_INET6} {
		list, err := routesOf(index, f)
		if err != nil {
			return err
		}
		for _, m := range list {
			if err := h.removeRoute(m); err != nil {
				return err
			}
		}
	}
	return nil
}

// replayRules adds the rules that name the link and are missing. Rules outlive their link;
// so most are there.
func (h Host) replayRules(s settings) error {
	for _, body := range s.Rules {
		m, err := parseMessage(body, ruleLen)
		if err != nil {
			return err
		}
		m.normalRule()
		have, err := rulesOf(s.Name, m.head[0])
		if err != nil {
			return err
		}
		if slices.ContainsFunc(have, func(o message) bool { o.normalRule(); return bytes.Equal(o.encode(), m.encode()) }) {
			continue
		}
		if err := h.alter(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, m.encode()); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add rule %d of %s: %w", m.number(unix.FRA_PRIORITY), s.Name, err)
		}
	}
	return nil
}

// normalRule leaves out whether the link is there at this moment.
func (m *message) normalRule() {
	binary.NativeEndian.PutUint32(m.head[8:], binary.NativeEndian.Uint32(m.head[8:])&unix.FIB_RULE_INVERT)
	m.drop(unix.FRA_PAD)
}
