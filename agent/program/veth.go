package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/af_packet"
	interfaces "go.fd.io/govpp/binapi/interface"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// alias is what the outer end of a veth says of itself in the kernel, since the machine
// knows nothing of the inner end: whose it is, and where the inner end lies. The kernel
// keeps 255 bytes of it.
type alias struct{ owner, hostName, netns string }

func (a alias) String() string {
	return fmt.Sprintf("millrace %s %s %s", strings.ReplaceAll(a.owner, " ", "_"), a.hostName, a.netns)
}

func parseAlias(s string) (alias, bool) {
	parts := strings.SplitN(s, " ", 4)
	if len(parts) != 4 || parts[0] != "millrace" {
		return alias{}, false
	}
	return alias{parts[1], parts[2], parts[3]}, true
}

func (p *Program) observeVeths(ctx context.Context, names map[uint32]string, details map[string]*interfaces.SwInterfaceDetails, devices map[string]dataplane.Device) error {
	for d, err := range vpp.Dump[af_packet.AfPacketDetails](ctx, p.conn, &af_packet.AfPacketDump{}) {
		if errors.Is(err, vpp.ErrUnsupported) {
			return nil // the plugin is not loaded
		}
		if err != nil {
			return err
		}
		name, ours := names[uint32(d.SwIfIndex)]
		if !ours || p.ports[name].driver == driverNIC {
			continue
		}
		port := p.ports[name]
		port.driver, port.outer = driverAFPacket, d.HostIfName
		veth, ok := observeVeth(d.HostIfName)
		if ok {
			veth.MAC = dataplane.MAC(details[name].L2Address)
			port.host = hostEnd{veth.Netns, veth.HostName}
			devices[name] = veth
		}
		p.ports[name] = port
	}
	return nil
}

// observeVeth reads both ends of a pair from the kernel; the MAC is the machine's to tell.
func observeVeth(outer string) (dataplane.Veth, bool) {
	dev, err := netlink.LinkByName(outer)
	if err != nil {
		return dataplane.Veth{}, false
	}
	a, ok := parseAlias(dev.Attrs().Alias)
	if !ok {
		return dataplane.Veth{}, false
	}
	inner, err := hostEnd{a.netns, a.hostName}.open()
	if err != nil {
		return dataplane.Veth{}, false
	}
	defer inner.Close()
	if inner.dev.Type() != "veth" || len(inner.dev.Attrs().HardwareAddr) != 6 {
		return dataplane.Veth{}, false
	}
	return dataplane.Veth{
		Netns: a.netns, HostName: a.hostName, Outer: outer,
		HostMAC: dataplane.MAC(inner.dev.Attrs().HardwareAddr),
	}, true
}

const (
	qdiscBypass = af_packet.AF_PACKET_API_FLAG_QDISC_BYPASS
	checksumGSO = af_packet.AF_PACKET_API_FLAG_CKSUM_GSO // without it TCP from the pod's offloads fails
	// txFrames keeps the ring that the machine maps per interface at a few MB; its own
	// default takes 66.
	txFrames = 64
)

// vethExchange makes the pair, or takes over the one that outlived the machine, and asks
// the machine to read its outer end.
func (p *Program) vethExchange(o dataplane.Interface, d dataplane.Veth) (vpp.Exchange, error) {
	if err := p.makeVeth(o, d); err != nil {
		return vpp.Exchange{}, fmt.Errorf("make veth %s: %w", d.Outer, err)
	}
	return vpp.Exchange{
		Request: &af_packet.AfPacketCreateV3{
			Mode: af_packet.AF_PACKET_API_MODE_ETHERNET, HwAddr: [6]byte(d.MAC), HostIfName: d.Outer,
			TxFramesPerBlock: txFrames, Flags: qdiscBypass | checksumGSO, NumRxQueues: 1, NumTxQueues: 1,
		},
		Reply: &af_packet.AfPacketCreateV3Reply{},
	}, nil
}

