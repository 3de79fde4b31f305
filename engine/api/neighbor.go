package api

import (
	"net/netip"
	"slices"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/ethernet_types"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip_neighbor"

	"github.com/millrace/millrace/engine/vnet"
)

// neighborMessages are those of ip_neighbor.api.
func (s *Server) neighborMessages() []*entry {
	return slices.Concat(
		handle(s.ipNeighborAddDel),
		handleDump(s.ipNeighborDump),
		handle(s.ipNeighborFlush),
		handle(s.ipNeighborConfig),
		handle(s.ipNeighborConfigGet),
		handle(s.ipNeighborReplaceBegin),
		handle(s.ipNeighborReplaceEnd),
		handle(s.wantIPNeighborEventsV2),
	)
}

// ipNeighborAddDel's stats_index stays ~0: there are no counters per neighbour.
func (s *Server) ipNeighborAddDel(_ *session, q *ip_neighbor.IPNeighborAddDel, r *ip_neighbor.IPNeighborAddDelReply) error {
	r.StatsIndex = vnet.NoIndex
	if _, err := s.plane.Interface(uint32(q.Neighbor.SwIfIndex)); err != nil {
		return err
	}
	addr, err := addrOf(q.Neighbor.IPAddress)
	if err != nil {
		return err
	}
	n := vnet.Neighbor{
		Interface: uint32(q.Neighbor.SwIfIndex), Addr: addr, MAC: q.Neighbor.MacAddress,
		Static:     q.Neighbor.Flags&ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC != 0,
		NoFIBEntry: q.Neighbor.Flags&ip_neighbor.IP_API_NEIGHBOR_FLAG_NO_FIB_ENTRY != 0,
	}
	if !q.IsAdd {
		return s.plane.DelNeighbor(n)
	}
	if err := s.plane.AddNeighbor(n); err != nil {
		return err
	}
	s.marks.keep(neighborKey{n.Interface, n.Addr})
	return nil
}

func wireNeighbor(n vnet.Neighbor) ip_neighbor.IPNeighbor {
	w := ip_neighbor.IPNeighbor{
		SwIfIndex: interface_types.InterfaceIndex(n.Interface), IPAddress: wireAddr(n.Addr),
		MacAddress: ethernet_types.MacAddress(n.MAC),
	}
	if n.Static {
		w.Flags |= ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC
	}
	if n.NoFIBEntry {
		w.Flags |= ip_neighbor.IP_API_NEIGHBOR_FLAG_NO_FIB_ENTRY
	}
	return w
}

func (s *Server) ipNeighborDump(_ *session, q *ip_neighbor.IPNeighborDump, send func(*ip_neighbor.IPNeighborDetails)) {
	f, err := familyOf(q.Af)
	if err != nil {
		return
	}
	for _, n := range s.plane.Neighbors(f, uint32(q.SwIfIndex)) {
		send(&ip_neighbor.IPNeighborDetails{Age: n.Age, Neighbor: wireNeighbor(n)})
	}
}

func (s *Server) ipNeighborFlush(_ *session, q *ip_neighbor.IPNeighborFlush, _ *ip_neighbor.IPNeighborFlushReply) error {
	if uint32(q.SwIfIndex) != vnet.NoIndex {
		if _, err := s.plane.Interface(uint32(q.SwIfIndex)); err != nil {
			return err
		}
	}
	f, err := familyOf(q.Af)
	if err != nil {
		return err
	}
	return s.plane.FlushNeighbors(f, uint32(q.SwIfIndex))
}

func (s *Server) ipNeighborConfig(_ *session, q *ip_neighbor.IPNeighborConfig, _ *ip_neighbor.IPNeighborConfigReply) error {
	f, err := familyOf(q.Af)
	if err != nil {
		return err
	}
	return s.plane.SetNeighborConfig(f, vnet.NeighborConfig{MaxNumber: q.MaxNumber, MaxAge: q.MaxAge, Recycle: q.Recycle})
}

