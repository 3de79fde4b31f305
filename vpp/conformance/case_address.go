package conformance

import (
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/ip"
)

func addressCases() []Case {
	return []Case{
		{"address-add-del", addresses},
		{"address-overlap", overlaps},
		{"address-routes", addressRoutes},
		{"address-ip6", addresses6},
		{"address-unnumbered", unnumbered},
		{"address-replace", addressReplace},
		{"address-link-local", linkLocal},
	}
}

func (s *Session) addAddress(index interfaceIndex, text string) {
	s.T.Helper()
	s.Call(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: index, IsAdd: true, Prefix: withPrefix(text)})
}

func (s *Session) delAddress(index interfaceIndex, text string) {
	s.T.Helper()
	s.Call(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: index, Prefix: withPrefix(text)})
}

func (s *Session) loopback() interfaceIndex {
	s.T.Helper()
	index := s.Must(&interfaces.CreateLoopback{}).(*interfaces.CreateLoopbackReply).SwIfIndex
	s.Up(index)
	return index
}

func addresses(s *Session) {
	one := s.loopback()
	s.addAddress(one, "10.0.0.1/24")
	s.Note("the same again, the same with another length")
	s.addAddress(one, "10.0.0.1/24")
	s.addAddress(one, "10.0.0.1/25")
	s.Note("lengths at the edges")
	s.addAddress(one, "10.1.0.1/32")
	s.addAddress(one, "10.2.0.1/31")
	s.addAddress(one, "10.3.0.0/31")
	s.addAddress(one, "10.4.0.0/24")
	s.addAddress(one, "10.5.0.255/24")
	s.addAddress(one, "10.6.0.1/0")
	s.Call(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: one, IsAdd: true, Prefix: long("fd00::1", 129)})
	s.Note("special addresses")
	for _, a := range []string{"0.0.0.0/32", "127.0.0.1/8", "224.0.0.1/32", "255.255.255.255/32"} {
		s.addAddress(one, a)
	}
	s.Dump(&ip.IPAddressDump{SwIfIndex: one})
	s.Note("deletion: of one, again, of all")
	s.delAddress(one, "10.0.0.1/24")
	s.delAddress(one, "10.0.0.1/24")
	s.Dump(&ip.IPAddressDump{SwIfIndex: one})
	s.addAddress(one, "fd00::1/64")
	s.Call(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: one, DelAll: true})
	s.Dump(&ip.IPAddressDump{SwIfIndex: one})
	s.Dump(&ip.IPAddressDump{SwIfIndex: one, IsIPv6: true})
	s.Call(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: one, DelAll: true})
	s.Dump(&ip.IPAddressDump{SwIfIndex: missing})
}

func long(addr string, bits uint8) (p ipAddressWithPrefix) {
	p.Address, p.Len = address(addr), bits
	return p
}

func overlaps(s *Session) {
	one, two := s.loopback(), s.loopback()
	s.addAddress(one, "10.0.0.1/24")
	s.Note("on the same interface: same subnet, smaller, larger")
	s.addAddress(one, "10.0.0.2/24")
	s.addAddress(one, "10.0.0.3/25")
	s.addAddress(one, "10.0.0.4/16")
	s.addAddress(one, "10.0.0.5/32")
	s.Note("on another interface: same address, same subnet, smaller, larger, apart")
	s.addAddress(two, "10.0.0.1/24")
	s.addAddress(two, "10.0.0.9/24")
	s.addAddress(two, "10.0.0.9/25")
	s.addAddress(two, "10.0.0.9/8")
	s.addAddress(two, "10.0.0.9/32")
	s.addAddress(two, "10.9.0.1/24")
	s.Note("v6 likewise")
	s.addAddress(one, "fd00::1/64")
	s.addAddress(one, "fd00::2/64")
	s.addAddress(two, "fd00::1/64")
	s.addAddress(two, "fd00::9/64")
	s.addAddress(two, "fd00::9/128")
	for _, index := range []interfaceIndex{one, two} {
		s.Dump(&ip.IPAddressDump{SwIfIndex: index})
		s.Dump(&ip.IPAddressDump{SwIfIndex: index, IsIPv6: true})
	}
	s.Note("another table is another world")
	s.Must(&ip.IPTableAddDelV2{IsAdd: true, CreateMfib: true, Table: ip.IPTable{TableID: 7}})
	three := s.loopback()
	s.Call(&interfaces.SwInterfaceSetTable{SwIfIndex: three, VrfID: 7})
	s.addAddress(three, "10.0.0.1/24")
	s.Dump(&ip.IPAddressDump{SwIfIndex: three})
}

// addressRoutes shows which routes an address makes.
func addressRoutes(s *Session) {
	p := s.Port()
	dump := func() { s.routes(0, false) }
	s.Note("empty tables have these")
	dump()
	s.routes(0, true)
	s.Note("an address with a subnet")
	s.addAddress(p.Index, "10.0.0.1/24")
	dump()
	s.Note("a host address beside it")
	s.addAddress(p.Index, "10.1.0.1/32")
	s.addAddress(p.Index, "10.2.0.0/31")
	dump()
	s.Note("the interface goes down, comes up")
	s.Call(&interfaces.SwInterfaceSetFlags{SwIfIndex: p.Index})
	dump()
	s.Call(&interfaces.SwInterfaceSetFlags{SwIfIndex: p.Index, Flags: adminUp})
	dump()
	s.Note("removal")
	s.delAddress(p.Index, "10.0.0.1/24")
	s.delAddress(p.Index, "10.2.0.0/31")
	dump()
	s.Note("v6, enabled by an address, with its link-local one")
	s.addAddress(p.Index, "fd00::1/64")
	s.routes(0, true)
	s.delAddress(p.Index, "fd00::1/64")
	s.routes(0, true)
}

