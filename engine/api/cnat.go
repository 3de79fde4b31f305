package api

import (
	"net/netip"
	"slices"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/cnat"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip_types"

	"github.com/millrace/millrace/engine/nat"
	"github.com/millrace/millrace/engine/stats"
	"github.com/millrace/millrace/engine/vnet"
)

// cnatMessages are those of VPP's cnat plugin. What VPP 25.10 does wrong is not done here:
// a translation without paths is refused, where VPP aborts; cnat_session_purge ends the
// sessions and leaves the translations, which VPP deletes with them.
func (s *Server) cnatMessages() []*entry {
	return slices.Concat(
		handle(s.cnatTranslationUpdate),
		handle(s.cnatTranslationDel),
		handleDump(s.cnatTranslationDump),
		handle(s.cnatSetSnatAddresses),
		handle(s.cnatGetSnatAddresses),
		handle(s.cnatSetSnatPolicy),
		handle(s.cnatSnatPolicyAddDelIf),
		handle(s.cnatSnatPolicyAddDelExcludePfx),
		handleDump(s.cnatSessionDump),
		handle(s.cnatSessionPurge),
	)
}

// cnatTranslationUpdate checks in VPP's order: the protocol, the paths, the VIP.
func (s *Server) cnatTranslationUpdate(_ *session, q *cnat.CnatTranslationUpdate, r *cnat.CnatTranslationUpdateReply) error {
	r.ID = vnet.NoIndex
	w := &q.Translation
	if !knownProtocol(uint8(w.IPProto)) {
		return api.INVALID_PROTOCOL
	}
	t := vnet.Translation{
		Protocol: uint8(w.IPProto), LB: uint8(w.LbType), HashFields: uint32(w.FlowHashConfig), Flags: w.Flags, RealIP: w.IsRealIP != 0,
	}
	var err error
	for _, p := range w.Paths {
		path := vnet.NATPath{Flags: p.Flags}
		if path.Src, err = natEndpoint(p.SrcEp); err != nil {
			return err
		}
		if path.Dst, err = natEndpoint(p.DstEp); err != nil {
			return err
		}
		t.Paths = append(t.Paths, path)
	}
	if t.VIP, err = natEndpoint(w.Vip); err != nil {
		return err
	}
	id, err := s.plane.UpdateTranslation(t)
	r.ID = id
	if err != nil {
		return err
	}
	return s.stats.Grow(stats.TranslationCounter, id)
}

// knownProtocol reports whether VPP has a name for a protocol.
func knownProtocol(n uint8) bool {
	return n <= 143 && !slices.Contains([]uint8{61, 63, 68, 99, 114}, n) || n >= 253
}

// natEndpoint reads an endpoint: the family of an address is its own, and an unknown one
// is IPv4's; if_af says which address of an interface is meant.
func natEndpoint(w cnat.CnatEndpoint) (vnet.NATEndpoint, error) {
	e := vnet.NATEndpoint{Interface: uint32(w.SwIfIndex), Port: w.Port}
	if e.Interface == vnet.NoIndex {
		addr, err := addrOf(w.Addr)
		if err != nil {
			addr = unionAddr(w.Addr.Un, vnet.IPv4)
		}
		e.Addr, e.Family = addr, familyOfAddr(addr)
		return e, nil
	}
	var err error
	e.Family, err = familyOf(w.IfAf)
	return e, err
}

func wireNATEndpoint(e vnet.NATEndpoint) cnat.CnatEndpoint {
	w := cnat.CnatEndpoint{SwIfIndex: interface_types.InterfaceIndex(e.Interface), IfAf: wireFamily(e.Family), Port: e.Port}
	if e.Addr.IsValid() {
		w.Addr = wireAddr(e.Addr)
	}
	return w
}

func (s *Server) cnatTranslationDel(_ *session, q *cnat.CnatTranslationDel, _ *cnat.CnatTranslationDelReply) error {
	return s.plane.DeleteTranslation(q.ID)
}

