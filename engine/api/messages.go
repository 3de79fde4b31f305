package api

import (
	"slices"

	"go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/ip_neighbor"
	"go.fd.io/govpp/binapi/memclnt"
)

// messages is the message table, in the order in which clients get it.
func (s *Server) messages() []*entry {
	// GoVPP takes the last name that begins with sockclnt_delete_ for the request, and
	// that of the reply does, too: the request must stand behind it.
	enter := s.sockclntCreateEntries()
	leave := handle(s.sockclntDelete)
	s.leave = leave[0]
	slices.Reverse(leave)

	s.ifEvent = entryOf[interfaces.SwInterfaceEvent]()
	s.neighborEvent = entryOf[ip_neighbor.IPNeighborEventV2]()
	return slices.Concat(enter, leave, []*entry{s.ifEvent, s.neighborEvent},
		s.processMessages(),
		s.interfaceMessages(),
		s.loopbackMessages(),
		s.addressMessages(),
		s.tapMessages(),
		s.afPacketMessages(),
		s.afXDPMessages(),
		s.memifMessages(),
		s.tableMessages(),
		s.fibMessages(),
		s.routeMessages(),
		s.ipMessages(),
		s.puntMessages(),
		s.neighborMessages(),
		s.arpMessages(),
		s.urpfMessages(),
		s.aclMessages(),
		s.vxlanMessages(),
		s.featureMessages(),
		s.cnatMessages(),
	)
}

// sockclntCreateEntries are the handshake. Their kinds are odd: the request counts as a
// reply, the reply as a request.
func (s *Server) sockclntCreateEntries() []*entry {
	request, reply := entryOf[memclnt.SockclntCreate](), entryOf[memclnt.SockclntCreateReply]()
	request.serve = func(c *session, fields []byte, context uint32) {
		q := new(memclnt.SockclntCreate)
		if !c.decode(request, fields, q) {
			return
		}
		if c.index == 0 {
			s.mu.Lock()
			s.last++
			c.index = s.last
			s.mu.Unlock()
		}
		c.name = q.Name
		r := &memclnt.SockclntCreateReply{Index: c.index, Count: uint16(len(s.table.entries))}
		for _, e := range s.table.entries {
			r.MessageTable = append(r.MessageTable, memclnt.MessageTableEntry{Index: e.id, Name: e.name})
		}
		c.send(reply, r, context, 0)
	}
	return []*entry{request, reply}
}

// sockclntDelete lets a client go. VPP answers 1, not 0.
func (s *Server) sockclntDelete(_ *session, _ *memclnt.SockclntDelete, r *memclnt.SockclntDeleteReply) error {
	r.Response = 1
	return nil
}