func addresses6(s *Session) {
	p := s.Port()
	s.Note("enable without an address")
	s.Call(&ip.SwInterfaceIP6EnableDisable{SwIfIndex: p.Index, Enable: true})
	s.Call(&ip.SwInterfaceIP6EnableDisable{SwIfIndex: p.Index, Enable: true})
	s.Dump(&ip.IPAddressDump{SwIfIndex: p.Index, IsIPv6: true})
	s.routes(0, true)
	s.Call(&ip.SwInterfaceIP6EnableDisable{SwIfIndex: p.Index})
	s.Call(&ip.SwInterfaceIP6EnableDisable{SwIfIndex: p.Index})
	s.Call(&ip.SwInterfaceIP6EnableDisable{SwIfIndex: missing, Enable: true})
	s.routes(0, true)
	s.Note("addresses: host, subnet, again, link-local, multicast")
	for _, a := range []string{"fd00::1/128", "fd01::1/64", "fd01::1/64", "fd01::1/80", "fe80::1/64", "fe80::5/128", "ff02::1/128", "::/128"} {
		s.addAddress(p.Index, a)
	}
	s.Dump(&ip.IPAddressDump{SwIfIndex: p.Index, IsIPv6: true})
	s.delAddress(p.Index, "fd01::1/64")
	s.delAddress(p.Index, "fd01::1/64")
	s.Dump(&ip.IPAddressDump{SwIfIndex: p.Index, IsIPv6: true})
}

func unnumbered(s *Session) {
	lender := s.loopback()
	s.addAddress(lender, "10.0.0.1/32")
	s.addAddress(lender, "fd00::1/128")
	p := s.Port()
	s.Note("borrow, again")
	s.Call(&interfaces.SwInterfaceSetUnnumbered{SwIfIndex: lender, UnnumberedSwIfIndex: p.Index, IsAdd: true})
	s.Call(&interfaces.SwInterfaceSetUnnumbered{SwIfIndex: lender, UnnumberedSwIfIndex: p.Index, IsAdd: true})
	s.Dump(&ip.IPUnnumberedDump{SwIfIndex: none})
	s.Dump(&ip.IPUnnumberedDump{SwIfIndex: p.Index})
	s.Dump(&ip.IPAddressDump{SwIfIndex: p.Index})
	s.Note("on the wire it answers for the lender's address, to whomever")
	s.Drain()
	p.Play(p.arp(1, "10.9.0.2", "10.0.0.1"), p, 1)
	s.neighbors()
	s.Call(&ip.IPRouteAddDel{IsAdd: true, Route: route("10.9.0.2/32", via("0.0.0.0", p.Index))})
	p.Play(p.arp(1, "10.9.0.2", "10.0.0.1"), p, 1)
	s.neighbors()
	p.Play(p.echo("10.9.0.2", "10.0.0.1", 64, 20), p, 1)
	s.Note("a lender without address, from another table")
	poor := s.loopback()
	q := s.Port()
	s.Call(&interfaces.SwInterfaceSetUnnumbered{SwIfIndex: poor, UnnumberedSwIfIndex: q.Index, IsAdd: true})
	s.Must(&ip.IPTableAddDelV2{IsAdd: true, CreateMfib: true, Table: ip.IPTable{TableID: 7}})
	third := s.loopback()
	s.Call(&interfaces.SwInterfaceSetTable{SwIfIndex: third, VrfID: 7})
	s.Call(&interfaces.SwInterfaceSetUnnumbered{SwIfIndex: lender, UnnumberedSwIfIndex: third, IsAdd: true})
	s.Note("an address of its own beside it; deletion of the lender's address; end, twice")
	s.addAddress(p.Index, "10.8.0.1/24")
	s.Dump(&ip.IPAddressDump{SwIfIndex: p.Index})
	s.Call(&interfaces.SwInterfaceSetUnnumbered{SwIfIndex: lender, UnnumberedSwIfIndex: p.Index})
	s.Call(&interfaces.SwInterfaceSetUnnumbered{SwIfIndex: lender, UnnumberedSwIfIndex: p.Index})
	s.Dump(&ip.IPUnnumberedDump{SwIfIndex: none})
}

func linkLocal(s *Session) {
	p := s.Port()
	s.Call(&ip.SwInterfaceIP6GetLinkLocalAddress{SwIfIndex: p.Index})
	s.Must(&ip.SwInterfaceIP6EnableDisable{SwIfIndex: p.Index, Enable: true})
	s.Call(&ip.SwInterfaceIP6GetLinkLocalAddress{SwIfIndex: p.Index})
	s.Call(&ip.SwInterfaceIP6GetLinkLocalAddress{SwIfIndex: missing})
}

// addressReplace is mark and sweep over the addresses.
func addressReplace(s *Session) {
	one := s.loopback()
	s.addAddress(one, "10.0.0.1/24")
	s.addAddress(one, "10.1.0.1/24")
	s.Call(&interfaces.SwInterfaceAddressReplaceBegin{})
	s.addAddress(one, "10.1.0.1/24")
	s.addAddress(one, "10.2.0.1/24")
	s.Call(&interfaces.SwInterfaceAddressReplaceEnd{})
	s.Dump(&ip.IPAddressDump{SwIfIndex: one})
}