func (s *Server) ipNeighborConfigGet(_ *session, q *ip_neighbor.IPNeighborConfigGet, r *ip_neighbor.IPNeighborConfigGetReply) error {
	r.MaxNumber, r.MaxAge = vnet.NoIndex, vnet.NoIndex
	f, err := familyOf(q.Af)
	if err != nil {
		return err
	}
	c := s.plane.NeighborConfig(f)
	r.Af, r.MaxNumber, r.MaxAge, r.Recycle = wireFamily(f), c.MaxNumber, c.MaxAge, c.Recycle
	return nil
}

// ipNeighborReplaceBegin marks all neighbours; those that are not added again until
// ip_neighbor_replace_end go away then.
func (s *Server) ipNeighborReplaceBegin(_ *session, _ *ip_neighbor.IPNeighborReplaceBegin, _ *ip_neighbor.IPNeighborReplaceBeginReply) error {
	var marked []neighborKey
	for _, f := range families() {
		for _, n := range s.plane.Neighbors(f, vnet.NoIndex) {
			marked = append(marked, neighborKey{n.Interface, n.Addr})
		}
	}
	s.marks.set(marked)
	return nil
}

func (s *Server) ipNeighborReplaceEnd(_ *session, _ *ip_neighbor.IPNeighborReplaceEnd, _ *ip_neighbor.IPNeighborReplaceEndReply) error {
	stale := s.marks.take()
	for _, f := range families() {
		for _, n := range s.plane.Neighbors(f, vnet.NoIndex) {
			if !stale[neighborKey{n.Interface, n.Addr}] {
				continue
			}
			if err := s.plane.DelNeighbor(n); err != nil && err != error(api.NO_SUCH_ENTRY) {
				return err
			}
		}
	}
	return nil
}

// neighborWatch is one want_ip_neighbor_events_v2: an address, or any, on an interface,
// or any.
type neighborWatch struct {
	addr  netip.Addr // zero = any
	iface uint32     // NoIndex = any
	pid   uint32
}

func (w neighborWatch) wants(n vnet.Neighbor) bool {
	return (!w.addr.IsValid() || w.addr == n.Addr) && (w.iface == vnet.NoIndex || w.iface == n.Interface)
}

// wantIPNeighborEventsV2 takes the unspecified address for any. Enabling twice changes
// nothing, as in VPP.
func (s *Server) wantIPNeighborEventsV2(c *session, q *ip_neighbor.WantIPNeighborEventsV2, _ *ip_neighbor.WantIPNeighborEventsV2Reply) error {
	if uint32(q.SwIfIndex) != vnet.NoIndex {
		if _, err := s.plane.Interface(uint32(q.SwIfIndex)); err != nil {
			return err
		}
	}
	addr, err := addrOf(q.IP)
	if err != nil {
		return err
	}
	if addr.IsUnspecified() {
		addr = netip.Addr{}
	}
	c.eventsMu.Lock()
	defer c.eventsMu.Unlock()
	same := func(w neighborWatch) bool { return w.addr == addr && w.iface == uint32(q.SwIfIndex) }
	if !q.Enable {
		c.nbEvents = slices.DeleteFunc(c.nbEvents, same)
	} else if !slices.ContainsFunc(c.nbEvents, same) {
		c.nbEvents = append(c.nbEvents, neighborWatch{addr: addr, iface: uint32(q.SwIfIndex), pid: q.PID})
	}
	return nil
}

// neighborChanged tells those who want to know, each client once. It never blocks.
func (s *Server) neighborChanged(e vnet.NeighborEvent) {
	flags := ip_neighbor.IP_NEIGHBOR_API_EVENT_FLAG_ADDED
	if e.Removed {
		flags = ip_neighbor.IP_NEIGHBOR_API_EVENT_FLAG_REMOVED
	}
	s.everyone(func(c *session) {
		c.eventsMu.Lock()
		defer c.eventsMu.Unlock()
		for _, w := range c.nbEvents {
			if w.wants(e.Neighbor) {
				c.enqueue(s.neighborEvent, &ip_neighbor.IPNeighborEventV2{PID: w.pid, Flags: flags, Neighbor: wireNeighbor(e.Neighbor)})
				return
			}
		}
	})
}
