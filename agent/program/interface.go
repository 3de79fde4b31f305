package program

import (
	"context"
	"errors"
	"fmt"

	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/urpf"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// observeInterfaces finds interfaces by our mark in their tag, and what made them by the
// dumps of each driver.
func (p *Program) observeInterfaces(ctx context.Context, s *dataplane.State) error {
	seen, err := p.observeTags(ctx)
	if err != nil {
		return err
	}
	if err := p.observeDevices(ctx, seen); err != nil {
		return err
	}
	rpf, err := p.observeRPF(ctx)
	if err != nil {
		return err
	}
	tables, err := p.observeBinding(ctx)
	if err != nil {
		return err
	}
	for name, d := range seen.details {
		i := dataplane.Interface{Name: name, Device: seen.devices[name], RPF: rpf[p.ports[name].index], Table: tables[name]}
		if len(d.Mtu) > 0 {
			i.MTU = d.Mtu[0]
		}
		if p.ports[name].host != (hostEnd{}) {
			if i.Host, err = p.observeHost(p.ports[name].host); errors.Is(err, errNoHost) {
				i.Device = nil
			}
			// What else went wrong leaves an empty host side: repairing it meets the same
			// error as the error of its own step.
		}
		s.Put(i)
		if d.Flags&interface_types.IF_STATUS_API_FLAG_ADMIN_UP != 0 {
			s.Put(dataplane.Up{Interface: name})
		}
	}
	return nil
}

// observeHost reads the kernel's end; of one that is the host's own, that it is there.
func (p *Program) observeHost(end hostEnd) (dataplane.HostSide, error) {
	h, err := end.observe()
	if p.id.HostLinks {
		h = dataplane.HostSide{}
	}
	return h, err
}

// observed gathers what the machine's dumps say of our interfaces.
type observed struct {
	all      map[uint32]*interfaces.SwInterfaceDetails // everybody's
	names    map[uint32]string                         // of ours, by index
	details  map[string]*interfaces.SwInterfaceDetails
	settings map[string]string // what stands in the tag behind the name
	devices  map[string]dataplane.Device
}

func (p *Program) observeTags(ctx context.Context) (*observed, error) {
	p.ports, p.named = map[string]port{}, map[string]uint32{}
	seen := &observed{
		all: map[uint32]*interfaces.SwInterfaceDetails{}, names: map[uint32]string{},
		details:  map[string]*interfaces.SwInterfaceDetails{},
		settings: map[string]string{}, devices: map[string]dataplane.Device{},
	}
	all := &interfaces.SwInterfaceDump{SwIfIndex: interface_types.InterfaceIndex(none)}
	for d, err := range vpp.Dump[interfaces.SwInterfaceDetails](ctx, p.conn, all) {
		if err != nil {
			return nil, err
		}
		index := uint32(d.SwIfIndex)
		seen.all[index], p.named[d.InterfaceName] = d, index
		name, settings, ours := p.parseTag(d.Tag)
		if !ours {
			continue
		}
		if _, twice := p.ports[name]; twice {
			name = fmt.Sprintf("twice:%d", index) // in no wish, so it is deleted
		}
		seen.names[index], seen.details[name], seen.settings[name] = name, d, settings
		p.ports[name] = port{index: index}
	}
	return seen, nil
}

// observeDevices fills in drivers, kernel ends and devices.
func (p *Program) observeDevices(ctx context.Context, seen *observed) error {
	for name, d := range seen.details {
		if d.InterfaceDevType == "Loopback" {
			port := p.ports[name]
			port.driver = driverLoopback
			p.ports[name] = port
			seen.devices[name] = dataplane.Loopback{}
		}
	}
	p.observeNICs(seen)
	p.observeVLANs(seen)
	if err := p.observeTaps(ctx, seen); err != nil {
		return err
	}
	if err := p.observeBonds(ctx, seen); err != nil {
		return err
	}
	if err := p.observeVeths(ctx, seen.names, seen.details, seen.devices); err != nil {
		return err
	}
	if err := p.observeTunnels(ctx, seen); err != nil {
		return err
	}
	return p.observeMemifs(ctx, seen)
}

// observeRPF returns the weaker of both families' input checks, so that one that lacks
// its check is repaired.
func (p *Program) observeRPF(ctx context.Context) (map[uint32]dataplane.RPF, error) {
	seen := map[uint32]int{}
	modes := map[uint32]dataplane.RPF{}
	all := &urpf.UrpfInterfaceDump{SwIfIndex: interface_types.InterfaceIndex(none)}
	for d, err := range vpp.Dump[urpf.UrpfInterfaceDetails](ctx, p.conn, all) {
		if err != nil {
			return nil, err
		}
		if !d.IsInput {
			continue
		}
		index, mode := uint32(d.SwIfIndex), dataplane.RPF(d.Mode)
		if seen[index] == 0 || mode < modes[index] {
			modes[index] = mode
		}
		seen[index]++
	}
	for index, families := range seen {
		if families < 2 {
			delete(modes, index)
		}
	}
	return modes, nil
}

// observeBinding returns the routing table of each of our interfaces. One whose families
// lie in two tables gets a number that no wish has.
func (p *Program) observeBinding(ctx context.Context) (map[string]uint32, error) {
	b := newBatch(1)
	var names []string
	for name, port := range p.ports {
		names = append(names, name)
		for _, is6 := range []bool{false, true} {
			b.add(0, vpp.Exchange{
				Request: &interfaces.SwInterfaceGetTable{SwIfIndex: interface_types.InterfaceIndex(port.index), IsIPv6: is6},
				Reply:   &interfaces.SwInterfaceGetTableReply{},
			}, nil)
		}
	}
	b.run(ctx, p.conn)
	if b.errs[0] != nil {
		return nil, b.errs[0]
	}
	tables := map[string]uint32{}
	for i, name := range names {
		t4 := b.exchanges[2*i].Reply.(*interfaces.SwInterfaceGetTableReply).VrfID
		t6 := b.exchanges[2*i+1].Reply.(*interfaces.SwInterfaceGetTableReply).VrfID
		if tables[name] = t4; t4 != t6 {
			tables[name] = none
		}
	}
	return tables, nil
}
