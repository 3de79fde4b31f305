package api

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/engine/vnet"
)

// interfaceNamed finds an interface by name or, as the commands allow, by index.
func (s *Server) interfaceNamed(word string) (vnet.Interface, error) {
	for i := range s.plane.Interfaces() {
		if i.Name == word {
			return i, nil
		}
	}
	if n, err := strconv.ParseUint(word, 10, 32); err == nil {
		if i, err := s.plane.Interface(uint32(n)); err == nil {
			return i, nil
		}
		return vnet.Interface{}, cliError(fmt.Sprintf("unknown interface index `%d'", n))
	}
	return vnet.Interface{}, unknownInput([]string{word})
}

// interfacesNamed are those of args, or all, sorted by name.
func (s *Server) interfacesNamed(args []string) ([]vnet.Interface, error) {
	if len(args) == 0 {
		all := slices.Collect(s.plane.Interfaces())
		slices.SortFunc(all, func(a, b vnet.Interface) int { return compareNames(a.Name, b.Name) })
		return all, nil
	}
	var list []vnet.Interface
	for n, word := range args {
		i, err := s.interfaceNamed(word)
		if err != nil {
			if e, ok := err.(cliError); ok && strings.HasPrefix(string(e), "unknown input") {
				err = unknownInput(args[n:])
			}
			return nil, err
		}
		list = append(list, i)
	}
	return list, nil
}

// compareNames sorts tap2 before tap10.
func compareNames(a, b string) int {
	stemA, numA := splitNumber(a)
	stemB, numB := splitNumber(b)
	if stemA == stemB && numA != numB {
		if numA < numB {
			return -1
		}
		return 1
	}
	return strings.Compare(a, b)
}

func splitNumber(name string) (stem string, n uint64) {
	stem = strings.TrimRight(name, "0123456789")
	n, err := strconv.ParseUint(name[len(stem):], 10, 64)
	if err != nil {
		return name, 0
	}
	return stem, n
}

func (s *Server) showInterface(args []string) (string, error) {
	if len(args) > 0 {
		switch args[0] {
		case "address", "addr":
			return s.showAddresses(args[1:])
		case "tag":
			return s.showTags(args[1:])
		}
	}
	list, err := s.interfacesNamed(args)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s%s%s%s%s%s\n", center("Name", 32), center("Idx", 5), center("State", 10),
		center("MTU (L3/IP4/IP6/MPLS)", 21), center("Counter", 16), center("Count", 16))
	for _, i := range list {
		state := "down"
		if i.AdminUp {
			state = "up"
		}
		mtu := fmt.Sprintf("%d/%d/%d/%d", i.MTU[0], i.MTU[1], i.MTU[2], i.MTU[3])
		fmt.Fprintf(&out, "%-32s%s%s%s", i.Name, center(strconv.Itoa(int(i.Index)), 5), center(state, 10), center(mtu, 21))
		for n, c := range s.interfaceCounters(i.Index) {
			if n > 0 {
				fmt.Fprintf(&out, "\n%68s", "")
			}
			fmt.Fprintf(&out, "%-16s%16d", c.name, c.value)
		}
		out.WriteByte('\n')
	}
	return out.String(), nil
}

type namedValue struct {
	name  string
	value uint64
}

// interfaceCounters are the counters of an interface that are not zero, in VPP's order.
func (s *Server) interfaceCounters(index uint32) []namedValue {
	var list []namedValue
	combined := func(name string, row func(*vnet.Counters) []vnet.Combined) {
		packets, bytes := uint64(0), uint64(0)
		for t := range s.counters {
			if r := row(&s.counters[t]); int(index) < len(r) {
				packets += atomic.LoadUint64(&r[index].Packets)
				bytes += atomic.LoadUint64(&r[index].Bytes)
			}
		}
		if packets > 0 {
			list = append(list, namedValue{name + " packets", packets}, namedValue{name + " bytes", bytes})
		}
	}
	simple := func(name string, row func(*vnet.Counters) []uint64) {
		sum := uint64(0)
		for t := range s.counters {
			if r := row(&s.counters[t]); int(index) < len(r) {
				sum += atomic.LoadUint64(&r[index])
			}
		}
		if sum > 0 {
			list = append(list, namedValue{name, sum})
		}
	}
	combined("rx", func(c *vnet.Counters) []vnet.Combined { return c.RX })
	combined("rx-unicast", func(c *vnet.Counters) []vnet.Combined { return c.RxUnicast })
	combined("rx-multicast", func(c *vnet.Counters) []vnet.Combined { return c.RxMulticast })
	combined("rx-broadcast", func(c *vnet.Counters) []vnet.Combined { return c.RxBroadcast })
	combined("tx", func(c *vnet.Counters) []vnet.Combined { return c.TX })
	combined("tx-unicast", func(c *vnet.Counters) []vnet.Combined { return c.TxUnicast })
	combined("tx-multicast", func(c *vnet.Counters) []vnet.Combined { return c.TxMulticast })
	combined("tx-broadcast", func(c *vnet.Counters) []vnet.Combined { return c.TxBroadcast })
	simple("drops", func(c *vnet.Counters) []uint64 { return c.Drops })
	simple("punt", func(c *vnet.Counters) []uint64 { return c.Punt })
	simple("ip4", func(c *vnet.Counters) []uint64 { return c.IP4 })
	simple("ip6", func(c *vnet.Counters) []uint64 { return c.IP6 })
	simple("rx-no-buf", func(c *vnet.Counters) []uint64 { return c.RxNoBuf })
	simple("rx-miss", func(c *vnet.Counters) []uint64 { return c.RxMiss })
	simple("rx-error", func(c *vnet.Counters) []uint64 { return c.RxError })
	simple("tx-error", func(c *vnet.Counters) []uint64 { return c.TxError })
	return list
}

