package api

import (
	"net/netip"
	"slices"

	"go.fd.io/govpp/binapi/arp"

	"github.com/millrace/millrace/engine/vnet"
)

// arpMessages are those of arp.api.
func (s *Server) arpMessages() []*entry {
	return slices.Concat(
		handle(s.proxyArpAddDel),
		handleDump(s.proxyArpDump),
		handle(s.proxyArpIntfcEnableDisable),
		handleDump(s.proxyArpIntfcDump),
	)
}

func (s *Server) proxyArpAddDel(_ *session, q *arp.ProxyArpAddDel, _ *arp.ProxyArpAddDelReply) error {
	r := vnet.ProxyRange{Table: q.Proxy.TableID, Low: netip.AddrFrom4(q.Proxy.Low), High: netip.AddrFrom4(q.Proxy.Hi)}
	return s.plane.EditProxyRange(r, q.IsAdd)
}

func (s *Server) proxyArpDump(_ *session, _ *arp.ProxyArpDump, send func(*arp.ProxyArpDetails)) {
	for _, r := range s.plane.ProxyRanges() {
		send(&arp.ProxyArpDetails{Proxy: arp.ProxyArp{TableID: r.Table, Low: r.Low.As4(), Hi: r.High.As4()}})
	}
}

func (s *Server) proxyArpIntfcEnableDisable(_ *session, q *arp.ProxyArpIntfcEnableDisable, _ *arp.ProxyArpIntfcEnableDisableReply) error {
	return s.plane.SetProxyARP(uint32(q.SwIfIndex), q.Enable)
}

func (s *Server) proxyArpIntfcDump(_ *session, _ *arp.ProxyArpIntfcDump, send func(*arp.ProxyArpIntfcDetails)) {
	for _, index := range s.plane.ProxyARPs() {
		send(&arp.ProxyArpIntfcDetails{SwIfIndex: index})
	}
}
