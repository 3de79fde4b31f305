package program

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"go.fd.io/govpp/binapi/acl"
	"go.fd.io/govpp/binapi/ip_types"

	"github.com/millrace/millrace/dataplane"
)

// On VPP a UDP flow whose requests a change forbids can live on by the answer that is under
// way just then, where the other direction is permitted: see guard. Nothing in an answer
// tells it from a first packet but its ports: a server's comes from a low one and goes to
// one that clients use. So while a direction narrows, such packets without a session are
// held out of the opposite one for as long as answers take. Then nothing is left to answer.
//
// What is lost with them, for this moment: UDP that one end sends of its own accord from a
// low port to a high one. What is left: UDP between two high ports, and ends that answer
// later than holdFor.
const holdFor = 200 * time.Millisecond

// hold is the ACL that keeps answers out during one swap; the zero hold keeps none.
type hold struct {
	index uint32
	on    map[string]bool // by interface
}

// mayRevive says whether a change of one ACL can leave answers under way.
func (p *Program) mayRevive(step dataplane.Step) bool {
	o, _ := step.Object.(dataplane.ACL)
	was, ok := step.Was.(dataplane.ACL)
	if !p.spreads || ok && hasAll(o.Rules, was.Rules) && !aclRefOf(o, 0).denies {
		return false
	}
	for _, b := range p.bound {
		if slices.Contains(b.Input, o.Name) && len(b.Output) > 0 || slices.Contains(b.Output, o.Name) && len(b.Input) > 0 {
			return true
		}
	}
	return false
}

// hold makes the ACL when an interface needs it. Without it the swap is as good as it was
// on VPP before: that it cannot be made is no reason to leave a forbidden flow be.
func (s *swap) hold(ctx context.Context, all []relist) hold {
	h := hold{on: map[string]bool{}}
	if !s.program.spreads {
		return h
	}
	cost := 0
	for _, r := range all {
		// A direction with an empty list has no sessions, and one that is bound for the
		// first time no flows.
		if r.in == narrows && len(r.was.Output) > 0 && len(r.want.Output) > 0 || r.out == narrows && len(r.was.Input) > 0 && len(r.want.Input) > 0 {
			h.on[r.want.Interface] = true
			for _, name := range slices.Concat(r.want.Input, r.want.Output) {
				cost += s.ref(name).rules
			}
		}
	}
	if len(h.on) == 0 || cost > replaceMax {
		return hold{}
	}
	b := newBatch(1)
	b.add(0, s.program.writeACL(answersHeld(), none), nil)
	if b.run(ctx, s.program.conn); b.errs[0] != nil {
		return hold{}
	}
	h.index = b.exchanges[0].Reply.(*acl.ACLAddReplaceReply).ACLIndex
	return h
}

func (h hold) holds(r relist) bool { return h.on[r.want.Interface] }

// before puts the ACL in front of what is opposite to a direction that narrows.
func (h hold) before(r relist, input, output []uint32) (heldInput, heldOutput []uint32) {
	if r.out == narrows && len(input) > 0 {
		input = slices.Concat([]uint32{h.index}, input)
	}
	if r.in == narrows && len(output) > 0 {
		output = slices.Concat([]uint32{h.index}, output)
	}
	return input, output
}

// wait lets answers come that are under way.
func (h hold) wait(ctx context.Context) {
	if len(h.on) == 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(holdFor):
	}
}

// release deletes the ACL. Should that fail, the next look at the machine finds it.
func (s *swap) release(ctx context.Context, h hold) {
	if len(h.on) == 0 {
		return
	}
	b := newBatch(1)
	b.add(0, deleteACL(h.index), nil)
	b.run(ctx, s.program.conn)
}

// answersHeld is the ACL: it denies what looks like an answer by UDP and says nothing of the
// rest. No wish has one of its name: left by a crash, it is found as too much.
func answersHeld() dataplane.ACL {
	o := dataplane.ACL{Name: "hold"}
	for _, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		all := netip.PrefixFrom(any, 0)
		o.Rules = append(o.Rules, dataplane.Rule{
			Action: dataplane.Deny, Protocol: uint8(ip_types.IP_API_PROTO_UDP), Src: all, Dst: all,
			SrcPorts: dataplane.Ports{First: 0, Last: clientPorts - 1}, DstPorts: dataplane.Ports{First: clientPorts, Last: 0xffff},
		})
	}
	return o
}
