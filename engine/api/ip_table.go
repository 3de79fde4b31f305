package api

import (
	"math/rand/v2"
	"slices"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/ip"

	"github.com/millrace/millrace/engine/vnet"
)

// tableMessages are those of ip.api about tables.
func (s *Server) tableMessages() []*entry {
	return slices.Concat(
		handle(s.ipTableAddDel),
		handle(s.ipTableAddDelV2),
		handle(s.ipTableAllocate),
		handleDump(s.ipTableDump),
		handle(s.ipTableFlush),
	)
}

func tableOf(t ip.IPTable) vnet.Table {
	return vnet.Table{ID: t.TableID, Family: familyFlag(t.IsIP6), Name: t.Name}
}

func (s *Server) ipTableAddDel(_ *session, q *ip.IPTableAddDel, _ *ip.IPTableAddDelReply) error {
	return s.editTable(q.IsAdd, q.Table)
}

func (s *Server) ipTableAddDelV2(_ *session, q *ip.IPTableAddDelV2, _ *ip.IPTableAddDelV2Reply) error {
	return s.editTable(q.IsAdd, q.Table)
}

// editTable ignores table 0, which is always there, and as VPP lets a missing table be
// deleted.
func (s *Server) editTable(add bool, t ip.IPTable) error {
	switch {
	case t.TableID == 0:
		return nil
	case add:
		return s.plane.AddTable(tableOf(t))
	case !s.hasTable(t.TableID, familyFlag(t.IsIP6)):
		return nil
	default:
		return s.plane.DelTable(tableOf(t))
	}
}

func (s *Server) hasTable(id uint32, f vnet.Family) bool {
	return slices.ContainsFunc(s.plane.Tables(f), func(t vnet.Table) bool { return t.ID == id })
}

// ipTableAllocate makes the table of the given id, or of an unused one for ~0.
func (s *Server) ipTableAllocate(_ *session, q *ip.IPTableAllocate, r *ip.IPTableAllocateReply) error {
	r.Table = q.Table
	if q.Table.TableID == vnet.NoIndex {
		used := map[uint32]bool{0: true, vnet.NoIndex: true}
		for _, t := range s.plane.Tables(familyFlag(q.Table.IsIP6)) {
			used[t.ID] = true
		}
		for used[r.Table.TableID] {
			r.Table.TableID = rand.Uint32()
		}
	}
	return s.editTable(true, r.Table)
}

func (s *Server) ipTableDump(_ *session, _ *ip.IPTableDump, send func(*ip.IPTableDetails)) {
	for _, f := range families() {
		for _, t := range s.plane.Tables(f) {
			send(&ip.IPTableDetails{Table: ip.IPTable{TableID: t.ID, IsIP6: f == vnet.IPv6, Name: t.Name}})
		}
	}
}

// ipTableFlush also takes the table's interfaces down, as VPP.
func (s *Server) ipTableFlush(_ *session, q *ip.IPTableFlush, _ *ip.IPTableFlushReply) error {
	t := tableOf(q.Table)
	if !s.hasTable(t.ID, t.Family) {
		return api.NO_SUCH_FIB
	}
	for i := range s.plane.Interfaces() {
		bound := i.Table4
		if t.Family == vnet.IPv6 {
			bound = i.Table6
		}
		if bound != t.ID || !i.AdminUp {
			continue
		}
		if err := s.plane.SetAdminUp(i.Index, false); err != nil {
			return err
		}
	}
	return s.plane.FlushTable(t)
}
