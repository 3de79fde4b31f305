package program

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/acl"
	"go.fd.io/govpp/binapi/fib"
	"go.fd.io/govpp/binapi/vlib"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
	"github.com/millrace/millrace/vpp/vpptest"
)

// scribe is a machine that writes down what is asked of it, and refuses ACLs of the tag
// millrace/refused and lists for interface 9.
type scribe struct {
	lines []string
	next  uint32
}

func (s *scribe) add(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

func (s *scribe) program(t *testing.T) *Program {
	t.Helper()
	server := vpptest.New(t)
	vpptest.Handle(server, func(peer *vpptest.Peer, context uint32, _ *fib.FibSourceDump) {
		peer.Reply(context, &fib.FibSourceDetails{Src: fib.FibSource{Name: Agent("").Source, ID: 23}})
	}, &fib.FibSourceDetails{})
	vpptest.Handle(server, func(peer *vpptest.Peer, context uint32, req *vlib.CliInband) {
		s.add("%s", req.Cmd)
		peer.Reply(context, &vlib.CliInbandReply{})
	}, &vlib.CliInbandReply{})
	vpptest.Handle(server, func(peer *vpptest.Peer, context uint32, _ *acl.ACLStatsIntfCountersEnable) {
		s.add("count matches")
		peer.Reply(context, &acl.ACLDelReply{}) // as VPP 25.10 does
	}, &acl.ACLStatsIntfCountersEnableReply{})
	vpptest.Handle(server, func(peer *vpptest.Peer, context uint32, req *acl.ACLAddReplace) {
		reply := &acl.ACLAddReplaceReply{ACLIndex: req.ACLIndex}
		if req.ACLIndex == none {
			s.next++
			reply.ACLIndex = s.next
		}
		s.add("write %s as %d, %d rules", req.Tag, reply.ACLIndex, len(req.R))
		if req.Tag == Agent("").Mark+"refused" {
			reply.Retval = int32(api.INVALID_VALUE_2)
		}
		peer.Reply(context, reply)
	}, &acl.ACLAddReplaceReply{})
	vpptest.Handle(server, func(peer *vpptest.Peer, context uint32, req *acl.ACLInterfaceSetACLList) {
		s.add("list of %d: %v, %v", req.SwIfIndex, req.Acls[:req.NInput], req.Acls[req.NInput:])
		reply := &acl.ACLInterfaceSetACLListReply{}
		if req.SwIfIndex == 9 {
			reply.Retval = int32(api.INVALID_SW_IF_INDEX)
		}
		peer.Reply(context, reply)
	}, &acl.ACLInterfaceSetACLListReply{})
	vpptest.Handle(server, func(peer *vpptest.Peer, context uint32, req *acl.ACLDel) {
		s.add("delete %d", req.ACLIndex)
		peer.Reply(context, &acl.ACLDelReply{})
	}, &acl.ACLDelReply{})
	vpptest.Handle(server, func(*vpptest.Peer, uint32, *acl.ACLDump) {}, &acl.ACLDetails{})
	vpptest.Handle(server, func(*vpptest.Peer, uint32, *acl.ACLInterfaceListDump) {}, &acl.ACLInterfaceListDetails{})
	conn, err := vpp.Dial(t.Context(), vpp.Config{Socket: server.Socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	p := program(t, conn)
	for name, index := range map[string]uint32{"a": 1, "b": 2, "gone": 9} {
		p.ports[name] = port{index: index, driver: driverLoopback}
	}
	return p
}

// TestGuard shows what goes over the wire for a change of what guards interfaces.
func TestGuard(t *testing.T) {
	all := "acl all rule=permit+reflect,0.0.0.0/0,0.0.0.0/0 rule=permit+reflect,::/0,::/0"
	one, two := "permit,10.0.0.1/32,0.0.0.0/0", "permit,10.0.0.2/32,0.0.0.0/0"
	up := func(lines ...string) []string { return append([]string{loops(2)[0], loops(2)[2]}, lines...) }
	tests := []struct {
		name       string
		have, want []string
		wire       string
	}{
		{"a new interface",
			up(), up(all, "acl-binding a input=all output=all"),
			"write millrace/all as 1, 2 rules; list of 1: [1], [1]"},
		{"one ACL",
			up("acl x rule="+one, "acl-binding a input=x", "acl-binding b output=x"),
			up("acl x rule="+two, "acl-binding a input=x", "acl-binding b output=x"),
			"write millrace/x as 1, 1 rules"},
		{"two ACLs",
			up("acl x rule="+one, "acl y rule="+two, "acl-binding a input=x", "acl-binding b output=x output=y"),
			up("acl x rule="+two, "acl y rule="+one, "acl-binding a input=x", "acl-binding b output=x output=y"),
			"write millrace/x as 3, 1 rules; write millrace/y as 4, 1 rules; list of 1: [3], []; list of 2: [], [3 4]; delete 1; delete 2"},
		{"who is let in waits for who is let out no more",
			up(all, "acl x rule="+one, "acl-binding a input=x output=all", "acl-binding b input=all output=all"),
			up(all, "acl x rule="+one, "acl-binding a input=all output=all", "acl-binding b input=all output=x"),
			"list of 2: [1], [2]; list of 1: [1], [1]"},
		{"so does one direction for the other",
			up(all, "acl x rule="+one, "acl-binding a input=x output=all", "acl-binding b input=all output=all"),
			up(all, "acl x rule="+one, "acl-binding a input=all output=x", "acl-binding b input=all output=all"),
			"list of 1: [2], [2]; list of 1: [1], [2]"},
		{"more rules and one more list",
			up("acl x rule="+one, "acl y rule="+one, "acl-binding a input=x", "acl-binding b input=x input=y"),
			up("acl x rule="+one+" rule="+two, "acl y rule="+one, "acl-binding a input=x input=y", "acl-binding b input=x"),
			"write millrace/x as 3, 2 rules; list of 2: [3], []; list of 1: [3 2], []; delete 1"},
		{"a deny is never taken for more",
			up(all, "acl-binding a input=all"),
			up(all, "acl d rule=deny,0.0.0.0/0,0.0.0.0/0", "acl-binding a input=d input=all"),
			"write millrace/d as 2, 1 rules; list of 1: [2 1], []"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &scribe{}
			p := s.program(t)
			have, want := wanted(t, tt.have...), wanted(t, tt.want...)
			run(t, p, dataplane.Diff(wanted(t, up()...), have))
			s.lines = nil
			run(t, p, dataplane.Diff(have, want))
			if diff := cmp.Diff(strings.Split(tt.wire, "; "), s.lines); diff != "" {
				t.Errorf("on the wire (-want +have):\n%s", diff)
			}
		})
	}
}

func run(t *testing.T, p *Program, plan dataplane.Plan) {
	t.Helper()
	p.Apply(t.Context(), plan, nil, func(step dataplane.Step, err error) {
		if err != nil {
			t.Errorf("%s: %v", step, err)
		}
	})
}

// TestGuardFailures: what fails holds back what needs it, and nothing else.
func TestGuardFailures(t *testing.T) {
	s := &scribe{}
	p := s.program(t)
	if text := strings.Join(s.lines, "; "); text != strings.Join(aclSettings[:], "; ")+"; count matches" {
		t.Errorf("a connection begins with %s", text)
	}
	rule := " rule=permit,10.0.0.1/32,0.0.0.0/0"
	have := wanted(t, "interface a device=loopback mtu=1500", "interface b device=loopback mtu=1500", "interface gone device=loopback mtu=1500",
		"acl x", "acl y", "acl-binding a input=x", "acl-binding gone input=y")
	run(t, p, dataplane.Diff(wanted(t, "interface a device=loopback mtu=1500", "interface b device=loopback mtu=1500", "interface gone device=loopback mtu=1500"),
		wanted(t, "interface a device=loopback mtu=1500", "interface b device=loopback mtu=1500", "interface gone device=loopback mtu=1500",
			"acl x", "acl y", "acl-binding a input=x")))
	p.bound["gone"] = dataplane.ACLBinding{Interface: "gone", Input: []string{"y"}}
	p.acls["refused"] = aclRef{index: 50}
	have.Put(dataplane.ACL{Name: "refused"})
	want := wanted(t, "interface a device=loopback mtu=1500", "interface b device=loopback mtu=1500", "interface gone device=loopback mtu=1500",
		"acl x"+rule, "acl y"+rule, "acl refused"+rule,
		"acl-binding a input=x input=refused", "acl-binding b input=refused", "acl-binding gone input=y", "up b")
	var got []string
	p.Apply(t.Context(), dataplane.Diff(have, want), nil, func(step dataplane.Step, err error) {
		fate := "done"
		if err != nil {
			fate = "failed"
		}
		got = append(got, step.Verb.String()+" "+step.Object.Key().String()+" "+fate)
	})
	wantFates := []string{
		"update acl refused failed", "update acl x done", "update acl y failed", // an interface has either version of y
		"update acl-binding a done", // by the version of refused that there is
		"create acl-binding b failed", "create up b failed",
	}
	if diff := cmp.Diff(wantFates, got); diff != "" {
		t.Errorf("-want +have:\n%s", diff)
	}
}
