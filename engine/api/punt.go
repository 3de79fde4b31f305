package api

import (
	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/ip_types"
	"go.fd.io/govpp/binapi/punt"
)

// puntMessages are those of punt.api that need no socket.
func (s *Server) puntMessages() []*entry { return handle(s.setPunt) }

// allPorts is the port of a punt that means every port without a listener.
const allPorts = 0xffff

// setPunt says which packets for the machine itself are handed on rather than answered.
// A single UDP port is UNIMPLEMENTED; protocols of IP are UNSPECIFIED, as they are in VPP.
func (s *Server) setPunt(_ *session, q *punt.SetPunt, _ *punt.SetPuntReply) error {
	switch q.Punt.Type {
	case punt.PUNT_API_TYPE_L4:
		return s.setPuntL4(q.Punt.Punt.GetL4(), q.IsAdd)
	case punt.PUNT_API_TYPE_IP_PROTO:
		p := q.Punt.Punt.GetIPProto()
		if _, err := familyOf(p.Af); err != nil {
			return err
		}
		if !assigned(p.Protocol) {
			return api.INVALID_PROTOCOL
		}
		return api.UNSPECIFIED
	default:
		// Exceptions, too: their reasons are registered by VPP's plugins, and here are none.
		return api.UNSPECIFIED
	}
}

func (s *Server) setPuntL4(l punt.PuntL4, add bool) error {
	f, err := familyOf(l.Af)
	switch {
	case err != nil:
		return err
	case !assigned(l.Protocol):
		return api.INVALID_PROTOCOL
	case l.Protocol == ip_types.IP_API_PROTO_TCP && l.Port == allPorts:
		return nil // all TCP is handed on anyway: nobody here listens
	case l.Protocol != ip_types.IP_API_PROTO_UDP:
		return api.UNSPECIFIED
	case l.Port == allPorts:
		return s.plane.SetPuntUDP(f, add)
	case add:
		return api.UNIMPLEMENTED
	default:
		return nil // VPP, too, removes a port that was never added
	}
}

// assigned tells whether VPP knows an IP protocol by name: it lacks the private and local
// ones of IANA's registry, and those not assigned.
func assigned(p ip_types.IPProto) bool {
	switch p {
	case 61, 63, 68, 99, 114:
		return false
	}
	return p < 144 || p > 252
}
