package program

import (
	"context"
	"errors"
	"fmt"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/bond"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip_types"
	"go.fd.io/govpp/binapi/urpf"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// createInterfaces makes VLANs after what they are on.
func (p *Program) createInterfaces(ctx context.Context, steps []dataplane.Step) []error {
	isVLAN := func(s dataplane.Step) bool {
		_, ok := s.Object.(dataplane.Interface).Device.(dataplane.VLAN)
		return ok
	}
	errs := make([]error, len(steps))
	for _, vlans := range []bool{false, true} {
		var some []dataplane.Step
		var at []int
		for i, step := range steps {
			if isVLAN(step) == vlans {
				some, at = append(some, step), append(at, i)
			}
		}
		if len(some) == 0 {
			continue
		}
		for n, err := range p.createDevices(ctx, some) {
			errs[at[n]] = err
		}
	}
	return errs
}

// createDevices makes devices, then sets them up, then the kernel's ends. What cannot be
// finished is taken down again.
func (p *Program) createDevices(ctx context.Context, steps []dataplane.Step) []error {
	b := newBatch(len(steps))
	sockets := p.addSockets(ctx, steps, b.errs)
	for i, step := range steps {
		if b.errs[i] == nil {
			e, err := p.createExchange(step.Object.(dataplane.Interface), sockets[i])
			b.add(i, e, err)
		}
	}
	b.run(ctx, p.conn)
	made := make([]bool, len(steps))
	for n, e := range b.exchanges {
		i := b.owners[n]
		o := steps[i].Object.(dataplane.Interface)
		if port, ok := p.created(o, e, sockets[i]); ok {
			p.ports[o.Name], made[i], b.errs[i] = port, true, nil
		}
	}
	settings := newBatch(len(steps))
	settings.asDone = isSet
	for i, step := range steps {
		if made[i] {
			p.settings(settings, i, step.Object.(dataplane.Interface), dataplane.Interface{RPF: none8})
		}
	}
	settings.run(ctx, p.conn)
	for i, step := range steps {
		o := step.Object.(dataplane.Interface)
		if !made[i] {
			b.errs[i] = errors.Join(b.errs[i], p.abandon(ctx, o, sockets[i]))
			continue
		}
		if err := errors.Join(settings.errs[i], p.finishHost(o, settings.errs[i])); err != nil {
			b.errs[i] = errors.Join(err, p.deleteInterfaces(ctx, []dataplane.Step{{Verb: dataplane.Delete, Object: o}})[0])
		}
	}
	return b.errs
}

// finishHost sets up the kernel's end unless something failed before.
func (p *Program) finishHost(o dataplane.Interface, before error) error {
	if end := p.ports[o.Name].host; before == nil && end != (hostEnd{}) && !p.id.HostLinks {
		return end.apply(o.Host)
	}
	return nil
}

// createExchange is the message that makes the device. It may prepare the kernel first.
// socket is a memif's.
func (p *Program) createExchange(o dataplane.Interface, socket uint32) (vpp.Exchange, error) {
	switch d := o.Device.(type) {
	case dataplane.Tun:
		return p.tapExchange(o, d), nil
	case dataplane.Tap:
		return p.etherExchange(o, d), nil
	case dataplane.NIC:
		return p.nicExchange(o, d)
	case dataplane.Bond:
		return bondExchange(d), nil
	case dataplane.VLAN:
		return p.vlanExchange(d)
	case dataplane.Veth:
		return p.vethExchange(o, d)
	case dataplane.VXLAN:
		return p.tunnelExchange(d)
	case dataplane.Memif:
		return memifExchange(d, socket), nil
	case dataplane.Loopback:
		return vpp.Exchange{Request: &interfaces.CreateLoopback{}, Reply: &interfaces.CreateLoopbackReply{}}, nil
	}
	return vpp.Exchange{}, fmt.Errorf("no file of this package knows its device")
}

// created reads the answer to createExchange.
func (p *Program) created(o dataplane.Interface, e vpp.Exchange, socket uint32) (port, bool) {
	switch d := o.Device.(type) {
	case dataplane.Tun:
		return createdTap(hostEnd{d.Netns, d.HostName}, e)
	case dataplane.Tap:
		return createdTap(hostEnd{d.Netns, d.HostName}, e)
	case dataplane.NIC:
		return p.createdNIC(o, d, e)
	case dataplane.Bond:
		r, ok := e.Reply.(*bond.BondCreate2Reply)
		return port{index: uint32(r.SwIfIndex), driver: driverBond}, ok && e.Err == nil
	case dataplane.VLAN:
		r, ok := e.Reply.(*interfaces.CreateVlanSubifReply)
		return port{index: uint32(r.SwIfIndex), driver: driverVLAN}, ok && e.Err == nil
	case dataplane.Veth:
		return createdVeth(d, e)
	case dataplane.VXLAN:
		return p.createdTunnel(d, e)
	case dataplane.Memif:
		return createdMemif(socket, e)
	case dataplane.Loopback:
		r, ok := e.Reply.(*interfaces.CreateLoopbackReply)
		if ok && e.Err == nil {
			return port{index: uint32(r.SwIfIndex), driver: driverLoopback}, true
		}
	}
	return port{}, false
}

// abandon removes what was prepared for a device that did not come to be: in the kernel,
// or a memif's socket, on which VPP would never listen again.
func (p *Program) abandon(ctx context.Context, o dataplane.Interface, socket uint32) error {
	if d, ok := o.Device.(dataplane.Veth); ok {
		return removeVeth(d.Outer)
	}
	if socket != 0 {
		return p.removeSockets(ctx, socket)
	}
	return nil
}

// none8 differs from every RPF: the settings of a new interface are all written.
const none8 = dataplane.RPF(^uint8(0))

// settings adds the messages that turn was into o; both have the same device and table,
// unless was is new.
func (p *Program) settings(b *batch, i int, o, was dataplane.Interface) {
	index := interface_types.InterfaceIndex(p.ports[o.Name].index)
	fresh := was.RPF == none8
	if fresh && p.asksNeighbors(o) {
		// No dump shows it: it comes before the tag, without which the interface does not
		// count as made.
		b.add(i, enableIP6(index), nil)
	}
	if fresh && p.cuts(o) {
		b.add(i, cutExchange(index), nil) // before the tag, too
	}
	if mac, ok := setsMAC(o); fresh && ok {
		b.add(i, macExchange(index, mac), nil) // before the tag: one with another address is not made
	}
	if d, ok := o.Device.(dataplane.NIC); fresh && ok && d.Promiscuous {
		b.add(i, promiscuousExchange(index), nil) // before the tag, which says so
	}
	if fresh && !tagged(o) {
		b.add(i, tagExchange(index, p.tag(o)), nil)
	}
	if o.MTU != was.MTU {
		b.add(i, vpp.Exchange{
			Request: &interfaces.SwInterfaceSetMtu{SwIfIndex: index, Mtu: []uint32{o.MTU, 0, 0, 0}},
			Reply:   &interfaces.SwInterfaceSetMtuReply{},
		}, nil)
	}
	if fresh && o.Table != 0 {
		for _, is6 := range []bool{false, true} {
			b.add(i, vpp.Exchange{
				Request: &interfaces.SwInterfaceSetTable{SwIfIndex: index, IsIPv6: is6, VrfID: o.Table},
				Reply:   &interfaces.SwInterfaceSetTableReply{},
			}, nil)
		}
	}
	if o.RPF == was.RPF {
		return
	}
	// VPP keeps the mode of a deleted interface for the next one of its index, and takes
	// the same mode for no change without switching the check on: off comes first.
	addRPF(b, i, index, dataplane.RPFOff)
	if o.RPF != dataplane.RPFOff {
		addRPF(b, i, index, o.RPF)
	}
}

// tagged says that making the interface gives it its tag.
func tagged(o dataplane.Interface) bool {
	switch o.Device.(type) {
	case dataplane.Tun, dataplane.Tap:
		return true
	}
	return false
}

func addRPF(b *batch, i int, index interface_types.InterfaceIndex, mode dataplane.RPF) {
	for _, af := range []ip_types.AddressFamily{ip_types.ADDRESS_IP4, ip_types.ADDRESS_IP6} {
		b.add(i, vpp.Exchange{
			Request: &urpf.UrpfUpdateV2{IsInput: true, Mode: urpf.UrpfMode(mode), Af: af, SwIfIndex: index, TableID: none},
			Reply:   &urpf.UrpfUpdateV2Reply{},
		}, nil)
	}
}

// updateInterfaces writes what differs. The kernel's end is always gone over: whatever is
// missing there is put right.
func (p *Program) updateInterfaces(ctx context.Context, steps []dataplane.Step) []error {
	b := newBatch(len(steps))
	for i, step := range steps {
		o, was := step.Object.(dataplane.Interface), step.Was.(dataplane.Interface)
		if _, err := p.index(o.Name); err != nil {
			b.fail(i, err)
			continue
		}
		p.settings(b, i, o, was)
	}
	b.run(ctx, p.conn)
	for i, step := range steps {
		b.fail(i, p.finishHost(step.Object.(dataplane.Interface), b.errs[i]))
	}
	return b.errs
}

// deleteInterfaces ends the source check, which would outlive the interface, then the
// device, then what is left of it in the kernel.
func (p *Program) deleteInterfaces(ctx context.Context, steps []dataplane.Step) []error {
	b := newBatch(len(steps))
	b.asDone = isGone
	for i, step := range steps {
		name := step.Object.(dataplane.Interface).Name
		port, ok := p.ports[name]
		if !ok {
			continue
		}
		index := interface_types.InterfaceIndex(port.index)
		addRPF(b, i, index, dataplane.RPFOff)
		exchanges, err := port.deleteExchanges()
		b.fail(i, err)
		for _, e := range exchanges {
			b.add(i, e, nil)
		}
	}
	b.run(ctx, p.conn)
	for i, step := range steps {
		o := step.Object.(dataplane.Interface)
		port, ok := p.ports[o.Name]
		if !ok || b.errs[i] != nil {
			continue
		}
		delete(p.ports, o.Name)
		delete(p.sockets, port.socket)
		if port.nic.Driver == dataplane.NICAFXDP {
			delete(p.named, o.Name) // the next of that name is a new one
		}
		b.fail(i, p.removeKernelSide(port))
	}
	return b.errs
}

func (p port) deleteExchanges() ([]vpp.Exchange, error) {
	index := interface_types.InterfaceIndex(p.index)
	switch p.driver {
	case driverTap:
		return []vpp.Exchange{deleteTap(index)}, nil
	case driverAFPacket:
		return []vpp.Exchange{deleteAFPacket(p.outer)}, nil
	case driverMemif:
		return deleteMemif(index, p.socket), nil
	case driverNIC:
		return deleteNIC(index, p.nic), nil
	case driverBond:
		return []vpp.Exchange{deleteBond(index)}, nil
	case driverVLAN:
		return []vpp.Exchange{deleteVLAN(index)}, nil
	case driverVXLAN:
		return []vpp.Exchange{p.tunnel.exchange(false, none)}, nil
	case driverLoopback:
		return []vpp.Exchange{{Request: &interfaces.DeleteLoopback{SwIfIndex: index}, Reply: &interfaces.DeleteLoopbackReply{}}}, nil
	}
	return nil, fmt.Errorf("it carries our tag, but nothing we know made it")
}

// isSet tells the refusals that mean it is so already: a dpdk port outlives its mark.
func isSet(err error) bool { return errors.Is(err, api.VALUE_EXIST) || isPromiscuous(err) }

// isGone tells the refusals that mean there is no such interface, or memif socket.
func isGone(err error) bool {
	return errors.Is(err, api.INVALID_SW_IF_INDEX) || errors.Is(err, api.NO_MATCHING_INTERFACE) || errors.Is(err, api.NO_SUCH_ENTRY) || isSocketGone(err)
}

// removeKernelSide removes the kernel devices of a deleted interface that did not go with
// it, unless another interface of ours has taken them over.
func (p *Program) removeKernelSide(gone port) error {
	for _, other := range p.ports {
		if other.host == gone.host && gone.host != (hostEnd{}) {
			return nil
		}
	}
	if gone.outer != "" {
		return removeVeth(gone.outer)
	}
	if gone.host != (hostEnd{}) {
		return gone.host.remove()
	}
	return nil
}

// Forget removes the kernel's end of an interface that the machine lost, by dying, before
// it could be deleted there.
func (p *Program) Forget(i dataplane.Interface) error {
	if _, known := p.ports[i.Name]; known {
		return nil
	}
	lost := port{}
	switch d := i.Device.(type) {
	case dataplane.Tun:
		lost.host = hostEnd{d.Netns, d.HostName}
	case dataplane.Tap:
		lost.host = hostEnd{d.Netns, d.HostName}
	case dataplane.Veth:
		lost.host, lost.outer = hostEnd{d.Netns, d.HostName}, d.Outer
	}
	if err := p.removeKernelSide(lost); err != nil {
		return fmt.Errorf("forget interface %s: %w", i.Name, err)
	}
	return nil
}
