package program

import (
	"context"
	"fmt"
	"strings"

	"go.fd.io/govpp/binapi/acl"
	"go.fd.io/govpp/binapi/acl_types"
	"go.fd.io/govpp/binapi/ip_types"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// aclRef is what the machine calls one of our ACLs, and what has to be known of it.
type aclRef struct {
	index  uint32
	rules  int
	denies bool  // some rule does
	all    bool  // it permits whatever comes to it
	spans  []int // how many of the machine's rules each rule is; Observe fills it
}

func aclRefOf(o dataplane.ACL, index uint32) aclRef {
	ref := aclRef{index: index, rules: len(o.Rules)}
	var all4, all6 bool
	for _, r := range o.Rules {
		ref.denies = ref.denies || r.Action != dataplane.Permit && r.Action != dataplane.PermitReflect
		if r.Protocol == 0 && r.Src.Bits() == 0 && r.Dst.Bits() == 0 {
			all4, all6 = all4 || r.Src.Addr().Is4(), all6 || r.Src.Addr().Is6()
		}
	}
	ref.all = all4 && all6 && !ref.denies
	return ref
}

// observeACLs finds ACLs by our mark in their tag. Of two with one tag, as a crash between
// the new and the old version leaves them, the first keeps the name; the other gets a name
// that no wish has, and so do the bindings that use it: the next plan binds those anew and
// then deletes it.
func (p *Program) observeACLs(ctx context.Context, s *dataplane.State) error {
	p.acls = map[string]aclRef{}
	if p.unguarded != nil {
		return nil
	}
	for d, err := range vpp.Dump[acl.ACLDetails](ctx, p.conn, &acl.ACLDump{ACLIndex: none}) {
		if err != nil {
			return err
		}
		name, ours := strings.CutPrefix(d.Tag, p.id.Mark)
		if !ours {
			continue
		}
		if _, twice := p.acls[name]; twice {
			name = fmt.Sprintf("twice:%d", d.ACLIndex)
		}
		o := dataplane.ACL{Name: name}
		var spans []int
		o.Rules, spans = rulesOf(d.R)
		ref := aclRefOf(o, d.ACLIndex)
		ref.spans = spans
		p.acls[name] = ref
		s.Put(o)
	}
	return nil
}

// createACLs writes ACLs that no interface uses yet.
func (p *Program) createACLs(ctx context.Context, steps []dataplane.Step) []error {
	b := newBatch(len(steps))
	for i, step := range steps {
		b.add(i, p.writeACL(step.Object.(dataplane.ACL), none), p.unguarded)
	}
	b.run(ctx, p.conn)
	for n, e := range b.exchanges {
		if i := b.owners[n]; b.errs[i] == nil {
			o := steps[i].Object.(dataplane.ACL)
			p.acls[o.Name] = aclRefOf(o, e.Reply.(*acl.ACLAddReplaceReply).ACLIndex)
		}
	}
	return b.errs
}

// deleteACLs deletes ACLs that none of our interfaces uses any more. One that somebody
// else's interface uses stays, with an error.
func (p *Program) deleteACLs(ctx context.Context, steps []dataplane.Step) []error {
	b := newBatch(len(steps))
	b.asDone = isNoSuchEntry
	for i, step := range steps {
		index, err := p.acl(step.Object.Key().Name)
		b.add(i, deleteACL(index), err)
	}
	b.run(ctx, p.conn)
	for i, step := range steps {
		if b.errs[i] == nil {
			delete(p.acls, step.Object.Key().Name)
		}
	}
	return b.errs
}

// acl finds the index of an ACL that a binding or a step refers to.
func (p *Program) acl(name string) (uint32, error) {
	if p.unguarded != nil {
		return 0, p.unguarded
	}
	if ref, ok := p.acls[name]; ok {
		return ref.index, nil
	}
	return 0, fmt.Errorf("no acl is called %s", name)
}

// aclName finds our name of an ACL; one that is not ours gets a name that no wish has.
func aclName(names map[uint32]string, index uint32) string {
	if name, ours := names[index]; ours {
		return name
	}
	return fmt.Sprintf("foreign:%d", index)
}

// writeACL makes a new ACL, index none, or replaces one where it is bound.
func (p *Program) writeACL(o dataplane.ACL, index uint32) vpp.Exchange {
	return vpp.Exchange{
		Request: &acl.ACLAddReplace{ACLIndex: index, Tag: p.id.Mark + o.Name, R: p.wireRules(o.Rules)},
		Reply:   &acl.ACLAddReplaceReply{},
	}
}

func deleteACL(index uint32) vpp.Exchange {
	return vpp.Exchange{Request: &acl.ACLDel{ACLIndex: index}, Reply: &acl.ACLDelReply{}}
}

func wireRule(r dataplane.Rule) acl_types.ACLRule {
	return acl_types.ACLRule{
		IsPermit: acl_types.ACLAction(r.Action), Proto: ip_types.IPProto(r.Protocol),
		SrcPrefix: wirePrefix(r.Src), DstPrefix: wirePrefix(r.Dst),
		SrcportOrIcmptypeFirst: r.SrcPorts.First, SrcportOrIcmptypeLast: r.SrcPorts.Last,
		DstportOrIcmpcodeFirst: r.DstPorts.First, DstportOrIcmpcodeLast: r.DstPorts.Last,
	}
}

// unknownAction is that of a rule which has no form in dataplane, so that its ACL differs
// from every wish and is written anew.
const unknownAction = dataplane.Action(0xff)

func ruleOf(r acl_types.ACLRule) dataplane.Rule {
	o := dataplane.Rule{
		Action: dataplane.Action(r.IsPermit), Protocol: uint8(r.Proto), Src: prefixOf(r.SrcPrefix), Dst: prefixOf(r.DstPrefix),
		SrcPorts: dataplane.Ports{First: r.SrcportOrIcmptypeFirst, Last: r.SrcportOrIcmptypeLast},
		DstPorts: dataplane.Ports{First: r.DstportOrIcmpcodeFirst, Last: r.DstportOrIcmpcodeLast},
	}
	if r.TCPFlagsMask != 0 {
		o.Action = unknownAction
	}
	return o
}
