package api

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	govppapi "go.fd.io/govpp/api"
	binacl "go.fd.io/govpp/binapi/acl"
	"go.fd.io/govpp/binapi/acl_types"
	"go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip_types"
)

// rule matches TCP to a port between two prefixes.
func rule(t testing.TB, action acl_types.ACLAction, src, dst string, port uint16) acl_types.ACLRule {
	return acl_types.ACLRule{IsPermit: action, SrcPrefix: prefix(t, src), DstPrefix: prefix(t, dst), Proto: ip_types.IP_API_PROTO_TCP,
		SrcportOrIcmptypeLast: 65535, DstportOrIcmpcodeFirst: port, DstportOrIcmpcodeLast: port}
}

// TestACLRetvals are the numbers of VPP 25.10.
func TestACLRetvals(t *testing.T) {
	path := *vppAPI
	if path == "" {
		_, path = start(t)
	}
	ch := channel(t, connect(t, path))
	four := rule(t, 2, "10.0.0.0/8", "0.0.0.0/0", 80)
	with := func(edit func(*acl_types.ACLRule)) []acl_types.ACLRule {
		r := four
		edit(&r)
		return []acl_types.ACLRule{r}
	}
	add := func(index uint32, tag string, r ...acl_types.ACLRule) *binacl.ACLAddReplace {
		return &binacl.ACLAddReplace{ACLIndex: index, Tag: tag, R: r}
	}
	list := func(index interface_types.InterfaceIndex, n uint8, acls ...uint32) *binacl.ACLInterfaceSetACLList {
		return &binacl.ACLInterfaceSetACLList{SwIfIndex: index, NInput: n, Acls: acls}
	}
	const none = ^uint32(0)
	loop := &interfaces.CreateLoopback{}
	for _, c := range []struct {
		what string
		q, r govppapi.Message
		want int32
	}{
		{"loopback", loop, &interfaces.CreateLoopbackReply{}, 0},
		{"a list", add(none, "web", four), &binacl.ACLAddReplaceReply{}, 0},
		{"no rules", add(none, ""), &binacl.ACLAddReplaceReply{}, 0},
		{"the longest tag", add(none, strings.Repeat("t", 63), four), &binacl.ACLAddReplaceReply{}, 0},
		{"a longer tag", add(none, strings.Repeat("t", 64), four), &binacl.ACLAddReplaceReply{}, -7},
		{"replace", add(0, "web2", four, four), &binacl.ACLAddReplaceReply{}, 0},
		{"replace nothing", add(77, "", four), &binacl.ACLAddReplaceReply{}, -6},
		{"host bits", add(none, "", with(func(r *acl_types.ACLRule) { r.SrcPrefix = prefix(t, "10.0.0.1/8") })...), &binacl.ACLAddReplaceReply{}, -57},
		{"host bits behind", add(none, "", with(func(r *acl_types.ACLRule) { r.DstPrefix = prefix(t, "10.0.0.1/8") })...), &binacl.ACLAddReplaceReply{}, -58},
		{"two families", add(none, "", with(func(r *acl_types.ACLRule) { r.DstPrefix = prefix(t, "::/0") })...), &binacl.ACLAddReplaceReply{}, -57},
		{"too long a prefix", add(none, "", with(func(r *acl_types.ACLRule) { r.SrcPrefix.Len = 33 })...), &binacl.ACLAddReplaceReply{}, -57},
		{"no family", add(none, "", with(func(r *acl_types.ACLRule) { r.DstPrefix.Address.Af = 7 })...), &binacl.ACLAddReplaceReply{}, -58},
		{"ports the wrong way", add(none, "", with(func(r *acl_types.ACLRule) { r.DstportOrIcmpcodeLast = 79 })...), &binacl.ACLAddReplaceReply{}, -8},
		{"an action that is none", add(none, "", with(func(r *acl_types.ACLRule) { r.IsPermit = 9 })...), &binacl.ACLAddReplaceReply{}, 0},
		{"apply", list(1, 1, 0, 1, 2), &binacl.ACLInterfaceSetACLListReply{}, 0},
		{"apply again", list(1, 1, 0, 1, 2), &binacl.ACLInterfaceSetACLListReply{}, 0},
		{"apply to nothing", list(77, 1, 0), &binacl.ACLInterfaceSetACLListReply{}, -2},
		{"apply nothing that is", list(1, 1, 0, 88), &binacl.ACLInterfaceSetACLListReply{}, -6},
		{"twice", list(1, 0, 0, 0), &binacl.ACLInterfaceSetACLListReply{}, 1},
		{"in both directions", list(1, 1, 0, 0), &binacl.ACLInterfaceSetACLListReply{}, 0},
		{"delete one that is applied", &binacl.ACLDel{ACLIndex: 0}, &binacl.ACLDelReply{}, -142},
		{"output only", list(1, 0, 0), &binacl.ACLInterfaceSetACLListReply{}, 0},
		{"delete one that is applied there", &binacl.ACLDel{ACLIndex: 0}, &binacl.ACLDelReply{}, -143},
		{"add what is there", &binacl.ACLInterfaceAddDel{IsAdd: true, SwIfIndex: 1, ACLIndex: 0}, &binacl.ACLInterfaceAddDelReply{}, -143},
		{"add", &binacl.ACLInterfaceAddDel{IsAdd: true, IsInput: true, SwIfIndex: 1, ACLIndex: 0}, &binacl.ACLInterfaceAddDelReply{}, 0},
		{"add what is there", &binacl.ACLInterfaceAddDel{IsAdd: true, IsInput: true, SwIfIndex: 1, ACLIndex: 0}, &binacl.ACLInterfaceAddDelReply{}, -142},
		{"add what is not", &binacl.ACLInterfaceAddDel{IsAdd: true, IsInput: true, SwIfIndex: 1, ACLIndex: 88}, &binacl.ACLInterfaceAddDelReply{}, -6},
		{"remove", &binacl.ACLInterfaceAddDel{IsInput: true, SwIfIndex: 1, ACLIndex: 0}, &binacl.ACLInterfaceAddDelReply{}, 0},
		{"remove again", &binacl.ACLInterfaceAddDel{IsInput: true, SwIfIndex: 1, ACLIndex: 0}, &binacl.ACLInterfaceAddDelReply{}, -6},
		{"remove from nothing", &binacl.ACLInterfaceAddDel{IsInput: true, SwIfIndex: 77, ACLIndex: 0}, &binacl.ACLInterfaceAddDelReply{}, -2},
		{"take off", list(1, 0), &binacl.ACLInterfaceSetACLListReply{}, 0},
		{"delete", &binacl.ACLDel{ACLIndex: 0}, &binacl.ACLDelReply{}, 0},
		{"delete again", &binacl.ACLDel{ACLIndex: 0}, &binacl.ACLDelReply{}, -6},
		{"count", &binacl.ACLStatsIntfCountersEnable{Enable: true}, &binacl.ACLStatsIntfCountersEnableReply{}, 0},
		{"ping", &binacl.ACLPluginControlPing{}, &binacl.ACLPluginControlPingReply{}, 0},
		{"linear", &binacl.ACLPluginUseHashLookupSet{}, &binacl.ACLPluginUseHashLookupSetReply{}, 0},
	} {
		if got := call(t, ch, c.q, c.r); got != c.want {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
	}
	again := &binacl.ACLAddReplaceReply{}
	if got := call(t, ch, add(none, "", four), again); got != 0 || again.ACLIndex != 0 {
		t.Errorf("the index given back last is not given out first: %d, %d", again.ACLIndex, got)
	}
	version, max, hash := &binacl.ACLPluginGetVersionReply{}, &binacl.ACLPluginGetConnTableMaxEntriesReply{}, &binacl.ACLPluginUseHashLookupGetReply{}
	call(t, ch, &binacl.ACLPluginGetVersion{}, version)
	call(t, ch, &binacl.ACLPluginGetConnTableMaxEntries{}, max)
	call(t, ch, &binacl.ACLPluginUseHashLookupGet{}, hash)
	if version.Major != 1 || version.Minor != 4 || max.ConnTableMaxEntries != 500000 || hash.Enable {
		t.Errorf("version %+v, table %+v, hash %+v", version, max, hash)
	}
}

// TestACLsAreDumped as they were given.
func TestACLsAreDumped(t *testing.T) {
	_, path := start(t)
	ch := channel(t, connect(t, path))
	rules := []acl_types.ACLRule{rule(t, 2, "10.0.0.0/8", "0.0.0.0/0", 80), rule(t, 0, "::/0", "fd00::/16", 1)}
	rules[1].TCPFlagsMask, rules[1].TCPFlagsValue = 0x12, 0x02
	for _, r := range [][]acl_types.ACLRule{rules, nil} {
		if got := call(t, ch, &binacl.ACLAddReplace{ACLIndex: ^uint32(0), Tag: "policy/default/web", R: r}, &binacl.ACLAddReplaceReply{}); got != 0 {
			t.Fatal(got)
		}
	}
	if got := call(t, ch, &binacl.ACLInterfaceSetACLList{SwIfIndex: 0, NInput: 1, Acls: []uint32{1, 0}}, &binacl.ACLInterfaceSetACLListReply{}); got != 0 {
		t.Fatal(got)
	}
	dump := func(q govppapi.Message, next func() govppapi.Message) (all []govppapi.Message) {
		r := ch.SendMultiRequest(q)
		for {
			m := next()
			stop, err := r.ReceiveReply(m)
			if err != nil {
				t.Fatal(err)
			}
			if stop {
				return all
			}
			all = append(all, m)
		}
	}
	list := func() govppapi.Message { return &binacl.ACLDetails{} }
	want := []govppapi.Message{&binacl.ACLDetails{Tag: "policy/default/web", Count: 2, R: rules}}
	if diff := cmp.Diff(want, dump(&binacl.ACLDump{}, list)); diff != "" {
		t.Errorf("list 0 (-want +got):\n%s", diff)
	}
	if got := dump(&binacl.ACLDump{ACLIndex: ^uint32(0)}, list); len(got) != 2 || len(got[1].(*binacl.ACLDetails).R) != 0 {
		t.Errorf("all: %v", got)
	}
	if got := dump(&binacl.ACLDump{ACLIndex: 9}, list); len(got) != 0 {
		t.Errorf("a list that is not: %v", got)
	}
	on := dump(&binacl.ACLInterfaceListDump{SwIfIndex: ^interface_types.InterfaceIndex(0)}, func() govppapi.Message { return &binacl.ACLInterfaceListDetails{} })
	if diff := cmp.Diff([]govppapi.Message{&binacl.ACLInterfaceListDetails{Count: 2, NInput: 1, Acls: []uint32{1, 0}}}, on); diff != "" {
		t.Errorf("lists (-want +got):\n%s", diff)
	}
}

// TestACLCommands: what is set shows, and what is not understood is said.
func TestACLCommands(t *testing.T) {
	s, path := start(t)
	ch := channel(t, connect(t, path))
	if got := call(t, ch, &binacl.ACLAddReplace{ACLIndex: ^uint32(0), Tag: "web", R: []acl_types.ACLRule{rule(t, 2, "10.0.0.0/8", "0.0.0.0/0", 80)}},
		&binacl.ACLAddReplaceReply{}); got != 0 {
		t.Fatal(got)
	}
	for _, c := range []struct{ line, want string }{
		{"set acl-plugin session timeout udp idle 60", ""},
		{"set acl-plugin session timeout tcp idle 61", ""},
		{"set acl-plugin session timeout tcp transient 62", ""},
		{"set acl-plugin session table max-entries 1000", ""},
		{"set acl-plugin reclassify-sessions 1", ""},
		{"set acl-plugin reclassify-sessions", "unknown input `reclassify-sessions'"},
		{"set acl-plugin session timeout icmp idle 60", "unknown input `session timeout icmp idle 60'"},
		{"set acl-plugin session timeout udp idle soon", "expecting a number, got `soon'"},
		{"set acl-plugin interface local0 input acl 0", ""},
		{"set acl-plugin interface local0 input acl 1", "No such entry"},
		{"set acl-plugin interface nowhere input acl 0", "invalid interface"},
		{"set acl-plugin interface local0 input", "invalid acl"},
		{"set acl-plugin session table max-entries 2000", "the table was made for 1000"},
		{"set acl-plugin session table max-entries 900", ""},
		{"show acl-plugin sessions", "Session timeouts: udp idle 60 tcp idle 61 tcp transient 62"},
		{"show acl-plugin sessions", "Sessions at most: 900"},
		{"show acl-plugin sessions", "Reclassify sessions: 1"},
		{"show acl-plugin sessions", "Sessions total: add 0 - del 0 = 0"},
		{"show acl-plugin acl", "acl-index 0 count 1 tag {web}"},
		{"show acl-plugin acl index 0", "          0: ipv4 permit+reflect src 10.0.0.0/8 dst 0.0.0.0/0 proto 6 sport 0-65535 dport 80"},
		{"show acl-plugin acl", "  applied inbound on sw_if_index: 0"},
		{"show acl-plugin interface acl", "  input acl(s): 0"},
		{"show acl-plugin tables", "Use hash-based lookup for ACLs: 1"},
		{"delete acl-plugin acl index 0", "acl 0 is on an interface"},
		{"clear acl-plugin sessions", ""},
		{"set acl-plugin interface local0 input acl 0 del", ""},
		{"delete acl-plugin acl index 0", "Deleted ACL index:0"},
		{"delete acl-plugin acl index 0", "no acl has the index 0"},
	} {
		text, err := s.runCommand(c.line)
		if err != nil {
			text += err.Error()
		}
		if !strings.Contains(text, c.want) || c.want == "" && text != "" {
			t.Errorf("%s: %q, want %q", c.line, text, c.want)
		}
	}
}
