package conformance

import (
	"net"

	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/ip_neighbor"
	"go.fd.io/govpp/binapi/ip_types"

	"github.com/millrace/millrace/vpp"
)

func neighborCases() []Case {
	return []Case{
		{"neighbor-add-del", neighbors},
		{"neighbor-routes", neighborRoutes},
		{"neighbor-events", neighborEvents},
		{"neighbor-flush-replace", neighborFlush},
		{"neighbor-config", neighborConfig},
	}
}

func neighbor(index interfaceIndex, addr string, hw net.HardwareAddr, flags ip_neighbor.IPNeighborFlags) ip_neighbor.IPNeighbor {
	return ip_neighbor.IPNeighbor{SwIfIndex: index, Flags: flags, MacAddress: mac(hw), IPAddress: address(addr)}
}

func (s *Session) addNeighbor(n ip_neighbor.IPNeighbor) {
	s.T.Helper()
	s.Call(&ip_neighbor.IPNeighborAddDel{IsAdd: true, Neighbor: n})
}

func (s *Session) neighbors() {
	s.T.Helper()
	s.Dump(&ip_neighbor.IPNeighborDump{SwIfIndex: none})
	s.Dump(&ip_neighbor.IPNeighborDump{SwIfIndex: none, Af: ip_types.ADDRESS_IP6})
}

func neighbors(s *Session) {
	a, b := net.HardwareAddr{2, 9, 9, 9, 9, 1}, net.HardwareAddr{2, 9, 9, 9, 9, 2}
	p := s.Port()
	s.addAddress(p.Index, "10.0.0.1/24")
	s.addAddress(p.Index, "fd00::1/64")
	s.neighbors()
	s.Note("dynamic by the API, static, without a route")
	s.addNeighbor(neighbor(p.Index, "10.0.0.2", a, 0))
	s.addNeighbor(neighbor(p.Index, "10.0.0.3", a, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC))
	s.addNeighbor(neighbor(p.Index, "10.0.0.4", a, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC|ip_neighbor.IP_API_NEIGHBOR_FLAG_NO_FIB_ENTRY))
	s.addNeighbor(neighbor(p.Index, "fd00::2", a, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC))
	s.neighbors()
	s.Note("again, with another MAC; a dynamic one does not move a static one")
	s.addNeighbor(neighbor(p.Index, "10.0.0.3", b, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC))
	s.addNeighbor(neighbor(p.Index, "10.0.0.4", b, 0))
	s.addNeighbor(neighbor(p.Index, "10.0.0.2", b, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC))
	s.neighbors()
	s.Note("odd ones: off the subnet, our own address, multicast MAC, zero MAC, another interface")
	s.addNeighbor(neighbor(p.Index, "99.0.0.1", a, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC))
	s.addNeighbor(neighbor(p.Index, "10.0.0.1", a, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC))
	s.addNeighbor(neighbor(p.Index, "10.0.0.9", net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC))
	s.addNeighbor(neighbor(p.Index, "10.0.0.8", net.HardwareAddr{0, 0, 0, 0, 0, 0}, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC))
	s.addNeighbor(neighbor(missing, "10.0.0.2", a, 0))
	s.addNeighbor(neighbor(0, "10.0.0.2", a, 0))
	s.Dump(&ip_neighbor.IPNeighborDump{SwIfIndex: p.Index})
	s.Dump(&ip_neighbor.IPNeighborDump{SwIfIndex: missing})
	s.Dump(&ip_neighbor.IPNeighborDump{})
	s.Note("deletion: the MAC does not matter; again; of another interface")
	s.Call(&ip_neighbor.IPNeighborAddDel{Neighbor: neighbor(p.Index, "10.0.0.2", a, 0)})
	s.Call(&ip_neighbor.IPNeighborAddDel{Neighbor: neighbor(p.Index, "10.0.0.2", a, 0)})
	s.Call(&ip_neighbor.IPNeighborAddDel{Neighbor: neighbor(missing, "10.0.0.3", a, 0)})
	s.neighbors()
	s.Note("the interface goes down")
	s.Call(&interfaces.SwInterfaceSetFlags{SwIfIndex: p.Index})
	s.neighbors()
}

