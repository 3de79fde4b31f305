package program

import (
	"context"
	"strings"

	"go.fd.io/govpp/binapi/ip"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// observeTables finds tables by our mark in their name.
func (p *Program) observeTables(ctx context.Context, s *dataplane.State) error {
	for d, err := range vpp.Dump[ip.IPTableDetails](ctx, p.conn, &ip.IPTableDump{}) {
		if err != nil {
			return err
		}
		label, ours := strings.CutPrefix(d.Table.Name, p.id.Mark)
		if !ours || d.Table.TableID == 0 {
			continue
		}
		s.Put(dataplane.Table{Family: familyOf(d.Table.IsIP6), ID: d.Table.TableID, Label: label})
	}
	return nil
}

func familyOf(is6 bool) dataplane.Family {
	if is6 {
		return dataplane.IPv6
	}
	return dataplane.IPv4
}

func (p *Program) tableExchange(t dataplane.Table, add bool) vpp.Exchange {
	return vpp.Exchange{
		Request: &ip.IPTableAddDelV2{
			IsAdd:      add,
			Table:      ip.IPTable{TableID: t.ID, IsIP6: t.Family == dataplane.IPv6, Name: p.id.Mark + t.Label},
			CreateMfib: true,
		},
		Reply: &ip.IPTableAddDelV2Reply{},
	}
}
