package rig

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/millrace/millrace/benchmarks"
)

// Wire is what the cards of two nodes are like.
type Wire string

// Wires.
const (
	// Offload is the veth as it is: packets of up to 64 kB cross it whole, and without
	// checksums, as between virtual machines of one host.
	Offload Wire = "offload"
	// Frames has neither segmentation nor checksum offload: what crosses is frames of the
	// MTU, whole, as on a cable between cards that offload nothing.
	Frames Wire = "frames"
)

// Wires lists all.
func Wires() []string { return []string{string(Offload), string(Frames)} }

// Site is where one of two nodes lies.
type Site struct {
	Name        string
	Home        *Namespace   // with the card eth0, which has the address
	Addr        netip.Prefix // of the node
	Pods        netip.Prefix
	Peer        *Site
	Encapsulate bool // by VXLAN, else by direct routes
	launcher    *Launcher
}

// Sizes of packets, in bytes.
const (
	wireMTU  = 1500
	vxlanMTU = wireMTU - 50 // IPv4, UDP, VXLAN and Ethernet headers
)

// NodesKind is how the two nodes of a subject are made.
type NodesKind struct {
	Name   string // of the subject
	Wires  []Wire // that it works on
	Detail string // how it hangs on the card
	New    func(ctx context.Context, at *Site) (Subject, error)
}

// Nodes are two nodes of one kind, their cards joined by a veth, with a pod on each.
type Nodes struct {
	About benchmarks.Subject
	Pods  [2]*Pod
	sites [2]Site
	beds  []*Bed
}

// StartNodes starts both nodes and attaches their pods. Close has to be called also after an
// error.
func StartNodes(ctx context.Context, l *Launcher, kind NodesKind, wire Wire, encapsulate bool) (*Nodes, error) {
	n := &Nodes{}
	if err := n.join(ctx, l, wire, encapsulate); err != nil {
		return n, err
	}
	for i := range n.sites {
		at := &n.sites[i]
		s, err := kind.New(ctx, at)
		if err != nil {
			return n, err
		}
		bed, err := NewBed(ctx, l, s)
		if err != nil {
			return n, err
		}
		n.beds = append(n.beds, bed)
		if n.Pods[i], _, err = bed.Add(ctx, "pod"+at.Name); err != nil {
			return n, err
		}
	}
	n.About = n.beds[0].About
	n.About.Name, n.About.Detail = kind.Name, kind.Detail
	return n, nil
}

// join makes two namespaces that a veth joins.
func (n *Nodes) join(ctx context.Context, l *Launcher, wire Wire, encapsulate bool) (err error) {
	s := &n.sites
	for i := range s {
		k := byte(i + 1)
		s[i] = Site{
			Name: fmt.Sprintf("n%d", k), Addr: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, k}), 24),
			Pods: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, k, 0, 0}), 24), Peer: &s[1-i], Encapsulate: encapsulate, launcher: l,
		}
		if s[i].Home, err = l.NewNamespace(); err != nil {
			return err
		}
	}
	return errors.Join(s[0].ip(ctx, "link", "add", "eth0", "address", "02:00:00:00:01:01", "type", "veth",
		"peer", "name", "eth0", "address", "02:00:00:00:01:02", "netns", s[1].Home.Path), s[0].card(ctx, wire), s[1].card(ctx, wire))
}

// card sets up a node's card and what it needs to forward.
func (s *Site) card(ctx context.Context, wire Wire) error {
	errs := []error{
		s.ip(ctx, "link", "set", "eth0", "up"),
		s.ip(ctx, "addr", "add", s.Addr.String(), "dev", "eth0"),
		s.run(ctx, "sysctl", "-qw", "net.ipv4.ip_forward=1"),
	}
	if wire == Frames {
		errs = append(errs, s.run(ctx, "ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off"))
	}
	return errors.Join(errs...)
}

func (s *Site) ip(ctx context.Context, args ...string) error { return s.run(ctx, "ip", args...) }