// neighborRoutes shows that a neighbour on its subnet is a host route.
func neighborRoutes(s *Session) {
	p := s.Port()
	s.addAddress(p.Index, "10.0.0.1/24")
	s.addNeighbor(neighbor(p.Index, "10.0.0.2", p.Peer, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC))
	s.addNeighbor(neighbor(p.Index, "10.0.0.3", p.Peer, ip_neighbor.IP_API_NEIGHBOR_FLAG_NO_FIB_ENTRY))
	s.routes(0, false)
	s.Note("the address goes, the neighbour with it or not")
	s.delAddress(p.Index, "10.0.0.1/24")
	s.neighbors()
	s.routes(0, false)
	s.addAddress(p.Index, "10.0.0.1/24")
	s.routes(0, false)
	s.Note("a neighbour before the address")
	s.addNeighbor(neighbor(p.Index, "10.7.0.2", p.Peer, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC))
	s.routes(0, false)
}

func neighborEvents(s *Session) {
	p := s.Port()
	s.addAddress(p.Index, "10.0.0.1/24")
	s.Drain()
	sub, err := vpp.Subscribe[ip_neighbor.IPNeighborEventV2](s.Conn)
	if err != nil {
		s.T.Fatal(err)
	}
	s.Call(&ip_neighbor.WantIPNeighborEventsV2{Enable: true, PID: 7, SwIfIndex: none})
	s.Call(&ip_neighbor.WantIPNeighborEventsV2{Enable: true, PID: 7, SwIfIndex: none})
	s.Note("learnt on the wire, changed, deleted")
	p.Play(p.arp(1, "10.0.0.2", "10.0.0.1"), p, 1)
	events(s, sub.Events(), 1)
	s.addNeighbor(neighbor(p.Index, "10.0.0.3", p.Peer, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC))
	events(s, sub.Events(), 1)
	s.addNeighbor(neighbor(p.Index, "10.0.0.3", net.HardwareAddr{2, 9, 9, 9, 9, 9}, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC))
	events(s, sub.Events(), 1)
	s.Call(&ip_neighbor.IPNeighborAddDel{Neighbor: neighbor(p.Index, "10.0.0.3", p.Peer, 0)})
	events(s, sub.Events(), 1)
	s.Call(&ip_neighbor.WantIPNeighborEventsV2{PID: 7, SwIfIndex: none})
	s.addNeighbor(neighbor(p.Index, "10.0.0.3", p.Peer, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC))
	events(s, sub.Events(), 0)
}

func neighborFlush(s *Session) {
	p := s.Port()
	s.addAddress(p.Index, "10.0.0.1/24")
	s.addNeighbor(neighbor(p.Index, "10.0.0.2", p.Peer, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC))
	s.addNeighbor(neighbor(p.Index, "10.0.0.3", p.Peer, 0))
	s.Call(&ip_neighbor.IPNeighborFlush{SwIfIndex: none})
	s.neighbors()
	s.Call(&ip_neighbor.IPNeighborFlush{SwIfIndex: missing})
	s.Note("mark and sweep")
	s.addNeighbor(neighbor(p.Index, "10.0.0.2", p.Peer, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC))
	s.addNeighbor(neighbor(p.Index, "10.0.0.3", p.Peer, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC))
	s.Call(&ip_neighbor.IPNeighborReplaceBegin{})
	s.addNeighbor(neighbor(p.Index, "10.0.0.3", p.Peer, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC))
	s.Call(&ip_neighbor.IPNeighborReplaceEnd{})
	s.neighbors()
}

func neighborConfig(s *Session) {
	for _, af := range []ip_types.AddressFamily{ip_types.ADDRESS_IP4, ip_types.ADDRESS_IP6} {
		s.Call(&ip_neighbor.IPNeighborConfigGet{Af: af})
	}
	s.Call(&ip_neighbor.IPNeighborConfig{MaxNumber: 2, MaxAge: 0})
	s.Call(&ip_neighbor.IPNeighborConfigGet{})
	s.Note("above the limit")
	p := s.Port()
	s.addAddress(p.Index, "10.0.0.1/24")
	for _, a := range []string{"10.0.0.2", "10.0.0.3", "10.0.0.4"} {
		s.addNeighbor(neighbor(p.Index, a, p.Peer, 0))
	}
	s.addNeighbor(neighbor(p.Index, "10.0.0.5", p.Peer, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC))
	s.neighbors()
	s.Note("with recycling")
	s.Call(&ip_neighbor.IPNeighborConfig{MaxNumber: 2, Recycle: true})
	s.addNeighbor(neighbor(p.Index, "10.0.0.6", p.Peer, 0))
	s.neighbors()
}
