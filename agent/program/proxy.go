package program

import (
	"context"
	"errors"
	"net/netip"

	"go.fd.io/govpp/binapi/arp"
	"go.fd.io/govpp/binapi/interface_types"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// observeProxies takes the ranges of our tables, and the interfaces of ours that answer.
func (p *Program) observeProxies(ctx context.Context, s *dataplane.State) error {
	for d, err := range vpp.Dump[arp.ProxyArpDetails](ctx, p.conn, &arp.ProxyArpDump{}) {
		if errors.Is(err, vpp.ErrUnsupported) {
			return nil
		}
		if err != nil {
			return err
		}
		r := dataplane.ProxyRange{Table: d.Proxy.TableID, Low: netip.AddrFrom4(d.Proxy.Low), High: netip.AddrFrom4(d.Proxy.Hi)}
		if _, ours := s.Object(dataplane.Table{Family: dataplane.IPv4, ID: r.Table}.Key()); ours {
			s.Put(r)
		}
	}
	for d, err := range vpp.Dump[arp.ProxyArpIntfcDetails](ctx, p.conn, &arp.ProxyArpIntfcDump{}) {
		if errors.Is(err, vpp.ErrUnsupported) {
			return nil
		}
		if err != nil {
			return err
		}
		if name, ours := p.name(d.SwIfIndex); ours {
			s.Put(dataplane.ProxyARP{Interface: name})
		}
	}
	return nil
}

func rangeExchange(r dataplane.ProxyRange, add bool) vpp.Exchange {
	return vpp.Exchange{
		Request: &arp.ProxyArpAddDel{IsAdd: add, Proxy: arp.ProxyArp{TableID: r.Table, Low: r.Low.As4(), Hi: r.High.As4()}},
		Reply:   &arp.ProxyArpAddDelReply{},
	}
}

func (p *Program) proxyExchange(a dataplane.ProxyARP, add bool) (vpp.Exchange, error) {
	index, err := p.index(a.Interface)
	return vpp.Exchange{
		Request: &arp.ProxyArpIntfcEnableDisable{SwIfIndex: interface_types.InterfaceIndex(index), Enable: add},
		Reply:   &arp.ProxyArpIntfcEnableDisableReply{},
	}, err
}