func (s *Site) run(ctx context.Context, name string, args ...string) error {
	if _, err := s.launcher.Run(ctx, s.Home, Command(name, args...)); err != nil {
		return fmt.Errorf("make node %s: %w", s.Name, err)
	}
	return nil
}

// Spent is the processor time of all that works for these nodes so far: their processes, and
// the kernel's threads that handle packets for whoever. What iperf3 spends is not in it.
func (n *Nodes) Spent() (time.Duration, error) {
	sum, err := softirqTime()
	if err != nil {
		return 0, err
	}
	for _, b := range n.beds {
		t, err := b.Spent()
		if err != nil {
			return 0, err
		}
		sum += t
	}
	return sum, nil
}

// Close takes everything down.
func (n *Nodes) Close(ctx context.Context) error {
	var errs []error
	for _, b := range n.beds {
		errs = append(errs, b.Close(ctx))
	}
	for _, s := range n.sites {
		if s.Home != nil {
			errs = append(errs, s.Home.Close())
		}
	}
	return errors.Join(errs...)
}

// KernelNodes are Linux's own way: veth pairs on a bridge, and routes to the other node or
// its vxlan device.
func KernelNodes(plugins string) NodesKind {
	return NodesKind{
		Name: "kernel", Wires: []Wire{Offload, Frames}, Detail: "veth + bridge by CNI plugins, routes to the other node; VXLAN by the kernel's device, without outer checksum",
		New: func(ctx context.Context, at *Site) (Subject, error) {
			k := &Kernel{PluginDir: plugins, Home: at.Home, Subnets: []netip.Prefix{at.Pods}}
			if !at.Encapsulate {
				return k, at.ip(ctx, "route", "add", at.Peer.Pods.String(), "via", at.Peer.Addr.Addr().String())
			}
			k.MTU = vxlanMTU
			return k, errors.Join(
				at.ip(ctx, "link", "add", "vxlan0", "type", "vxlan", "id", "4096", "dstport", "4789", "noudpcsum",
					"local", at.Addr.Addr().String(), "remote", at.Peer.Addr.Addr().String(), "dev", "eth0"),
				at.ip(ctx, "link", "set", "vxlan0", "up"),
				at.ip(ctx, "route", "add", at.Peer.Pods.String(), "dev", "vxlan0", "via", at.Peer.Addr.Addr().String(), "onlink"),
			)
		},
	}
}

// MillraceNodes are our nodes; mode, of the uplink, is own or share, and template what they
// have in common.
func MillraceNodes(name string, template Millrace, mode string) NodesKind {
	k := NodesKind{Name: name, Wires: []Wire{Offload, Frames}, Detail: "uplink own by af_packet"}
	uplink := "{interface: eth0, mode: own, driver: af_packet}"
	if mode == "share" { // veths lose the note that a checksum is not there yet
		k.Wires, k.Detail, uplink = []Wire{Frames}, "uplink shared by AF_XDP, which has no offloads", "{interface: eth0, mode: share}"
	}
	k.New = func(_ context.Context, at *Site) (Subject, error) {
		m := template
		encapsulation := "Never"
		if at.Encapsulate {
			encapsulation = "Always"
		}
		m.Name, m.Home = at.Name, at.Home
		m.PodCIDRs, m.NodeAddrs = []netip.Prefix{at.Pods}, []netip.Addr{at.Addr.Addr()}
		m.Config = fmt.Sprintf("apiVersion: millrace.io/v1alpha1\nkind: NodeConfig\nmaxPods: 16\nuplinks: [%s]\nnodeToNode: {encapsulation: %s}\n", uplink, encapsulation)
		for _, s := range []*Site{at, at.Peer} {
			m.Facts += fmt.Sprintf("---\n{apiVersion: v1, kind: Node, metadata: {name: %s}, spec: {podCIDRs: [%q]}, status: {addresses: [{type: InternalIP, address: %s}]}}\n",
				s.Name, s.Pods, s.Addr.Addr())
		}
		return &m, nil
	}
	return k
}
