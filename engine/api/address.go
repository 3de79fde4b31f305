package api

import (
	"net/netip"
	"slices"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_types"

	"github.com/millrace/millrace/engine/vnet"
)

// addressMessages are those of interface.api and ip.api about an interface's addresses.
func (s *Server) addressMessages() []*entry {
	return slices.Concat(
		handle(s.swInterfaceAddDelAddress),
		handle(s.swInterfaceSetUnnumbered),
		handle(s.swInterfaceIP6EnableDisable),
		handleDump(s.ipAddressDump),
		handleDump(s.ipUnnumberedDump),
		handleDump(s.ipDump),
	)
}

func (s *Server) swInterfaceAddDelAddress(_ *session, q *interfaces.SwInterfaceAddDelAddress, _ *interfaces.SwInterfaceAddDelAddressReply) error {
	index := uint32(q.SwIfIndex)
	if _, err := s.plane.Interface(index); err != nil {
		return err
	}
	if q.DelAll {
		return s.plane.FlushAddresses(index)
	}
	p, err := prefixOf(q.Prefix.Address, q.Prefix.Len)
	if err != nil {
		return err
	}
	if !p.IsValid() {
		return api.ADDRESS_LENGTH_MISMATCH
	}
	if q.IsAdd {
		return s.plane.AddAddress(index, p)
	}
	return s.plane.DelAddress(index, p)
}

// swInterfaceSetUnnumbered: the message's sw_if_index is the lender, the interface with
// the address.
func (s *Server) swInterfaceSetUnnumbered(_ *session, q *interfaces.SwInterfaceSetUnnumbered, _ *interfaces.SwInterfaceSetUnnumberedReply) error {
	if _, err := s.plane.Interface(uint32(q.UnnumberedSwIfIndex)); err != nil {
		return api.INVALID_SW_IF_INDEX
	}
	if _, err := s.plane.Interface(uint32(q.SwIfIndex)); err != nil && q.IsAdd {
		return api.INVALID_SW_IF_INDEX_2
	}
	return s.plane.SetUnnumbered(uint32(q.UnnumberedSwIfIndex), uint32(q.SwIfIndex), q.IsAdd)
}

func (s *Server) swInterfaceIP6EnableDisable(_ *session, q *ip.SwInterfaceIP6EnableDisable, _ *ip.SwInterfaceIP6EnableDisableReply) error {
	return s.plane.EnableIP6(uint32(q.SwIfIndex), q.Enable)
}

// ipAddressDump knows no "all interfaces", as VPP, and sends an interface's own addresses
// only, not those it borrows.
func (s *Server) ipAddressDump(_ *session, q *ip.IPAddressDump, send func(*ip.IPAddressDetails)) {
	f := familyFlag(q.IsIPv6)
	i, err := s.plane.Interface(uint32(q.SwIfIndex))
	if err != nil {
		return
	}
	addrs, err := s.plane.Addresses(i.Index, f)
	if err != nil {
		return
	}
	var borrowed []netip.Prefix
	if i.Unnumbered != vnet.NoIndex {
		if borrowed, err = s.plane.Addresses(i.Unnumbered, f); err != nil {
			return
		}
	}
	for _, a := range addrs {
		if !slices.Contains(borrowed, a) {
			send(&ip.IPAddressDetails{SwIfIndex: q.SwIfIndex, Prefix: ip_types.AddressWithPrefix(wirePrefix(a))})
		}
	}
}

func (s *Server) ipUnnumberedDump(_ *session, q *ip.IPUnnumberedDump, send func(*ip.IPUnnumberedDetails)) {
	for i := range s.plane.Interfaces() {
		if i.Unnumbered == vnet.NoIndex || uint32(q.SwIfIndex) != vnet.NoIndex && uint32(q.SwIfIndex) != i.Index {
			continue
		}
		send(&ip.IPUnnumberedDetails{
			SwIfIndex:   interface_types.InterfaceIndex(i.Index),
			IPSwIfIndex: interface_types.InterfaceIndex(i.Unnumbered),
		})
	}
}

// ipDump lists the interfaces that are not unnumbered, whatever the family asked for.
func (s *Server) ipDump(_ *session, q *ip.IPDump, send func(*ip.IPDetails)) {
	for i := range s.plane.Interfaces() {
		if i.Unnumbered == vnet.NoIndex {
			send(&ip.IPDetails{SwIfIndex: interface_types.InterfaceIndex(i.Index), IsIPv6: q.IsIPv6})
		}
	}
}
