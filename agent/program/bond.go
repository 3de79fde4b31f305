package program

import (
	"context"
	"errors"
	"fmt"

	"go.fd.io/govpp/binapi/bond"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// bondBalances are VPP's numbers of ours.
var bondBalances = [...]bond.BondLbAlgo{
	dataplane.BalanceL2: bond.BOND_API_LB_ALGO_L2, dataplane.BalanceL34: bond.BOND_API_LB_ALGO_L34, dataplane.BalanceL23: bond.BOND_API_LB_ALGO_L23,
}

// observeBonds leaves out modes and balances that no wish of ours has.
func (p *Program) observeBonds(ctx context.Context, seen *observed) error {
	all := &bond.SwBondInterfaceDump{SwIfIndex: interface_types.InterfaceIndex(none)}
	for d, err := range vpp.Dump[bond.SwBondInterfaceDetails](ctx, p.conn, all) {
		if errors.Is(err, vpp.ErrUnsupported) {
			return nil
		}
		if err != nil {
			return err
		}
		name, ours := seen.names[uint32(d.SwIfIndex)]
		if !ours {
			continue
		}
		own := p.ports[name]
		own.driver = driverBond
		p.ports[name] = own
		device := dataplane.Bond{Mode: dataplane.BondMode(d.Mode - bond.BOND_API_MODE_ROUND_ROBIN), MAC: dataplane.MAC(seen.details[name].L2Address)}
		if device.Mode == dataplane.BondXOR || device.Mode == dataplane.BondLACP {
			for balance, number := range bondBalances {
				if number == d.Lb {
					device.Balance = dataplane.BondBalance(balance)
				}
			}
		}
		seen.devices[name] = device
	}
	return nil
}

func bondExchange(d dataplane.Bond) vpp.Exchange {
	return vpp.Exchange{
		Request: &bond.BondCreate2{
			Mode: bond.BOND_API_MODE_ROUND_ROBIN + bond.BondMode(d.Mode), Lb: bondBalances[d.Balance],
			UseCustomMac: true, MacAddress: [6]byte(d.MAC), ID: none,
		},
		Reply: &bond.BondCreate2Reply{},
	}
}

func deleteBond(index interface_types.InterfaceIndex) vpp.Exchange {
	return vpp.Exchange{Request: &bond.BondDelete{SwIfIndex: index}, Reply: &bond.BondDeleteReply{}}
}

// observeMembers asks each bond of ours.
func (p *Program) observeMembers(ctx context.Context, s *dataplane.State) error {
	for name, own := range p.ports {
		if own.driver != driverBond {
			continue
		}
		req := &bond.SwMemberInterfaceDump{SwIfIndex: interface_types.InterfaceIndex(own.index)}
		for d, err := range vpp.Dump[bond.SwMemberInterfaceDetails](ctx, p.conn, req) {
			if err != nil {
				return err
			}
			member, ours := p.name(uint32(d.SwIfIndex))
			if !ours {
				continue
			}
			s.Put(dataplane.BondMember{Interface: member, Bond: name, LongTimeout: d.IsLongTimeout})
		}
	}
	return nil
}

// join makes members. VPP takes a new member out of promiscuous mode (bond_add_member).
func (p *Program) join(ctx context.Context, steps []dataplane.Step) []error {
	b := newBatch(len(steps))
	b.asDone = isPromiscuous
	for i, step := range steps {
		m := step.Object.(dataplane.BondMember)
		e, err := p.joinExchange(m)
		b.add(i, e, err)
		if own := p.ports[m.Interface]; err == nil && own.nic.Promiscuous {
			b.add(i, promiscuousExchange(interface_types.InterfaceIndex(own.index)), nil)
		}
	}
	b.run(ctx, p.conn)
	return b.errs
}

func (p *Program) leaveExchange(m dataplane.BondMember) (vpp.Exchange, error) {
	index, err := p.index(m.Interface)
	return vpp.Exchange{
		Request: &bond.BondDetachMember{SwIfIndex: interface_types.InterfaceIndex(index)}, Reply: &bond.BondDetachMemberReply{},
	}, err
}

func (p *Program) joinExchange(m dataplane.BondMember) (vpp.Exchange, error) {
	index, err := p.index(m.Interface)
	if err != nil {
		return vpp.Exchange{}, err
	}
	of, err := p.index(m.Bond)
	return vpp.Exchange{
		Request: &bond.BondAddMember{
			SwIfIndex: interface_types.InterfaceIndex(index), BondSwIfIndex: interface_types.InterfaceIndex(of), IsLongTimeout: m.LongTimeout,
		},
		Reply: &bond.BondAddMemberReply{},
	}, err
}

// observeVLANs: a sub-interface names what it is on, and its tag.
func (p *Program) observeVLANs(seen *observed) {
	for name, d := range seen.details {
		if d.SupSwIfIndex == uint32(d.SwIfIndex) || d.SubNumberOfTags != 1 {
			continue
		}
		own := p.ports[name]
		own.driver = driverVLAN
		p.ports[name] = own
		if parent, ours := p.name(d.SupSwIfIndex); ours {
			seen.devices[name] = dataplane.VLAN{Parent: parent, ID: d.SubOuterVlanID}
		}
	}
}

func (p *Program) vlanExchange(d dataplane.VLAN) (vpp.Exchange, error) {
	parent, err := p.index(d.Parent)
	if err != nil {
		return vpp.Exchange{}, fmt.Errorf("vlan %d: %w", d.ID, err)
	}
	return vpp.Exchange{
		Request: &interfaces.CreateVlanSubif{SwIfIndex: interface_types.InterfaceIndex(parent), VlanID: uint32(d.ID)},
		Reply:   &interfaces.CreateVlanSubifReply{},
	}, nil
}

func deleteVLAN(index interface_types.InterfaceIndex) vpp.Exchange {
	return vpp.Exchange{Request: &interfaces.DeleteSubif{SwIfIndex: index}, Reply: &interfaces.DeleteSubifReply{}}
}