// cnatTranslationDump leaves out what VPP leaves out: the flags, the hash, is_real_ip.
func (s *Server) cnatTranslationDump(_ *session, _ *cnat.CnatTranslationDump, send func(*cnat.CnatTranslationDetails)) {
	for t := range s.plane.Translations() {
		w := cnat.CnatTranslation{
			Vip: wireNATEndpoint(t.VIP), ID: t.ID, IPProto: ip_types.IPProto(t.Protocol), LbType: cnat.CnatLbType(t.LB),
			NPaths: uint32(len(t.Paths)),
		}
		for _, p := range t.Paths {
			w.Paths = append(w.Paths, cnat.CnatEndpointTuple{DstEp: wireNATEndpoint(p.Dst), SrcEp: wireNATEndpoint(p.Src), Flags: p.Flags})
		}
		send(&cnat.CnatTranslationDetails{Translation: w})
	}
}

// cnatSetSnatAddresses takes zero for no address.
func (s *Server) cnatSetSnatAddresses(_ *session, q *cnat.CnatSetSnatAddresses, _ *cnat.CnatSetSnatAddressesReply) error {
	source := vnet.NATSource{Interface: uint32(q.SwIfIndex)}
	if a := netip.AddrFrom4(q.SnatIP4); !a.IsUnspecified() {
		source.IPv4 = a
	}
	if a := netip.AddrFrom16(q.SnatIP6); !a.IsUnspecified() {
		source.IPv6 = a
	}
	return s.plane.SetNATSource(source)
}

func (s *Server) cnatGetSnatAddresses(_ *session, _ *cnat.CnatGetSnatAddresses, r *cnat.CnatGetSnatAddressesReply) error {
	source := s.plane.NATSource()
	r.SwIfIndex = interface_types.InterfaceIndex(source.Interface)
	if source.IPv4.IsValid() {
		r.SnatIP4 = source.IPv4.As4()
	}
	if source.IPv6.IsValid() {
		r.SnatIP6 = source.IPv6.As16()
	}
	return nil
}

func (s *Server) cnatSetSnatPolicy(_ *session, q *cnat.CnatSetSnatPolicy, _ *cnat.CnatSetSnatPolicyReply) error {
	return s.plane.SetNATPolicy(nat.PolicyKind(q.Policy))
}

func (s *Server) cnatSnatPolicyAddDelIf(_ *session, q *cnat.CnatSnatPolicyAddDelIf, _ *cnat.CnatSnatPolicyAddDelIfReply) error {
	return s.plane.SetNATInterface(uint32(q.SwIfIndex), vnet.NATSet(q.Table), q.IsAdd != 0)
}

func (s *Server) cnatSnatPolicyAddDelExcludePfx(_ *session, q *cnat.CnatSnatPolicyAddDelExcludePfx, _ *cnat.CnatSnatPolicyAddDelExcludePfxReply) error {
	p, err := prefixOf(q.Prefix.Address, q.Prefix.Len)
	if err != nil {
		return err
	}
	if q.IsAdd != 0 {
		return s.plane.AddNATExcluded(p)
	}
	return s.plane.DelNATExcluded(p)
}

// cnatSessionDump tells each direction, as VPP, which does not fill in the timestamp.
func (s *Server) cnatSessionDump(_ *session, _ *cnat.CnatSessionDump, send func(*cnat.CnatSessionDetails)) {
	for i := range s.plane.NATSessions() {
		w := cnat.CnatSession{
			Src: sessionEndpoint(i.Src), Dst: sessionEndpoint(i.Dst), New: sessionEndpoint(i.NewDst), IPProto: ip_types.IPProto(i.Proto),
		}
		if i.Output {
			w.Location = 1
		}
		send(&cnat.CnatSessionDetails{Session: w})
	}
}

func sessionEndpoint(a netip.AddrPort) cnat.CnatEndpoint {
	return wireNATEndpoint(vnet.NATEndpoint{Addr: a.Addr(), Interface: vnet.NoIndex, Family: familyOfAddr(a.Addr()), Port: a.Port()})
}

func (s *Server) cnatSessionPurge(_ *session, _ *cnat.CnatSessionPurge, _ *cnat.CnatSessionPurgeReply) error {
	return s.plane.PurgeNAT()
}
