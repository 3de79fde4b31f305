package conformance

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/google/gopacket/layers"
	"go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_types"
	binapi "go.fd.io/govpp/binapi/memif"

	"github.com/millrace/millrace/memif"
)

const (
	ethernetMode = binapi.MEMIF_MODE_API_ETHERNET
	ipMode       = binapi.MEMIF_MODE_API_IP
)

// memifForwardEthernet forwards from a master to a slave and back.
func memifForwardEthernet(s *Session) {
	a, b := s.addressed(s.Memif(master, ethernetMode), s.Memif(slave, ethernetMode))
	s.knows(a, "10.0.1.2", "fd00:1::2")
	s.knows(b, "10.0.2.2", "fd00:2::2")
	s.memifTraffic(a, b)
	s.Note("a frame for another station, an unknown type")
	other := a.udp("10.0.1.2", "10.0.2.2", 64, 20)
	other[5]++
	a.Play(other, b, 0)
	a.Play(build(a.ether(0x88b5), payload(50)), b, 0)
}

// memifTraffic plays what is the same in both modes.
func (s *Session) memifTraffic(a, b *Port) {
	s.T.Helper()
	s.Note("both families, both ways")
	a.Play(a.udp("10.0.1.2", "10.0.2.2", 64, 20), b, 1)
	b.Play(b.udp("10.0.2.2", "10.0.1.2", 64, 20), a, 1)
	a.Play(a.udp("fd00:1::2", "fd00:2::2", 64, 20), b, 1)
	b.Play(b.udp("fd00:2::2", "fd00:1::2", 64, 20), a, 1)
	s.Note("sizes: over one buffer, over several, up to the MTU")
	for _, n := range []int{0, 1, 1472, 2006, 2020, 4000, 8972} {
		a.Play(a.udp("10.0.1.2", "10.0.2.2", 64, n), b, 1)
		b.Play(b.udp("10.0.2.2", "10.0.1.2", 64, n), a, 1)
	}
	s.Note("too long for the way: fragments, and errors where it may not be cut")
	s.Must(&interfaces.SwInterfaceSetMtu{SwIfIndex: b.Index, Mtu: []uint32{1500, 0, 0, 0}})
	a.Play(a.udp("10.0.1.2", "10.0.2.2", 64, 3000), b, 3)
	h := ip4("10.0.1.2", "10.0.2.2", 64, layers.IPProtocolUDP)
	h.Flags = layers.IPv4DontFragment
	a.Play(build(a.ether(layers.EthernetTypeIPv4), h, &layers.UDP{SrcPort: 1, DstPort: 2}, payload(3000)), a, 1)
	a.Play(a.udp("fd00:1::2", "fd00:2::2", 64, 3000), a, 1)
	s.Note("for us: echoes; TTL")
	a.Play(a.echo("10.0.1.2", "10.0.1.1", 64, 56), a, 1)
	a.Play(a.echo("10.0.1.2", "10.0.1.1", 64, 4000), a, 1)
	b.Play(b.echo("fd00:2::2", "fd00:2::1", 64, 56), b, 1)
	a.Play(a.udp("10.0.1.2", "10.0.2.2", 1, 20), a, 1)
}

// memifForwardIP is the same without Ethernet.
func memifForwardIP(s *Session) {
	a, b := s.addressed(s.Memif(slave, ipMode), s.Memif(master, ipMode))
	s.memifTraffic(a, b)
	s.Note("addresses beyond the subnet: by a next hop, and without")
	s.Call(&ip.IPRouteAddDel{IsAdd: true, Route: route("10.8.0.0/16", via("10.0.2.9", b.Index))})
	s.Call(&ip.IPRouteAddDel{IsAdd: true, Route: route("10.9.0.0/16", via("0.0.0.0", b.Index))})
	a.Play(a.udp("10.0.1.2", "10.8.0.1", 64, 20), b, 1)
	a.Play(a.udp("10.0.1.2", "10.9.0.1", 64, 20), b, 1)
	s.Note("what is no IP packet")
	a.Play(append(make([]byte, 14), 0x50, 1, 2, 3, 4), b, 0)
	a.Play(append(make([]byte, 14), make([]byte, 60)...), b, 0)
	s.Note("a neighbour on an interface without Ethernet")
	s.Call(neighborAdd(b, "10.0.2.7"))
	s.neighbors()
	a.Play(a.udp("10.0.1.2", "10.0.2.7", 64, 20), b, 1)
}

// memifNeighbors learns by ARP and ND, and asks.
func memifNeighbors(s *Session) {
	a, b := s.addressed(s.Memif(master, ethernetMode), s.Memif(slave, ethernetMode))
	s.Drain()
	s.Note("questions for us")
	a.Play(a.arp(1, "10.0.1.2", "10.0.1.1"), a, 1)
	a.Play(a.solicit("fd00:1::2", "fd00:1::1"), a, 1)
	s.neighbors()
	s.Note("a question of ours, and its answer")
	a.Play(a.udp("10.0.1.2", "10.0.2.2", 64, 20), b, 1)
	b.Play(b.arp(2, "10.0.2.2", "10.0.2.1"), b, 0)
	a.Play(a.udp("10.0.1.2", "10.0.2.2", 64, 20), b, 1)
	a.Play(a.udp("fd00:1::2", "fd00:2::2", 64, 20), b, 1)
	b.Play(b.advertise("fd00:2::2", "fd00:2::1"), b, 0)
	a.Play(a.udp("fd00:1::2", "fd00:2::2", 64, 20), b, 1)
	s.neighbors()
}

