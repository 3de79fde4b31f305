package program

import (
	"context"
	"errors"
	"slices"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/acl"
	"go.fd.io/govpp/binapi/interface_types"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// observeBindings reads the lists of our interfaces. An ACL in them that is not ours has a
// name that no wish has: an interface of ours is guarded by our lists alone, and the next
// plan takes the foreign one out.
func (p *Program) observeBindings(ctx context.Context, s *dataplane.State) error {
	p.bound = map[string]dataplane.ACLBinding{}
	if p.unguarded != nil {
		return nil
	}
	names := map[uint32]string{}
	for name, ref := range p.acls {
		names[ref.index] = name
	}
	ours := map[uint32]string{}
	for name, port := range p.ports {
		ours[port.index] = name
	}
	all := &acl.ACLInterfaceListDump{SwIfIndex: interface_types.InterfaceIndex(none)}
	for d, err := range vpp.Dump[acl.ACLInterfaceListDetails](ctx, p.conn, all) {
		if err != nil {
			return err
		}
		name, known := ours[uint32(d.SwIfIndex)]
		if !known || len(d.Acls) == 0 {
			continue
		}
		b := dataplane.ACLBinding{Interface: name}
		for i, index := range d.Acls {
			if i < int(d.NInput) {
				b.Input = append(b.Input, aclName(names, index))
			} else {
				b.Output = append(b.Output, aclName(names, index))
			}
		}
		p.bound[name] = b
		s.Put(b)
	}
	return nil
}

// unbind takes the lists off interfaces that are down.
func (p *Program) unbind(ctx context.Context, steps []dataplane.Step) []error {
	b := newBatch(len(steps))
	b.asDone = isGone
	for i, step := range steps {
		name := step.Object.Key().Name
		e, err := p.listExchange(name, nil, nil)
		b.add(i, e, errors.Join(err, p.unguarded))
	}
	b.run(ctx, p.conn)
	for i, step := range steps {
		if b.errs[i] == nil {
			delete(p.bound, step.Object.Key().Name)
		}
	}
	return b.errs
}

// listExchange sets both lists of an interface in one message, which VPP carries out
// between two packets.
func (p *Program) listExchange(name string, input, output []uint32) (vpp.Exchange, error) {
	index, err := p.index(name)
	return vpp.Exchange{
		Request: &acl.ACLInterfaceSetACLList{
			SwIfIndex: interface_types.InterfaceIndex(index), NInput: uint8(len(input)), Acls: slices.Concat(input, output),
		},
		Reply: &acl.ACLInterfaceSetACLListReply{},
	}, err
}

func isNoSuchEntry(err error) bool { return errors.Is(err, api.NO_SUCH_ENTRY) }
