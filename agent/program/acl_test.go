package program

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/acl"
	"go.fd.io/govpp/binapi/acl_types"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/vpp"
)

// aclMachines are the machines that have ACLs.
func aclMachines(t *testing.T, run func(t *testing.T, m machinetest.Machine)) {
	t.Helper()
	for _, m := range machinetest.All(t) {
		t.Run(m.Name, func(t *testing.T) {
			stop := m.Start(t)
			missing := m.Connect(t).Supports(&acl.ACLAddReplace{})
			if stop(); len(missing) > 0 {
				t.Skipf("this %s lacks %s", m.Name, missing[0])
			}
			run(t, m)
		})
	}
}

// wanted makes a State of its text form.
func wanted(t *testing.T, lines ...string) dataplane.State {
	t.Helper()
	s, err := dataplane.ParseState(strings.Join(lines, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// loops are the lines of interfaces a, b, c, … that are up.
func loops(n int) (lines []string) {
	for i := range n {
		name := string(rune('a' + i))
		lines = append(lines, "interface "+name+" device=loopback mtu=1500", "up "+name)
	}
	return lines
}

// many is an ACL of that many rules; version makes it another one of as many.
func many(name string, n, version int) dataplane.ACL {
	o := dataplane.ACL{Name: name}
	for i := range n {
		src := netip.AddrFrom4([4]byte{10, byte(version), byte(i >> 8), byte(i)})
		o.Rules = append(o.Rules, dataplane.Rule{
			Action: dataplane.PermitReflect, Src: netip.PrefixFrom(src, 32), Dst: netip.MustParsePrefix("0.0.0.0/0"),
			Protocol: 6, SrcPorts: dataplane.AnyPorts(), DstPorts: dataplane.Ports{First: 80, Last: 80},
		})
	}
	return o
}

// tags lists the machine's ACLs as index and tag.
func tags(t *testing.T, conn *vpp.Conn) map[uint32]string {
	t.Helper()
	all := map[uint32]string{}
	for d, err := range vpp.Dump[acl.ACLDetails](t.Context(), conn, &acl.ACLDump{ACLIndex: none}) {
		if err != nil {
			t.Fatal(err)
		}
		all[d.ACLIndex] = d.Tag
	}
	return all
}

// indexOf is the index of the only ACL of that tag.
func indexOf(t *testing.T, conn *vpp.Conn, tag string) uint32 {
	t.Helper()
	found := none
	for index, has := range tags(t, conn) {
		if has != tag {
			continue
		}
		if found != none {
			t.Fatalf("two ACLs are tagged %s: %v", tag, tags(t, conn))
		}
		found = index
	}
	if found == none {
		t.Fatalf("no ACL is tagged %s: %v", tag, tags(t, conn))
	}
	return found
}

// foreign writes an ACL that may have any tag.
func foreign(t *testing.T, conn *vpp.Conn, tag string) uint32 {
	t.Helper()
	r, err := vpp.Call[acl.ACLAddReplaceReply](t.Context(), conn, &acl.ACLAddReplace{ACLIndex: none, Tag: tag, R: []acl_types.ACLRule{
		wireRule(many("x", 1, 200).Rules[0]),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return r.ACLIndex
}

func setList(ctx context.Context, conn *vpp.Conn, index uint32, input int, acls ...uint32) error {
	_, err := vpp.Call[acl.ACLInterfaceSetACLListReply](ctx, conn, &acl.ACLInterfaceSetACLList{
		SwIfIndex: interface_types.InterfaceIndex(index), NInput: uint8(input), Acls: acls,
	})
	return err
}

func deleteACLNow(ctx context.Context, conn *vpp.Conn, index uint32) error {
	_, err := vpp.Call[acl.ACLDelReply](ctx, conn, &acl.ACLDel{ACLIndex: index})
	return err
}

// TestIntegrationACL: what is wished is what is found, and one update at a time keeps the
// index.
func TestIntegrationACL(t *testing.T) {
	aclMachines(t, func(t *testing.T, m machinetest.Machine) {
		m.Start(t)
		conn := m.Connect(t)
		p := program(t, conn)
		long := strings.Repeat("n", dataplane.NameMax) // with the mark, a tag of 63 bytes
		lines := append(loops(2),
			"acl all rule=permit,0.0.0.0/0,0.0.0.0/0 rule=permit+reflect,::/0,::/0",
			"acl empty",
			"acl "+long+" rule=deny,10.1.0.0/16,10.2.0.3/32,proto=6,sport=0,dport=0 rule=permit+reflect,fd01::/64,fd02::7/128,proto=17,sport=1-65535,dport=53 rule=permit,::/0,::/0,proto=58,sport=133-136,dport=0-255",
			"acl-binding a input=empty input=all output=all output="+long,
			"acl-binding b output=all",
		)
		want := wanted(t, lines...)
		reach(t, p, want)
		// Another life of the agent finds all of it.
		same(t, want, observe(t, program(t, conn)))

		index := indexOf(t, conn, "millrace/all")
		lines[4] = "acl all rule=permit,10.0.0.0/8,0.0.0.0/0"
		plan := reach(t, p, wanted(t, lines...))
		if len(plan) != 1 || plan[0].Verb != dataplane.Update {
			t.Errorf("another rule led to the plan\n%s", plan)
		}
		// But on VPP, where it forbids something: see acl_hold.go.
		if now := indexOf(t, conn, "millrace/all"); now != index && m.Name != "vpp" {
			t.Errorf("a small change alone went to index %d, and was %d", now, index)
		}
		// Lists change, then go with their interface, and last the ACLs.
		lines[len(lines)-1] = "acl-binding b input=all output=all output=empty"
		reach(t, p, wanted(t, lines...))
		reach(t, p, wanted(t, append([]string{"interface a device=loopback mtu=1500"}, lines[2:len(lines)-2]...)...))
		reach(t, p, dataplane.State{})
		if left := tags(t, conn); len(left) != 0 {
			t.Errorf("ACLs %v are left", left)
		}
	})
}

// TestIntegrationACLSCTP: it is known whose ACLs see ports of SCTP.
func TestIntegrationACLSCTP(t *testing.T) {
	aclMachines(t, func(t *testing.T, m machinetest.Machine) {
		m.Start(t)
		sees, err := program(t, m.Connect(t)).SeesSCTPPorts(t.Context())
		if want := m.Name == "engine"; err != nil || sees != want {
			t.Errorf("%t, %v; want %t", sees, err, want)
		}
	})
}

// TestIntegrationACLSwap: changes of several ACLs, and large ones, go to new indexes, and
// nothing of the old is left.
func TestIntegrationACLSwap(t *testing.T) {
	aclMachines(t, func(t *testing.T, m machinetest.Machine) {
		m.Start(t)
		conn := m.Connect(t)
		p := program(t, conn)
		const big = 2600 // on 20 lists: more than replaceMax
		wish := func(version int) dataplane.State {
			s := wanted(t, loops(10)...)
			s.Put(many("small", 3, version))
			s.Put(many("big", big, version))
			for i := range 10 {
				both := []string{"small", "big"}
				s.Put(dataplane.ACLBinding{Interface: string(rune('a' + i)), Input: both, Output: both})
			}
			return s
		}
		reach(t, p, wish(1))
		reach(t, p, wish(2)) // both at once
		if all := tags(t, conn); len(all) != 2 {
			t.Errorf("two ACLs were swapped, and there are %v", all)
		}
		s := wish(2)
		s.Put(many("big", big, 3))
		index := indexOf(t, conn, "millrace/big")
		if reach(t, p, s); indexOf(t, conn, "millrace/big") == index {
			t.Error("a large ACL was replaced where it is bound")
		}
		// One that is not bound, and one beside bindings that change.
		s.Put(many("free", 2, 1))
		reach(t, p, s)
		s.Put(many("free", 3, 2))
		s.Put(dataplane.ACLBinding{Interface: "a", Input: []string{"free"}, Output: []string{"small"}})
		reach(t, p, s)
		reach(t, p, wanted(t, loops(10)...))
		if left := tags(t, conn); len(left) != 0 {
			t.Errorf("ACLs %v are left", left)
		}
	})
}

// TestIntegrationACLInterruptedSwap: whatever a crash leaves between the new version and
// the old, the next reconcile ends with one.
func TestIntegrationACLInterruptedSwap(t *testing.T) {
	aclMachines(t, func(t *testing.T, m machinetest.Machine) {
		m.Start(t)
		conn := m.Connect(t)
		for _, bound := range []string{"none", "new", "old and new", "both in one"} {
			p := program(t, conn)
			want := wanted(t, append(loops(2), "acl-binding a input=x", "acl-binding b input=x")[:4]...)
			want.Put(many("x", 2, 1))
			want.Put(dataplane.ACLBinding{Interface: "a", Input: []string{"x"}})
			want.Put(dataplane.ACLBinding{Interface: "b", Input: []string{"x"}})
			reach(t, p, want)
			old := indexOf(t, conn, "millrace/x")
			fresh := foreign(t, conn, "millrace/x")
			var err error
			switch bound {
			case "new":
				err = errors.Join(setList(t.Context(), conn, p.ports["a"].index, 1, fresh), setList(t.Context(), conn, p.ports["b"].index, 1, fresh))
			case "old and new":
				err = setList(t.Context(), conn, p.ports["b"].index, 1, fresh)
			case "both in one":
				err = setList(t.Context(), conn, p.ports["b"].index, 1, fresh, old)
			}
			if err != nil {
				t.Fatal(err)
			}
			reach(t, program(t, conn), want)
			indexOf(t, conn, "millrace/x")
		}
	})
}

// TestIntegrationACLForeign: our interfaces are guarded by our ACLs alone, and what is
// somebody else's is left alone.
func TestIntegrationACLForeign(t *testing.T) {
	aclMachines(t, func(t *testing.T, m machinetest.Machine) {
		m.Start(t)
		conn := m.Connect(t)
		p := program(t, conn)
		want := wanted(t, append(loops(1), "acl x rule=permit,0.0.0.0/0,0.0.0.0/0", "acl y", "acl-binding a input=x output=x")...)
		reach(t, p, want)
		theirs := foreign(t, conn, "somebody's")
		x := indexOf(t, conn, "millrace/x")
		if err := setList(t.Context(), conn, p.ports["a"].index, 1, theirs, x); err != nil {
			t.Fatal(err)
		}
		reach(t, p, want)
		if all := tags(t, conn); all[theirs] != "somebody's" {
			t.Errorf("a foreign ACL is gone: %v", all)
		}
		// One of ours that another's interface uses stays until that lets go of it.
		loop, err := vpp.Call[interfaces.CreateLoopbackReply](t.Context(), conn, &interfaces.CreateLoopback{})
		if err == nil {
			err = setList(t.Context(), conn, uint32(loop.SwIfIndex), 0, indexOf(t, conn, "millrace/y"))
		}
		if err != nil {
			t.Fatal(err)
		}
		want.Remove(dataplane.ACL{Name: "y"}.Key())
		p.Apply(t.Context(), dataplane.Diff(observe(t, p), want), nil, func(step dataplane.Step, err error) {
			if !errors.Is(err, api.ACL_IN_USE_OUTBOUND) {
				t.Errorf("%s: %v, want that it is in use", step, err)
			}
		})
		if err := setList(t.Context(), conn, uint32(loop.SwIfIndex), 0); err != nil {
			t.Fatal(err)
		}
		reach(t, p, want)
	})
}

// TestIntegrationACLTraps: what the machine refuses, and what goes by itself.
func TestIntegrationACLTraps(t *testing.T) {
	aclMachines(t, func(t *testing.T, m machinetest.Machine) {
		stop := m.Start(t)
		conn := m.Connect(t)
		p := program(t, conn)
		want := wanted(t, append(loops(1), "acl x rule=permit,0.0.0.0/0,0.0.0.0/0", "acl y", "acl-binding a input=x output=y")...)
		reach(t, p, want)
		a, x, y := p.ports["a"].index, p.acls["x"].index, p.acls["y"].index
		tests := []struct {
			name string
			err  error
			want int32
		}{
			{"delete what input uses", deleteACLNow(t.Context(), conn, x), -142},
			{"delete what output uses", deleteACLNow(t.Context(), conn, y), -143},
			{"delete what is not there", deleteACLNow(t.Context(), conn, 99), -6},
			{"one twice in a direction", setList(t.Context(), conn, a, 2, x, x, y), 1},
			{"one that is not there", setList(t.Context(), conn, a, 2, x, 99, y), -6},
			{"no such interface", setList(t.Context(), conn, 999, 1, x), -2},
			{"host bits", addRule(t.Context(), conn, "10.0.0.1/8"), -57},
		}
		for _, tt := range tests {
			if got := vpp.Retval(tt.err); got != tt.want {
				t.Errorf("%s: %v, want retval %d", tt.name, tt.err, tt.want)
			}
		}
		reach(t, p, want) // VPP may have set one list of the two

		full := want
		list := dataplane.ACLBinding{Interface: "a"}
		for i := range dataplane.BindingMax {
			name := fmt.Sprintf("n/%d", i)
			full.Put(many(name, 1, i))
			if list.Output = append(list.Output, name); i < 100 {
				list.Input, list.Output = list.Output, nil
			}
		}
		full.Put(list)
		reach(t, p, full)

		// An interface that is deleted lets go of its ACLs, and an index is used again.
		if _, err := vpp.Call[interfaces.DeleteLoopbackReply](t.Context(), conn, &interfaces.DeleteLoopback{SwIfIndex: interface_types.InterfaceIndex(a)}); err != nil {
			t.Fatal(err)
		}
		if err := deleteACLNow(t.Context(), conn, x); err != nil {
			t.Errorf("delete an ACL of an interface that is gone: %v", err)
		}
		reach(t, p, want)

		// A machine made anew gives out the same indexes for other ACLs.
		stop()
		m.Start(t)
		conn = m.Connect(t)
		if index := foreign(t, conn, "millrace/y"); index != 0 {
			t.Fatalf("the first index is %d", index)
		}
		reach(t, program(t, conn), want)
	})
}

func addRule(ctx context.Context, conn *vpp.Conn, src string) error {
	r := many("x", 1, 1).Rules[0]
	r.Src = netip.MustParsePrefix(src)
	_, err := vpp.Call[acl.ACLAddReplaceReply](ctx, conn, &acl.ACLAddReplace{ACLIndex: none, R: []acl_types.ACLRule{wireRule(r)}})
	return err
}

// TestSpread: rules that are written as several are read back as what they are, and none
// is taken for such that is not.
func TestSpread(t *testing.T) {
	o, _ := wanted(t, "acl x rule=permit,0.0.0.0/0,0.0.0.0/0,proto=6 rule=permit+reflect,0.0.0.0/0,0.0.0.0/0 rule=permit+reflect,::/0,::/0"+
		" rule=permit,::/0,::/0 rule=permit+reflect,10.0.0.0/8,0.0.0.0/0 rule=deny,0.0.0.0/0,0.0.0.0/0").Object(dataplane.ACL{Name: "x"}.Key())
	rules := o.(dataplane.ACL).Rules
	wire := (&Program{spreads: true}).wireRules(rules)
	if len(wire) != len(rules)+2*3 {
		t.Errorf("%d rules were written as %d", len(rules), len(wire))
	}
	back, spans := rulesOf(wire)
	if !slices.Equal(back, rules) || !slices.Equal(spans, []int{1, 4, 4, 1, 1, 1}) {
		t.Errorf("read back as %v, %v", back, spans)
	}
	for i := range wire {
		cut := slices.Delete(slices.Clone(wire), i, i+1)
		if back, _ := rulesOf(cut); slices.Equal(back, rules) {
			t.Errorf("without the machine's rule %d nothing is missing", i)
		}
	}
	plain := (&Program{}).wireRules(rules)
	if back, spans := rulesOf(plain); !slices.Equal(back, rules) || len(spans) != len(plain) {
		t.Errorf("plain rules are read as %v, %v", back, spans)
	}
}

// TestUnguarded: on a machine without ACLs nothing is opened that has to be bound to some.
func TestUnguarded(t *testing.T) {
	p := refuser(t)
	plan := dataplane.Diff(dataplane.State{}, wanted(t, append(loops(1), "acl x", "acl-binding a input=x")...))
	plan = slices.DeleteFunc(plan, func(s dataplane.Step) bool { return s.Object.Key().Kind == dataplane.KindInterface })
	tried := 0
	p.Apply(t.Context(), plan, nil, func(step dataplane.Step, err error) {
		if tried++; !errors.Is(err, ErrUnguarded) {
			t.Errorf("%s: %v", step, err)
		}
	})
	if tried != 3 {
		t.Errorf("%d steps, want those of an ACL, a binding and of up", tried)
	}
}

func TestStages(t *testing.T) {
	base := append(loops(2), "acl x", "acl y", "acl gone", "acl-binding a input=x input=gone", "acl-binding b input=y")
	have := wanted(t, base...)
	want := wanted(t, append(loops(3),
		"acl x rule=permit,::/0,::/0", "acl y", "acl new", "acl-binding a input=x input=new", "acl-binding b input=y", "acl-binding c input=x")...)
	var got []string
	for _, stage := range stages(dataplane.Diff(have, want)) {
		var steps []string
		for _, s := range stage {
			steps = append(steps, s.Verb.String()+" "+s.Object.Key().String())
		}
		got = append(got, strings.Join(steps, ", "))
	}
	text := strings.Join(got, "; ")
	if text != "create acl new; create interface c; update acl x, update acl-binding a, create acl-binding c; create up c; delete acl gone" {
		t.Errorf("the stages are %s", text)
	}
}
