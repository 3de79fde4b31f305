package conformance

import (
	"strings"

	"go.fd.io/govpp/binapi/acl"
	interfaces "go.fd.io/govpp/binapi/interface"
)

func aclCases() []Case {
	return []Case{
		{"acl-lists", aclLists},
		{"acl-refused", aclRefused},
		{"acl-interfaces", aclInterfaces},
		{"acl-interface-deleted", aclInterfaceDeleted},
		{"acl-settings", aclSettings},
		{"acl-first-match", aclFirstMatch},
		{"acl-no-match", aclNoMatch},
		{"acl-ports", aclPorts},
		{"acl-protocols", aclProtocols},
		{"acl-reflect", aclReflect},
		{"acl-reflect-tcp", aclReflectTCP},
		{"acl-icmp", aclICMP},
		{"acl-fragments", aclFragments},
		{"acl-tcp-flags", aclTCPFlags},
		{"acl-own", aclOwn},
		{"acl-not-judged", aclNotJudged},
		{"acl-replaced", aclReplaced},
		{"acl-replaced-reclassify", aclReplacedReclassify},
		{"acl-other-lists", aclOtherLists},
		{"acl-other-lists-reclassify", aclOtherListsReclassify},
		{"acl-one-direction", aclOneDirection},
		{"acl-timeouts", aclTimeouts},
		{"acl-counters", aclCounters},
		{"acl-reasons", aclReasonCounters},
	}
}

// aclLists: made, replaced, dumped and deleted.
func aclLists(s *Session) {
	web := rule(reflects, tcp, "10.0.0.0/8", "0.0.0.0/0", ports{80, 90})
	six := from(rule(denies, icmp6, "fd00::/16", "::/0", ports{0, 0}), ports{128, 129})
	flags := rule(permits, tcp, "0.0.0.0/0", "10.1.2.3/32")
	flags.TCPFlagsMask, flags.TCPFlagsValue = 0x12, 0x02
	s.Call(&acl.ACLAddReplace{ACLIndex: newList, Tag: "web", R: []aclRule{web, six, flags}})
	s.Call(&acl.ACLAddReplace{ACLIndex: newList, Tag: "", R: all(permits)})
	s.Note("no rules; the longest tag; a longer one")
	s.Call(&acl.ACLAddReplace{ACLIndex: newList, Tag: "empty"})
	s.Call(&acl.ACLAddReplace{ACLIndex: newList, Tag: strings.Repeat("t", 63), R: []aclRule{web}})
	s.Call(&acl.ACLAddReplace{ACLIndex: newList, Tag: strings.Repeat("t", 64), R: []aclRule{web}})
	s.Dump(&acl.ACLDump{ACLIndex: newList})
	s.Note("one; one that is not")
	s.Dump(&acl.ACLDump{ACLIndex: 1})
	s.Dump(&acl.ACLDump{ACLIndex: 9})
	s.Note("replaced: other rules, another tag, the same index")
	s.Call(&acl.ACLAddReplace{ACLIndex: 0, Tag: "web2", R: []aclRule{six}})
	s.Dump(&acl.ACLDump{ACLIndex: 0})
	s.Call(&acl.ACLAddReplace{ACLIndex: 0, Tag: ""})
	s.Dump(&acl.ACLDump{ACLIndex: 0})
	s.Note("deleted, again, and one that never was; the index is used again")
	s.Call(&acl.ACLDel{ACLIndex: 0})
	s.Call(&acl.ACLDel{ACLIndex: 0})
	s.Call(&acl.ACLDel{ACLIndex: 9})
	s.Call(&acl.ACLDel{ACLIndex: 2})
	s.Call(&acl.ACLAddReplace{ACLIndex: newList, Tag: "new", R: []aclRule{web}})
	s.Call(&acl.ACLAddReplace{ACLIndex: newList, Tag: "newer", R: []aclRule{web}})
	s.Dump(&acl.ACLDump{ACLIndex: newList})
}

// aclRefused: what is wrong with a rule, or a list.
func aclRefused(s *Session) {
	good := rule(permits, tcp, "10.0.0.0/8", "0.0.0.0/0", ports{80, 80})
	add := func(edit func(*aclRule)) {
		r := good
		edit(&r)
		s.Call(&acl.ACLAddReplace{ACLIndex: newList, R: []aclRule{good, r}})
	}
	s.Note("host bits in the source, in the destination, in both")
	add(func(r *aclRule) { r.SrcPrefix = prefix("10.0.0.1/8") })
	add(func(r *aclRule) { r.DstPrefix = prefix("10.0.0.1/8") })
	add(func(r *aclRule) { r.SrcPrefix, r.DstPrefix = prefix("10.0.0.1/8"), prefix("10.0.0.1/8") })
	s.Note("two families")
	add(func(r *aclRule) { r.DstPrefix = prefix("::/0") })
	s.Note("a length that the family does not have; a family that is none")
	add(func(r *aclRule) { r.SrcPrefix.Len = 33 })
	add(func(r *aclRule) { r.DstPrefix.Len = 33 })
	add(func(r *aclRule) { r.SrcPrefix.Address.Af = 2 })
	add(func(r *aclRule) { r.DstPrefix.Address.Af = 2 })
	s.Note("ports that end before they begin")
	add(func(r *aclRule) { r.SrcportOrIcmptypeFirst, r.SrcportOrIcmptypeLast = 9, 8 })
	add(func(r *aclRule) { r.DstportOrIcmpcodeFirst, r.DstportOrIcmpcodeLast = 9, 0 })
	s.Note("a list that is not; what was there stays when its replacement is refused")
	s.Call(&acl.ACLAddReplace{ACLIndex: 7, R: []aclRule{good}})
	s.Call(&acl.ACLAddReplace{ACLIndex: newList, Tag: "stays", R: []aclRule{good}})
	s.Call(&acl.ACLAddReplace{ACLIndex: 0, Tag: "goes", R: []aclRule{{SrcPrefix: prefix("10.0.0.1/8"), DstPrefix: prefix("0.0.0.0/0")}}})
	s.Dump(&acl.ACLDump{ACLIndex: newList})
}

