package api

import (
	"maps"
	"slices"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/urpf"

	"github.com/millrace/millrace/engine/vnet"
)

// urpfMessages are those of urpf.api.
func (s *Server) urpfMessages() []*entry {
	return slices.Concat(
		handle(s.urpfUpdate),
		handle(s.urpfUpdateV2),
		handleDump(s.urpfInterfaceDump),
	)
}

// urpfUpdate looks up in table 0, as VPP's first version does.
func (s *Server) urpfUpdate(_ *session, q *urpf.UrpfUpdate, _ *urpf.UrpfUpdateReply) error {
	return s.setURPF(&urpf.UrpfUpdateV2{IsInput: q.IsInput, Mode: q.Mode, Af: q.Af, SwIfIndex: q.SwIfIndex})
}

func (s *Server) urpfUpdateV2(_ *session, q *urpf.UrpfUpdateV2, _ *urpf.UrpfUpdateV2Reply) error {
	return s.setURPF(q)
}

func (s *Server) setURPF(q *urpf.UrpfUpdateV2) error {
	index := uint32(q.SwIfIndex)
	if _, err := s.plane.Interface(index); err != nil {
		return err
	}
	if q.Mode > urpf.URPF_API_MODE_STRICT {
		return api.INVALID_VALUE
	}
	f, err := familyOf(q.Af)
	if err != nil {
		return err
	}
	if q.TableID != vnet.NoIndex && !s.hasTable(q.TableID, f) {
		return api.INVALID_VALUE
	}
	s.settings.mu.Lock()
	defer s.settings.mu.Unlock()
	mode := vnet.URPFMode(q.Mode)
	if err := s.plane.SetURPF(index, f, q.IsInput, mode, q.TableID); err != nil {
		return err
	}
	key := urpfKey{index, f, q.IsInput}
	if mode == vnet.URPFOff && q.TableID == vnet.NoIndex {
		delete(s.settings.urpf, key)
	} else {
		s.settings.urpf[key] = urpfSetting{mode, q.TableID}
	}
	return nil
}

func (s *Server) urpfInterfaceDump(_ *session, q *urpf.UrpfInterfaceDump, send func(*urpf.UrpfInterfaceDetails)) {
	s.settings.mu.Lock()
	set := maps.Clone(s.settings.urpf)
	s.settings.mu.Unlock()
	for _, key := range slices.SortedFunc(maps.Keys(set), compareURPF) {
		if uint32(q.SwIfIndex) != vnet.NoIndex && uint32(q.SwIfIndex) != key.index {
			continue
		}
		table := set[key].table
		if table == vnet.NoIndex {
			i, err := s.plane.Interface(key.index)
			if err != nil {
				continue // deleted meanwhile
			}
			if table = i.Table4; key.family == vnet.IPv6 {
				table = i.Table6
			}
		}
		send(&urpf.UrpfInterfaceDetails{
			SwIfIndex: interface_types.InterfaceIndex(key.index), IsInput: key.input,
			Mode: urpf.UrpfMode(set[key].mode), Af: wireFamily(key.family), TableID: table,
		})
	}
}