func (s *Server) showAddresses(args []string) (string, error) {
	list, err := s.interfacesNamed(args)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, i := range list {
		state := "dn"
		if i.AdminUp {
			state = "up"
		}
		fmt.Fprintf(&out, "%s (%s):\n", i.Name, state)
		owner := i.Index
		if i.Unnumbered != vnet.NoIndex {
			owner = i.Unnumbered
			lender, err := s.plane.Interface(owner)
			if err != nil {
				continue // deleted meanwhile
			}
			fmt.Fprintf(&out, "  unnumbered, use %s\n", lender.Name)
		}
		for _, f := range families() {
			addrs, err := s.plane.Addresses(owner, f)
			if err != nil {
				continue // deleted meanwhile
			}
			table, name := i.Table4, "ip4"
			if f == vnet.IPv6 {
				table, name = i.Table6, "ip6"
			}
			for _, a := range addrs {
				fmt.Fprintf(&out, "  L3 %v", a)
				if table != 0 {
					fmt.Fprintf(&out, " %s table-id %d fib-idx %d", name, table, s.fibIndex(table, f))
				}
				out.WriteByte('\n')
			}
		}
	}
	return out.String(), nil
}

// fibIndex is the position of a table in the dump.
func (s *Server) fibIndex(table uint32, f vnet.Family) int {
	return slices.IndexFunc(s.plane.Tables(f), func(t vnet.Table) bool { return t.ID == table })
}

func (s *Server) showTags(args []string) (string, error) {
	if len(args) == 0 {
		return "", cliError("Interface not specified...")
	}
	list, err := s.interfacesNamed(args)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, i := range list {
		tag := i.Tag
		if tag == "" {
			tag = "(none)"
		}
		fmt.Fprintf(&out, "%s: %s\n", i.Name, tag)
	}
	return out.String(), nil
}

func (s *Server) showRxPlacement(args []string) (string, error) {
	if len(args) > 0 {
		return "", unknownInput(args)
	}
	threads := s.threads()
	byThread := make([]strings.Builder, len(threads))
	for p := range s.plane.RxPlacements() {
		i, err := s.plane.Interface(p.Interface)
		if err != nil || p.Worker+1 >= len(threads) {
			continue // deleted meanwhile
		}
		fmt.Fprintf(&byThread[p.Worker+1], "    %s queue %d (%s)\n", i.Name, p.Queue, modeName(p.Mode))
	}
	var out strings.Builder
	for n := range byThread {
		if byThread[n].Len() > 0 {
			fmt.Fprintf(&out, "Thread %d (%s):\n%s", n, threads[n].Name, byThread[n].String())
		}
	}
	return out.String(), nil
}

func modeName(m vnet.RxMode) string {
	switch m {
	case vnet.RxPolling:
		return "polling"
	case vnet.RxInterrupt:
		return "interrupt"
	case vnet.RxAdaptive:
		return "adaptive"
	default:
		return "unknown"
	}
}

func (s *Server) showHardware(args []string) (string, error) {
	brief := false
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool {
		brief = brief || a == "brief"
		return a == "brief" || a == "verbose" || a == "detail"
	})
	list, err := s.interfacesNamed(args)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s%s%sHardware\n", center("Name", 32), center("Idx", 6), center("Link", 8))
	for _, i := range list {
		link := "down"
		if i.LinkUp {
			link = "up"
		}
		fmt.Fprintf(&out, "%-32s%s%s%s\n", i.Name, center(strconv.Itoa(int(i.Index)), 6), center(link, 8), i.Name)
		if brief {
			continue
		}
		fmt.Fprintf(&out, "  Link speed: unknown\n  RX queues %d, TX queues %d, mtu %d\n", i.RxQueues, i.TxQueues, i.LinkMTU)
		if i.Link == port.Ethernet && i.HardwareAddr != nil {
			fmt.Fprintf(&out, "  Ethernet address %v\n", i.HardwareAddr)
		}
		fmt.Fprintf(&out, "  %s\n", i.DeviceType)
	}
	return out.String(), nil
}

func (s *Server) setInterfaceState(args []string) (string, error) {
	i, err := s.interfaceNamed(strings.Join(args[:min(1, len(args))], ""))
	if err != nil {
		return "", cliError(fmt.Sprintf("unknown interface `%s'", strings.Join(args, " ")))
	}
	if len(args) != 2 || args[1] != "up" && args[1] != "down" {
		return "", cliError(fmt.Sprintf("unknown flags `%s'", strings.Join(args[1:], " ")))
	}
	return "", s.plane.SetAdminUp(i.Index, args[1] == "up")
}

func (s *Server) setInterfaceMTU(args []string) (string, error) {
	which, protocols := 0, []string{"packet", "ip4", "ip6", "mpls"}
	rest := args
	if len(rest) > 0 {
		if n := slices.Index(protocols, rest[0]); n >= 0 {
			which, rest = n, rest[1:]
		}
	}
	if len(rest) != 2 {
		return "", unknownInput(args)
	}
	value, err := strconv.ParseUint(rest[0], 10, 32)
	if err != nil {
		return "", unknownInput(rest)
	}
	i, err := s.interfaceNamed(rest[1])
	if err != nil {
		return "", err
	}
	i.MTU[which] = uint32(value)
	return "", s.plane.SetMTU(i.Index, i.MTU)
}
