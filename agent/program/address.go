package program

import (
	"context"

	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_types"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// observeUnnumbered finds who borrows addresses.
func (p *Program) observeUnnumbered(ctx context.Context, s *dataplane.State) error {
	all := &ip.IPUnnumberedDump{SwIfIndex: interface_types.InterfaceIndex(none)}
	for d, err := range vpp.Dump[ip.IPUnnumberedDetails](ctx, p.conn, all) {
		if err != nil {
			return err
		}
		borrower, ours := p.name(uint32(d.SwIfIndex))
		if !ours {
			continue
		}
		lender, _ := p.name(uint32(d.IPSwIfIndex))
		s.Put(dataplane.Unnumbered{Interface: borrower, Lender: lender})
	}
	return nil
}

// observeAddresses asks each of our interfaces that borrows none.
func (p *Program) observeAddresses(ctx context.Context, s *dataplane.State) error {
	for name, port := range p.ports {
		if _, borrows := s.Object(dataplane.Unnumbered{Interface: name}.Key()); borrows {
			continue
		}
		for _, is6 := range []bool{false, true} {
			req := &ip.IPAddressDump{SwIfIndex: interface_types.InterfaceIndex(port.index), IsIPv6: is6}
			for d, err := range vpp.Dump[ip.IPAddressDetails](ctx, p.conn, req) {
				if err != nil {
					return err
				}
				s.Put(dataplane.Address{Interface: name, Prefix: prefixOf(ip_types.Prefix(d.Prefix))})
			}
		}
	}
	return nil
}

func (p *Program) addressExchange(a dataplane.Address, add bool) (vpp.Exchange, error) {
	index, err := p.index(a.Interface)
	return vpp.Exchange{
		Request: &interfaces.SwInterfaceAddDelAddress{
			SwIfIndex: interface_types.InterfaceIndex(index), IsAdd: add,
			Prefix: ip_types.AddressWithPrefix(wirePrefix(a.Prefix)),
		},
		Reply: &interfaces.SwInterfaceAddDelAddressReply{},
	}, err
}

// borrow makes borrowers. Those on a wire are asked for what they borrowed and ask in its
// name: for IPv6 they join its groups and get a link-local address, but only when IPv6 is
// switched on after.
func (p *Program) borrow(ctx context.Context, steps []dataplane.Step) []error {
	b := newBatch(len(steps))
	b.asDone = isSet
	for i, step := range steps {
		u := step.Object.(dataplane.Unnumbered)
		e, err := p.unnumberedExchange(u, true)
		b.add(i, e, err)
		switch port := p.ports[u.Interface]; port.driver {
		case driverNIC, driverBond, driverVLAN:
			b.add(i, enableIP6(interface_types.InterfaceIndex(port.index)), nil)
		}
	}
	b.run(ctx, p.conn)
	return b.errs
}

// unnumberedExchange: the message's sw_if_index is the lender.
func (p *Program) unnumberedExchange(u dataplane.Unnumbered, add bool) (vpp.Exchange, error) {
	borrower, err := p.index(u.Interface)
	if err != nil {
		return vpp.Exchange{}, err
	}
	lender := none
	if add { // when it ends, the lender may be one that is not ours
		if lender, err = p.index(u.Lender); err != nil {
			return vpp.Exchange{}, err
		}
	}
	return vpp.Exchange{
		Request: &interfaces.SwInterfaceSetUnnumbered{
			SwIfIndex:           interface_types.InterfaceIndex(lender),
			UnnumberedSwIfIndex: interface_types.InterfaceIndex(borrower), IsAdd: add,
		},
		Reply: &interfaces.SwInterfaceSetUnnumberedReply{},
	}, nil
}
