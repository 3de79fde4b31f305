package api

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/millrace/millrace/engine/vnet"
)

func (s *Server) showFib4(args []string) (string, error) { return s.showFib(vnet.IPv4, args) }
func (s *Server) showFib6(args []string) (string, error) { return s.showFib(vnet.IPv6, args) }

// fibQuery is what stands behind "show ip fib".
type fibQuery struct {
	summary bool
	table   uint32 // NoIndex = all
	match   netip.Prefix
}

func parseFibQuery(f vnet.Family, args []string) (fibQuery, error) {
	q := fibQuery{table: vnet.NoIndex}
	for n := 0; n < len(args); n++ {
		switch word := args[n]; word {
		case "summary", "sum", "brief":
			q.summary = true
		case "detail", "det":
		case "table":
			n++
			id, err := strconv.ParseUint(strings.Join(args[n:min(n+1, len(args))], ""), 10, 32)
			if err != nil {
				return q, unknownInput(args[n-1:])
			}
			q.table = uint32(id)
		default:
			p, err := parseTarget(word)
			if err != nil || familyOfAddr(p.Addr()) != f {
				return q, unknownInput(args[n:])
			}
			q.match = p
		}
	}
	return q, nil
}

// parseTarget takes an address for a host's prefix.
func parseTarget(word string) (netip.Prefix, error) {
	if strings.Contains(word, "/") {
		return netip.ParsePrefix(word)
	}
	a, err := netip.ParseAddr(word)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

func (s *Server) showFib(f vnet.Family, args []string) (string, error) {
	q, err := parseFibQuery(f, args)
	if err != nil {
		return "", err
	}
	names := s.interfaceNames()
	var out strings.Builder
	for n, t := range s.plane.Tables(f) {
		if q.table != vnet.NoIndex && q.table != t.ID {
			continue
		}
		fmt.Fprintf(&out, "%s, fib_index:%d\n", tableTitle(t), n)
		switch {
		case q.summary:
			s.writeSummary(&out, t)
		case q.match.IsValid():
			if r, ok := s.longestMatch(t, q.match, false); ok {
				s.writeRoute(&out, r, names)
			}
		default:
			for r := range s.plane.Routes(t) {
				s.writeRoute(&out, r, names)
			}
		}
	}
	return out.String(), nil
}

func tableTitle(t vnet.Table) string {
	if t.Name != "" {
		return t.Name
	}
	return fmt.Sprintf("ipv%d-VRF:%d", t.Family, t.ID)
}

func (s *Server) writeSummary(out *strings.Builder, t vnet.Table) {
	var count [129]int
	for r := range s.plane.Routes(t) {
		count[r.Prefix.Bits()]++
	}
	fmt.Fprintf(out, "%s%s\n", center("Prefix length", 20), center("Count", 16))
	for bits, n := range count {
		if n > 0 {
			fmt.Fprintf(out, "%20d%16d\n", bits, n)
		}
	}
}

func (s *Server) interfaceNames() map[uint32]string {
	names := map[uint32]string{}
	for i := range s.plane.Interfaces() {
		names[i.Index] = i.Name
	}
	return names
}

func (s *Server) writeRoute(out *strings.Builder, r vnet.Route, names map[uint32]string) {
	packets, bytes := uint64(0), uint64(0)
	for t := range s.counters {
		if row := s.counters[t].RouteTo; int64(r.StatsIndex) < int64(len(row)) {
			packets += atomic.LoadUint64(&row[r.StatsIndex].Packets)
			bytes += atomic.LoadUint64(&row[r.StatsIndex].Bytes)
		}
	}
	f := familyOfAddr(r.Prefix.Addr())
	fmt.Fprintf(out, "%v\n  unicast-ip%d-chain\n", r.Prefix, f)
	fmt.Fprintf(out, "  [@0]: dpo-load-balance: [proto:ip%d index:%d buckets:%d to:[%d:%d]]\n",
		f, r.StatsIndex, len(r.Paths), packets, bytes)
	for n, p := range r.Paths {
		fmt.Fprintf(out, "    [%d] %s", n, pathText(p, r.Prefix, names))
		if p.Weight > 1 {
			fmt.Fprintf(out, " weight %d", p.Weight)
		}
		if p.Preference > 0 {
			fmt.Fprintf(out, " preference %d", p.Preference)
		}
		out.WriteByte('\n')
	}
}

func pathText(p vnet.Path, to netip.Prefix, names map[uint32]string) string {
	f, name := familyOfAddr(to.Addr()), names[p.Interface]
	switch p.Type {
	case vnet.PathDrop:
		return fmt.Sprintf("dpo-drop ip%d", f)
	case vnet.PathUnreachable:
		return fmt.Sprintf("dpo-icmp unreachable ip%d", f)
	case vnet.PathProhibit:
		return fmt.Sprintf("dpo-icmp prohibited ip%d", f)
	case vnet.PathLocal:
		return strings.TrimSuffix(fmt.Sprintf("dpo-receive: %v on %s", to.Addr(), name), " on ")
	case vnet.PathDVR:
		return fmt.Sprintf("dvr-%s-dpo-l3", name)
	case vnet.PathIfRx:
		return "interface-rx-dpo: " + name
	}
	switch {
	case p.NextHop.IsValid() && p.Interface != vnet.NoIndex:
		return fmt.Sprintf("ipv%d via %v %s", familyOfAddr(p.NextHop), p.NextHop, name)
	case p.NextHop.IsValid():
		return fmt.Sprintf("via %v in table %d", p.NextHop, p.Table)
	case p.Interface != vnet.NoIndex:
		return fmt.Sprintf("ipv%d-glean: %s", f, name)
	default:
		return fmt.Sprintf("dst-address,unicast lookup in table %d", p.Table)
	}
}

func (s *Server) showNeighbors(args []string) (string, error) {
	return s.listNeighbors(args, vnet.IPv4, vnet.IPv6)
}
func (s *Server) showNeighbors4(args []string) (string, error) {
	return s.listNeighbors(args, vnet.IPv4)
}
func (s *Server) showNeighbors6(args []string) (string, error) {
	return s.listNeighbors(args, vnet.IPv6)
}

func (s *Server) listNeighbors(args []string, fs ...vnet.Family) (string, error) {
	index := vnet.NoIndex
	if len(args) > 0 {
		i, err := s.interfaceNamed(args[0])
		if err != nil {
			return "", err
		}
		index = i.Index
	}
	names := s.interfaceNames()
	var out strings.Builder
	for _, f := range fs {
		for _, n := range s.plane.Neighbors(f, index) {
			flags := "D"
			if n.Static {
				flags = "S"
			}
			if n.NoFIBEntry {
				flags += "N"
			}
			mac := fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", n.MAC[0], n.MAC[1], n.MAC[2], n.MAC[3], n.MAC[4], n.MAC[5])
			fmt.Fprintf(&out, "%s%s%s%s%s\n", center(strings.TrimPrefix(fmt.Sprintf("%.4f", n.Age), "0"), 12), center(n.Addr.String(), 40),
				center(flags, 6), center(mac, 20), names[n.Interface])
		}
	}
	if out.Len() == 0 {
		return "", nil
	}
	head := center("Age", 12) + center("IP", 40) + center("Flags", 6) + center("Ethernet", 20) + center("Interface", 24)
	return head + "\n" + out.String(), nil
}

func (s *Server) showNeighborConfig([]string) (string, error) {
	var out strings.Builder
	for _, f := range families() {
		c := s.plane.NeighborConfig(f)
		recycle := 0
		if c.Recycle {
			recycle = 1
		}
		fmt.Fprintf(&out, "ip%d:\n  limit:%d, age:%d, recycle:%d\n", f, c.MaxNumber, c.MaxAge, recycle)
	}
	return out.String(), nil
}

func (s *Server) showTables4([]string) (string, error) { return s.showTables(vnet.IPv4), nil }
func (s *Server) showTables6([]string) (string, error) { return s.showTables(vnet.IPv6), nil }

func (s *Server) showTables(f vnet.Family) string {
	var out strings.Builder
	for n, t := range s.plane.Tables(f) {
		fmt.Fprintf(&out, "[%d] table_id:%d %s\n", n, t.ID, tableTitle(t))
	}
	return out.String()
}
