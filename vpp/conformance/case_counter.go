package conformance

import (
	"context"
	"slices"
	"strings"

	"go.fd.io/govpp/adapter"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/ip"

	"github.com/millrace/millrace/vpp"
)

func counterCases() []Case {
	return []Case{
		{"counter-interfaces", interfaceCounters},
		{"counter-drops", dropCounters},
		{"counter-clear", clearCounters},
		{"counter-route", routeCounters},
		{"counter-entries", statEntries},
	}
}

func (s *Session) dialStats() *vpp.Stats {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(s.T.Context(), patience)
	defer cancel()
	stats, err := vpp.DialStats(ctx, s.stats)
	if err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(func() {
		if err := stats.Close(); err != nil {
			s.T.Error(err)
		}
	})
	return stats
}

// portCounters are the counters of the ports by name.
func (s *Session) portCounters(stats *vpp.Stats) map[string]vpp.InterfaceCounters {
	s.T.Helper()
	all, err := stats.Interfaces(s.T.Context())
	if err != nil {
		s.T.Fatal(err)
	}
	ports := map[string]vpp.InterfaceCounters{}
	for _, c := range all {
		if strings.HasPrefix(c.Name, "host-") || strings.HasPrefix(c.Name, "memif") {
			ports[c.Name] = c
		}
	}
	return ports
}

// counters writes down what the ports counted since from.
func (s *Session) counters(stats *vpp.Stats, from map[string]vpp.InterfaceCounters) {
	s.T.Helper()
	now := s.portCounters(stats)
	for _, p := range s.ports {
		c, f := now[p.Name], from[p.Name]
		s.Write("  %s rx %d packets %d bytes, tx %d packets %d bytes, drops %d punt %d ip4 %d ip6 %d rx-error %d tx-error %d", c.Name,
			c.RX.Packets-f.RX.Packets, c.RX.Bytes-f.RX.Bytes, c.TX.Packets-f.TX.Packets, c.TX.Bytes-f.TX.Bytes,
			c.Drops-f.Drops, c.Punt-f.Punt, c.IP4-f.IP4, c.IP6-f.IP6, c.RxError-f.RxError, c.TxError-f.TxError)
	}
}

// fourOnly keeps the machine from sending what its timers send.
func (s *Session) fourOnly() (a, b *Port) {
	s.T.Helper()
	a, b = s.Port(), s.Port()
	s.Must(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: a.Index, IsAdd: true, Prefix: withPrefix("10.0.1.1/24")})
	s.Must(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: b.Index, IsAdd: true, Prefix: withPrefix("10.0.2.1/24")})
	s.knows(a, "10.0.1.2")
	s.knows(b, "10.0.2.2")
	s.Drain()
	return a, b
}

func interfaceCounters(s *Session) {
	a, b := s.fourOnly()
	stats := s.dialStats()
	from := s.portCounters(stats)
	s.Note("five packets through")
	for range 5 {
		a.Send(a.udp("10.0.1.2", "10.0.2.2", 64, 100))
	}
	b.Receive(5)
	s.counters(stats, from)
	s.Note("an echo, an ARP question")
	a.Play(a.echo("10.0.1.2", "10.0.1.1", 64, 56), a, 1)
	a.Play(a.arp(1, "10.0.1.2", "10.0.1.1"), a, 1)
	s.counters(stats, from)
	s.Note("fragments: cut on the way out")
	s.Must(&interfaces.SwInterfaceSetMtu{SwIfIndex: b.Index, Mtu: []uint32{1280, 0, 0, 0}})
	from = s.portCounters(stats)
	a.Send(a.udp("10.0.1.2", "10.0.2.2", 64, 2000))
	b.Receive(2)
	s.counters(stats, from)
	s.Note("an ICMP error")
	from = s.portCounters(stats)
	a.Play(a.udp("10.0.1.2", "10.0.2.2", 1, 20), a, 1)
	s.counters(stats, from)
}