// memifLinkLoss shows what is left of an interface whose peer has gone, and that all works
// again when it comes back.
func memifLinkLoss(s *Session) {
	a, b := s.addressed(s.Memif(master, ethernetMode), s.Memif(master, ethernetMode))
	s.knows(a, "10.0.1.2")
	s.knows(b, "10.0.2.3")
	s.Must(&ip.IPRouteAddDel{IsAdd: true, Route: route("10.7.0.0/16", via("10.0.2.2", b.Index))})
	a.Play(a.udp("10.0.1.2", "10.0.2.2", 64, 20), b, 1)
	b.Play(b.arp(2, "10.0.2.2", "10.0.2.1"), b, 0)
	show := func() {
		s.neighbors()
		var lines []string
		for _, d := range s.Details(&ip.IPRouteDump{}) {
			r := d.(*ip.IPRouteDetails).Route
			if a := r.Prefix.Address.Un.GetIP4(); a[1] == 7 || a[2] == 2 {
				lines = append(lines, fmt.Sprintf("  %s %s", masked(r.Prefix), describeValue(reflect.ValueOf(r.Paths))))
			}
		}
		slices.Sort(lines)
		s.Write("%s", strings.Join(lines, "\n"))
	}
	show()
	s.Note("the peer goes")
	b.cable.(*memifPeer).end()
	s.link(b.Index, false)
	show()
	a.Play(a.udp("10.0.1.2", "10.0.2.2", 64, 20), a, 0)
	a.Play(a.udp("10.0.1.2", "10.7.0.1", 64, 20), a, 0)
	a.Play(a.udp("10.0.1.2", "10.0.2.3", 64, 20), a, 0)
	a.Play(a.echo("10.0.1.2", "10.0.2.1", 64, 20), a, 1)
	s.Note("it comes back")
	peer := s.peer(memif.Client, "m2.sock", memif.Config{ID: 2})
	peer.up(s)
	b.cable = peer
	s.link(b.Index, true)
	show()
	a.Play(a.udp("10.0.1.2", "10.0.2.2", 64, 20), b, 1)
	a.Play(a.udp("10.0.1.2", "10.7.0.1", 64, 20), b, 1)
	a.Play(a.udp("10.0.1.2", "10.0.2.3", 64, 20), b, 1)
	s.Note("admin down and up: learned neighbours go")
	s.Call(&interfaces.SwInterfaceSetFlags{SwIfIndex: b.Index})
	show()
	s.Call(&interfaces.SwInterfaceSetFlags{SwIfIndex: b.Index, Flags: adminUp})
	show()
	s.Drain() // whether a lost next hop is asked for at once is the machine's choice
	a.Play(a.udp("10.0.1.2", "10.0.2.3", 64, 20), b, 1)
}

// memifWired forwards between a memif and a link with a kernel's driver.
func memifWired(s *Session) {
	a, b := s.addressed(s.Port(), s.Memif(master, ipMode))
	s.knows(a, "10.0.1.2", "fd00:1::2")
	a.Play(a.udp("10.0.1.2", "10.0.2.2", 64, 20), b, 1)
	b.Play(b.udp("10.0.2.2", "10.0.1.2", 64, 20), a, 1)
	a.Play(a.udp("fd00:1::2", "fd00:2::2", 64, 5000), b, 1)
	b.Play(b.udp("fd00:2::2", "fd00:1::2", 64, 5000), a, 1)
}

func memifCounters(s *Session) {
	a, b := s.Memif(master, ethernetMode), s.Memif(slave, ipMode)
	s.Must(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: a.Index, IsAdd: true, Prefix: withPrefix("10.0.1.1/24")})
	s.Must(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: b.Index, IsAdd: true, Prefix: withPrefix("10.0.2.1/24")})
	s.knows(a, "10.0.1.2")
	s.Drain()
	stats := s.dialStats()
	from := s.portCounters(stats)
	s.Note("five packets there, one back")
	for range 5 {
		a.Send(a.udp("10.0.1.2", "10.0.2.2", 64, 100))
	}
	b.Receive(5)
	b.Send(b.udp("10.0.2.2", "10.0.1.2", 64, 3000))
	a.Receive(1)
	s.counters(stats, from)
	s.Note("an echo, an ARP question, a packet to nowhere")
	a.Play(a.echo("10.0.1.2", "10.0.1.1", 64, 56), a, 1)
	a.Play(a.arp(1, "10.0.1.2", "10.0.1.1"), a, 1)
	a.Play(a.udp("10.0.1.2", "99.0.0.1", 64, 100), a, 0)
	s.counters(stats, from)
	s.Note("without a link")
	b.cable.(*memifPeer).end()
	s.link(b.Index, false)
	a.Send(a.udp("10.0.1.2", "10.0.2.2", 64, 100))
	a.Receive(0)
	s.counters(stats, from)
	s.Call(&ip.IPRouteLookup{Prefix: ip_types.Prefix{Address: address("10.0.2.2"), Len: 32}})
}