// aclInterfaces: which lists an interface has.
func aclInterfaces(s *Session) {
	loop := s.Must(&interfaces.CreateLoopback{}).(*interfaces.CreateLoopbackReply).SwIfIndex
	for range 3 {
		s.list(all(permits)...)
	}
	dump := func() { s.Dump(&acl.ACLInterfaceListDump{SwIfIndex: none}) }
	set := func(n uint8, acls ...uint32) {
		s.Call(&acl.ACLInterfaceSetACLList{SwIfIndex: loop, NInput: n, Acls: acls})
	}
	dump()
	set(2, 2, 0, 1)
	dump()
	s.Note("the same in another order; in both directions; more for input than there are")
	set(2, 0, 2, 1)
	set(1, 1, 1)
	dump()
	set(9, 1, 2)
	dump()
	s.Note("a list that is not; twice in one direction; an interface that is not")
	set(1, 1, 9)
	set(0, 1, 1)
	dump()
	s.Call(&acl.ACLInterfaceSetACLList{SwIfIndex: missing, NInput: 1, Acls: []uint32{1}})
	s.Dump(&acl.ACLInterfaceListDump{SwIfIndex: loop})
	s.Dump(&acl.ACLInterfaceListDump{SwIfIndex: missing})
	s.Note("a list on an interface cannot be deleted")
	set(1, 1, 2)
	s.Call(&acl.ACLDel{ACLIndex: 1})
	s.Call(&acl.ACLDel{ACLIndex: 2})
	s.Call(&acl.ACLDel{ACLIndex: 0})
	s.Note("one by one")
	one := func(add, input bool, list uint32) {
		s.Call(&acl.ACLInterfaceAddDel{IsAdd: add, IsInput: input, SwIfIndex: loop, ACLIndex: list})
	}
	one(true, true, 2)
	one(true, true, 2)
	one(true, false, 1)
	one(true, false, 1)
	one(true, true, 9)
	dump()
	one(false, true, 1)
	one(false, true, 1)
	one(false, false, 9)
	one(false, false, 2)
	dump()
	s.Call(&acl.ACLInterfaceAddDel{IsAdd: true, IsInput: true, SwIfIndex: missing, ACLIndex: 1})
	s.Call(&acl.ACLInterfaceAddDel{IsInput: true, SwIfIndex: missing, ACLIndex: 1})
	s.Note("none")
	set(0)
	dump()
	s.Call(&acl.ACLDel{ACLIndex: 1})
}

// aclInterfaceDeleted: its lists are free, and a new one with its index has none.
func aclInterfaceDeleted(s *Session) {
	loop := s.Must(&interfaces.CreateLoopback{}).(*interfaces.CreateLoopbackReply).SwIfIndex
	list := s.list(all(reflects)...)
	s.Call(&acl.ACLInterfaceSetACLList{SwIfIndex: loop, NInput: 1, Acls: []uint32{list, list}})
	s.Call(&acl.ACLDel{ACLIndex: list})
	s.Must(&interfaces.DeleteLoopback{SwIfIndex: loop})
	s.Dump(&acl.ACLInterfaceListDump{SwIfIndex: none})
	s.Call(&acl.ACLDel{ACLIndex: list})
	again := s.Must(&interfaces.CreateLoopback{}).(*interfaces.CreateLoopbackReply).SwIfIndex
	s.Write("the same index: %v", again == loop)
	s.Dump(&acl.ACLInterfaceListDump{SwIfIndex: again})
}

// aclSettings: what the plugin says about itself.
func aclSettings(s *Session) {
	s.Call(&acl.ACLPluginGetVersion{})
	s.Call(&acl.ACLPluginControlPing{})
	s.Call(&acl.ACLPluginGetConnTableMaxEntries{})
	s.Call(&acl.ACLPluginUseHashLookupGet{})
	s.Call(&acl.ACLPluginUseHashLookupSet{})
	s.Call(&acl.ACLPluginUseHashLookupGet{})
	s.Call(&acl.ACLPluginUseHashLookupSet{Enable: true})
	s.countRules(true)
	s.CLI("show acl-plugin tables mask", "Stats counters", "Use hash")
	for _, line := range []string{"session timeout udp idle 30", "session timeout tcp idle 31", "session timeout tcp transient 32",
		"session table max-entries 1000", "reclassify-sessions 1"} {
		s.CLI("set acl-plugin " + line)
	}
	s.Call(&acl.ACLPluginGetConnTableMaxEntries{})
	s.CLI("show acl-plugin sessions", "Sessions total", "Sessions active", "Reclassify")
	s.list(rule(reflects, tcp, "10.0.0.0/8", "0.0.0.0/0", ports{80, 90}), rule(denies, udp, "fd00::/16", "::/0", ports{53, 53}))
	s.CLI("show acl-plugin acl", "acl-index", "ipv4", "ipv6")
	s.CLI("set acl-plugin interface local0 input acl 0")
	s.CLI("show acl-plugin acl index 0", "applied inbound")
	s.CLI("show acl-plugin interface sw_if_index 0", "input acl")
	s.CLI("clear acl-plugin sessions")
}