func clearCounters(s *Session) {
	a, b := s.fourOnly()
	stats := s.dialStats()
	a.Send(a.udp("10.0.1.2", "10.0.2.2", 64, 100))
	b.Receive(1)
	s.Call(&interfaces.SwInterfaceClearStats{SwIfIndex: a.Index})
	now := s.portCounters(stats)
	s.Write("  the first counts from 0: %v, the second goes on: %v", now[a.Name].RX.Packets == 0, now[b.Name].TX.Packets > 0)
	s.Call(&interfaces.SwInterfaceClearStats{SwIfIndex: none})
	s.counters(stats, nil)
	s.Call(&interfaces.SwInterfaceClearStats{SwIfIndex: missing})
}

// dropCounters: each dropped packet counts as a drop of the interface it came by.
func dropCounters(s *Session) {
	a, _ := s.fourOnly()
	stats := s.dialStats()
	s.Must(&ip.IPRouteAddDel{IsAdd: true, Route: route("20.0.0.0/8", drop())})
	send := func(name string, frame []byte) {
		s.Write("%s", name)
		before, from := s.errors(stats), s.portCounters(stats)
		a.Send(frame)
		a.Receive(0)
		s.counters(stats, from)
		counted := false
		for reason, n := range s.errors(stats) {
			counted = counted || n > before[reason]
		}
		s.Write("  counted with a reason: %v", counted)
	}
	bad := a.udp("10.0.1.2", "10.0.2.2", 64, 20)
	bad[14+10] ^= 0xff
	send("wrong checksum", bad)
	send("no route", a.udp("10.0.1.2", "99.0.0.1", 64, 20))
	send("a route to drop", a.udp("10.0.1.2", "20.0.0.1", 64, 20))
	other := a.udp("10.0.1.2", "10.0.2.2", 64, 20)
	other[5] ^= 0xff
	send("another's MAC", other)
}

// errors sums the error counters; names are a machine's own.
func (s *Session) errors(stats *vpp.Stats) map[string]uint64 {
	s.T.Helper()
	all, err := stats.Errors(s.T.Context())
	if err != nil {
		s.T.Fatal(err)
	}
	return all
}

// routeCounters: /net/route/to by the stats_index of the reply.
func routeCounters(s *Session) {
	a, b := s.fourOnly()
	reply := s.Must(&ip.IPRouteAddDel{IsAdd: true, Route: route("20.0.0.0/8", via("10.0.2.2", b.Index))}).(*ip.IPRouteAddDelReply)
	for range 3 {
		a.Send(a.udp("10.0.1.2", "20.0.0.1", 64, 100))
	}
	b.Receive(3)
	entries, err := s.dialStats().Entries(s.T.Context(), "^/net/route/to$")
	if err != nil {
		s.T.Fatal(err)
	}
	for _, e := range entries {
		var packets, bytes uint64
		for _, row := range e.Data.(adapter.CombinedCounterStat) {
			if int(reply.StatsIndex) < len(row) {
				packets += row[reply.StatsIndex].Packets()
				bytes += row[reply.StatsIndex].Bytes()
			}
		}
		s.Write("%s at the route's index: %d packets %d bytes", e.Name, packets, bytes)
	}
	for _, d := range s.Details(&ip.IPRouteV2Dump{}) {
		if d := d.(*ip.IPRouteV2Details); d.Route.Prefix == prefix("20.0.0.0/8") {
			s.Write("the dump has the same index: %v", d.Route.StatsIndex == reply.StatsIndex)
		}
	}
}

// statEntries: the names a monitor looks for.
func statEntries(s *Session) {
	s.Port()
	entries, err := s.dialStats().Entries(s.T.Context(), "^/if/", "^/sys/(heartbeat|last_stats_clear|boottime|num_worker_threads)$", "^/interfaces/host-m1/", "^/net/route/")
	if err != nil {
		s.T.Fatal(err)
	}
	var lines []string
	for _, e := range entries {
		if name := string(e.Name); !strings.HasSuffix(name, "/mpls") && name != "/net/route/via" {
			lines = append(lines, name+" "+string(e.Type))
		}
	}
	slices.Sort(lines)
	for _, l := range slices.Compact(lines) {
		s.Write("%s", l)
	}
}