func (p *Program) makeVeth(o dataplane.Interface, d dataplane.Veth) error {
	if have, ok := observeVeth(d.Outer); ok {
		have.MAC = d.MAC
		if have == d {
			return nil
		}
	}
	left := netlink.TuntapMode(netlink.TUNTAP_MODE_TUN)
	if p.id.HostLinks {
		left = netlink.TUNTAP_MODE_TAP
	}
	if err := errors.Join(removeVeth(d.Outer), hostEnd{d.Netns, d.HostName}.removeAbandoned(left)); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = d.Outer, int(endMTU(o))
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerHardwareAddr, pair.PeerMTU = d.HostName, d.HostMAC[:], endMTU(o)
	if d.Netns != "" {
		ns, err := netns.GetFromPath(d.Netns)
		if err != nil {
			return fmt.Errorf("open namespace %s: %w", d.Netns, err)
		}
		defer ns.Close()
		pair.PeerNamespace = netlink.NsFd(ns)
	}
	if err := netlink.LinkAdd(pair); err != nil {
		return err
	}
	if err := p.dressOuter(pair, d); err != nil {
		return errors.Join(err, removeVeth(d.Outer))
	}
	return nil
}

// dressOuter names the pair's inner end on the outer one, and keeps the kernel's own IPv6
// off it: its packets would reach the machine.
func (p *Program) dressOuter(pair netlink.Link, d dataplane.Veth) error {
	if err := netlink.LinkSetAlias(pair, alias{p.id.Owner, d.HostName, d.Netns}.String()); err != nil {
		return fmt.Errorf("set alias: %w", err)
	}
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+d.Outer+"/disable_ipv6", []byte("1"), 0o644)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("switch IPv6 off: %w", err)
	}
	return netlink.LinkSetUp(pair)
}

// createdVeth reads the answer. An interface that exists already was made by an attempt
// that ended before it was tagged; the answer names it.
func createdVeth(d dataplane.Veth, e vpp.Exchange) (port, bool) {
	r, ok := e.Reply.(*af_packet.AfPacketCreateV3Reply)
	if !ok || e.Err != nil && !errors.Is(e.Err, api.IF_ALREADY_EXISTS) {
		return port{}, false
	}
	return port{index: uint32(r.SwIfIndex), driver: driverAFPacket, outer: d.Outer, host: hostEnd{d.Netns, d.HostName}}, true
}

func deleteAFPacket(outer string) vpp.Exchange {
	return vpp.Exchange{Request: &af_packet.AfPacketDelete{HostIfName: outer}, Reply: &af_packet.AfPacketDeleteReply{}}
}

// removeVeth deletes a pair by its outer end; the inner one goes with it.
func removeVeth(outer string) error {
	dev, err := netlink.LinkByName(outer)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(dev)
	}
	if err != nil && !isNoDevice(err) {
		return fmt.Errorf("delete veth %s: %w", outer, err)
	}
	return nil
}

// Sweep deletes what a crash left halfway: the veth pairs of this owner that neither the
// wish nor the machine knows, also those of a machine of another kind, and the memif
// sockets of ours that no interface uses.
func (p *Program) Sweep(ctx context.Context, want dataplane.State) error {
	return errors.Join(p.sweepVeths(want), p.sweepSockets(ctx))
}

func (p *Program) sweepVeths(want dataplane.State) error {
	known := map[string]bool{}
	for o := range want.All() {
		if i, ok := o.(dataplane.Interface); ok {
			if d, ok := i.Device.(dataplane.Veth); ok {
				known[d.Outer] = true
			}
		}
	}
	for _, port := range p.ports {
		known[port.outer] = true
	}
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var errs []error
	for _, dev := range links {
		a, ours := parseAlias(dev.Attrs().Alias)
		if ours && a.owner == p.id.Owner && dev.Type() == "veth" && !known[dev.Attrs().Name] {
			errs = append(errs, removeVeth(dev.Attrs().Name))
		}
	}
	return errors.Join(errs...)
}
