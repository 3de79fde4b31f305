package api

import (
	"net/netip"
	"os"
	"slices"

	"go.fd.io/govpp/api"
	binacl "go.fd.io/govpp/binapi/acl"
	"go.fd.io/govpp/binapi/acl_types"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip_types"

	"github.com/millrace/millrace/engine/acl"
	"github.com/millrace/millrace/engine/vnet"
)

// The messages of VPP's acl plugin. Those about MAC addresses (macip_*) and ethertypes are
// not among them: they concern bridges, which the engine does not have, and hosts on
// Ethernet, whose source addresses uRPF checks.

// tagLength is the room for a list's tag, with the NUL at its end.
const tagLength = 64

// The version of VPP 25.10's plugin, which the engine does as.
const aclMajor, aclMinor = 1, 4

func (s *Server) aclMessages() []*entry {
	return slices.Concat(
		handlePlain(s.aclGetVersion),
		handle(s.aclControlPing),
		handlePlain(s.aclGetConnTableMaxEntries),
		handleAt(4, s.aclAddReplace),
		handle(s.aclDel),
		handleDump(s.aclDump),
		handle(s.aclInterfaceAddDel),
		handle(s.aclInterfaceSetACLList),
		handleDump(s.aclInterfaceListDump),
		handle(s.aclStatsIntfCountersEnable),
		handle(s.aclUseHashLookupSet),
		handlePlain(s.aclUseHashLookupGet),
	)
}

func (s *Server) aclGetVersion(_ *binacl.ACLPluginGetVersion, r *binacl.ACLPluginGetVersionReply) {
	r.Major, r.Minor = aclMajor, aclMinor
}

func (s *Server) aclControlPing(_ *session, _ *binacl.ACLPluginControlPing, r *binacl.ACLPluginControlPingReply) error {
	r.VpePID = uint32(os.Getpid())
	return nil
}

func (s *Server) aclGetConnTableMaxEntries(_ *binacl.ACLPluginGetConnTableMaxEntries, r *binacl.ACLPluginGetConnTableMaxEntriesReply) {
	r.ConnTableMaxEntries = uint64(s.plane.SessionMax())
}

// aclAddReplace answers with the index it was asked for when it refuses.
func (s *Server) aclAddReplace(_ *session, q *binacl.ACLAddReplace, r *binacl.ACLAddReplaceReply) error {
	r.ACLIndex = q.ACLIndex
	if len(q.Tag) >= tagLength {
		return api.INVALID_VALUE
	}
	rules := make([]acl.Rule, len(q.R))
	for i := range q.R {
		rules[i] = ruleOf(&q.R[i])
	}
	index, err := s.plane.ReplaceACL(q.ACLIndex, q.Tag, rules)
	r.ACLIndex = index
	return err
}

func ruleOf(r *acl_types.ACLRule) acl.Rule {
	return acl.Rule{
		Action: acl.Action(r.IsPermit), Protocol: uint8(r.Proto),
		Src: rulePrefix(r.SrcPrefix), Dst: rulePrefix(r.DstPrefix),
		SrcPorts: acl.Ports{First: r.SrcportOrIcmptypeFirst, Last: r.SrcportOrIcmptypeLast},
		DstPorts: acl.Ports{First: r.DstportOrIcmpcodeFirst, Last: r.DstportOrIcmpcodeLast},
		TCPMask:  r.TCPFlagsMask, TCPValue: r.TCPFlagsValue,
	}
}

// rulePrefix is not valid for an unknown family or a length that the family does not have.
func rulePrefix(p ip_types.Prefix) (none netip.Prefix) {
	prefix, err := prefixOf(p.Address, p.Len)
	if err != nil {
		return none
	}
	return prefix
}

func wireRule(r *acl.Rule) acl_types.ACLRule {
	return acl_types.ACLRule{
		IsPermit: acl_types.ACLAction(r.Action), Proto: ip_types.IPProto(r.Protocol),
		SrcPrefix: wirePrefix(r.Src), DstPrefix: wirePrefix(r.Dst),
		SrcportOrIcmptypeFirst: r.SrcPorts.First, SrcportOrIcmptypeLast: r.SrcPorts.Last,
		DstportOrIcmpcodeFirst: r.DstPorts.First, DstportOrIcmpcodeLast: r.DstPorts.Last,
		TCPFlagsMask: r.TCPMask, TCPFlagsValue: r.TCPValue,
	}
}

func (s *Server) aclDel(_ *session, q *binacl.ACLDel, _ *binacl.ACLDelReply) error {
	return s.plane.DeleteACL(q.ACLIndex)
}

func (s *Server) aclDump(_ *session, q *binacl.ACLDump, send func(*binacl.ACLDetails)) {
	for l := range s.plane.ACLs() {
		if q.ACLIndex != vnet.NoIndex && q.ACLIndex != l.Index {
			continue
		}
		d := &binacl.ACLDetails{ACLIndex: l.Index, Tag: l.Tag, Count: uint32(len(l.Rules)), R: make([]acl_types.ACLRule, len(l.Rules))}
		for i := range l.Rules {
			d.R[i] = wireRule(&l.Rules[i])
		}
		send(d)
	}
}

func (s *Server) aclInterfaceAddDel(_ *session, q *binacl.ACLInterfaceAddDel, _ *binacl.ACLInterfaceAddDelReply) error {
	if q.IsAdd {
		return s.plane.AddACL(uint32(q.SwIfIndex), q.IsInput, q.ACLIndex)
	}
	return s.plane.RemoveACL(uint32(q.SwIfIndex), q.IsInput, q.ACLIndex)
}

func (s *Server) aclInterfaceSetACLList(_ *session, q *binacl.ACLInterfaceSetACLList, _ *binacl.ACLInterfaceSetACLListReply) error {
	n := min(int(q.NInput), len(q.Acls))
	return s.plane.SetACLLists(uint32(q.SwIfIndex), q.Acls[:n], q.Acls[n:])
}

// aclInterfaceListDump tells of every interface, also those without lists, as VPP does.
func (s *Server) aclInterfaceListDump(_ *session, q *binacl.ACLInterfaceListDump, send func(*binacl.ACLInterfaceListDetails)) {
	for l := range s.plane.ACLLists() {
		if uint32(q.SwIfIndex) != vnet.NoIndex && uint32(q.SwIfIndex) != l.Interface {
			continue
		}
		all := slices.Concat(l.Input, l.Output)
		send(&binacl.ACLInterfaceListDetails{SwIfIndex: interface_types.InterfaceIndex(l.Interface),
			Count: uint8(len(all)), NInput: uint8(len(l.Input)), Acls: all})
	}
}

func (s *Server) aclStatsIntfCountersEnable(_ *session, q *binacl.ACLStatsIntfCountersEnable, _ *binacl.ACLStatsIntfCountersEnableReply) error {
	return s.plane.SetCountRules(q.Enable)
}

// aclUseHashLookupSet is remembered only: the engine has one way to look rules up.
func (s *Server) aclUseHashLookupSet(_ *session, q *binacl.ACLPluginUseHashLookupSet, _ *binacl.ACLPluginUseHashLookupSetReply) error {
	s.settings.setLinear(!q.Enable)
	return nil
}

func (s *Server) aclUseHashLookupGet(_ *binacl.ACLPluginUseHashLookupGet, r *binacl.ACLPluginUseHashLookupGetReply) {
	r.Enable = !s.settings.isLinear()
}
