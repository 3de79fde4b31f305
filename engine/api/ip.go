package api

import (
	"maps"
	"slices"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip"

	"github.com/millrace/millrace/engine/vnet"
)

// ipMessages are those of ip.api about flow hash, path MTU and punt.
func (s *Server) ipMessages() []*entry {
	return slices.Concat(
		handle(s.setIPFlowHashV2),
		handle(s.setIPFlowHashV3),
		handle(s.ipPathMtuUpdate),
		handle(s.addDelIPPuntRedirectV2),
		handleDump(s.ipPuntRedirectV2Dump),
	)
}

func (s *Server) setIPFlowHashV2(_ *session, q *ip.SetIPFlowHashV2, _ *ip.SetIPFlowHashV2Reply) error {
	f, err := familyOf(q.Af)
	if err != nil {
		return err
	}
	return s.setFlowHash(q.TableID, f, uint32(q.FlowHashConfig))
}

func (s *Server) setIPFlowHashV3(_ *session, q *ip.SetIPFlowHashV3, _ *ip.SetIPFlowHashV3Reply) error {
	f, err := familyOf(q.Af)
	if err != nil {
		return err
	}
	return s.setFlowHash(q.TableID, f, uint32(q.FlowHashConfig))
}

func (s *Server) setFlowHash(table uint32, f vnet.Family, config uint32) error {
	if !s.hasTable(table, f) {
		return api.NO_SUCH_FIB
	}
	return s.plane.SetFlowHash(vnet.Table{ID: table, Family: f}, config)
}

// ipPathMtuUpdate removes the entry with a path_mtu of 0.
func (s *Server) ipPathMtuUpdate(_ *session, q *ip.IPPathMtuUpdate, _ *ip.IPPathMtuUpdateReply) error {
	next, err := addrOf(q.Pmtu.Nh)
	if err != nil {
		return err
	}
	if !s.hasTable(q.Pmtu.TableID, familyOfAddr(next)) {
		return api.NO_SUCH_TABLE
	}
	return s.plane.SetPathMTU(q.Pmtu.TableID, next, q.Pmtu.PathMtu)
}

// addDelIPPuntRedirectV2 takes an rx interface of ~0 for all that have none of their own.
func (s *Server) addDelIPPuntRedirectV2(_ *session, q *ip.AddDelIPPuntRedirectV2, _ *ip.AddDelIPPuntRedirectV2Reply) error {
	f, err := familyOf(q.Punt.Af)
	if err != nil {
		return err
	}
	paths, err := s.pathsOf(q.Punt.Paths)
	if err != nil {
		return err
	}
	rx := uint32(q.Punt.RxSwIfIndex)
	if !q.IsAdd {
		paths = nil
	} else if len(paths) == 0 {
		return api.INVALID_VALUE
	}
	s.settings.mu.Lock()
	defer s.settings.mu.Unlock()
	if err := s.plane.SetPuntRedirect(rx, f, paths); err != nil {
		return err
	}
	key := puntKey{f, rx}
	if delete(s.settings.punt, key); q.IsAdd {
		s.settings.punt[key] = paths
	}
	return nil
}

func (s *Server) ipPuntRedirectV2Dump(_ *session, q *ip.IPPuntRedirectV2Dump, send func(*ip.IPPuntRedirectV2Details)) {
	f, err := familyOf(q.Af)
	if err != nil {
		return
	}
	s.settings.mu.Lock()
	defer s.settings.mu.Unlock()
	for _, key := range slices.SortedFunc(maps.Keys(s.settings.punt), comparePunt) {
		if key.family != f || uint32(q.SwIfIndex) != vnet.NoIndex && uint32(q.SwIfIndex) != key.rx {
			continue
		}
		paths := s.settings.punt[key]
		send(&ip.IPPuntRedirectV2Details{Punt: ip.PuntRedirectV2{
			RxSwIfIndex: interface_types.InterfaceIndex(key.rx), Af: wireFamily(f),
			NPaths: uint32(len(paths)), Paths: wirePaths(paths, f),
		}})
	}
}
