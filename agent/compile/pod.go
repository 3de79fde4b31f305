package compile

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
)

// attach adds one attachment's objects, all or none. Only the first kernel device of a
// container gets its default routes.
func (c *compilation) attach(a cluster.Attachment, first bool) error {
	if err := c.checkAddresses(a); err != nil {
		return err
	}
	ends := c.ends(a, first)
	var objects []dataplane.Object
	for i, e := range ends {
		if other, taken := c.places[e.place]; taken {
			return fmt.Errorf("%s in %s is that of attachment %s; DEL it first", e.place.name, a.Netns, other)
		}
		if slices.ContainsFunc(ends[:i], func(o end) bool { return o.place == e.place }) {
			return fmt.Errorf("%s stands twice", e.place.name)
		}
		objects = append(objects, podInterface(e)...)
	}
	for _, o := range objects {
		if err := dataplane.Check(o); err != nil {
			return err
		}
	}
	for _, o := range objects {
		c.result.State.Put(o)
		c.result.Owners[o.Key()] = a.ID
	}
	for _, e := range ends {
		c.places[e.place] = a.ID
	}
	for addr := range a.AllAddresses() {
		c.owner[addr] = "attachment " + a.ID.String()
	}
	return nil
}

// end is one interface between a pod and the dataplane, of whatever kind.
type end struct {
	place     place
	name      string
	device    dataplane.Device
	mtu       uint32
	addresses []netip.Addr // the pod's
	host      dataplane.HostSide
	hostMAC   *dataplane.MAC // where the pod's MAC is known; else it is asked for
}

// place is where a kernel device or a socket lies; there is room for one.
type place struct{ netns, name string }

// ends are the interfaces of an attachment: its kernel device, unless it is a memif, then
// its memifs.
func (c *compilation) ends(a cluster.Attachment, first bool) []end {
	var list []end
	if a.MTU == 0 || a.MTU > c.options.MTU && len(c.options.Uplinks) > 0 {
		a.MTU = c.options.MTU
	}
	if a.Device == cluster.DeviceKernel {
		list = append(list, c.kernelEnd(a, first))
	}
	for _, m := range a.Memifs {
		list = append(list, c.memifEnd(a, m))
	}
	return list
}

func (c *compilation) kernelEnd(a cluster.Attachment, first bool) end {
	device, link := c.device(a.Netns, a.ID.IfName, a.ID.String())
	e := end{
		place: place{a.Netns, "interface " + a.ID.IfName}, name: PodInterface(a), device: device, mtu: a.MTU, addresses: a.Addresses,
		host: dataplane.HostSide{MTU: a.MTU, MaxSegments: c.maxSegments(), Neighbors: link.hostNeighbors(a.Addresses...)},
	}
	if link.ethernet {
		e.hostMAC = &link.hostMAC
	}
	routed := map[dataplane.Family]bool{}
	for _, addr := range a.Addresses {
		e.host.Addresses = append(e.host.Addresses, whole(addr))
		if f := dataplane.FamilyOf(addr); first && !routed[f] {
			routed[f] = true
			everywhere := netip.PrefixFrom(addr, 0).Masked()
			e.host.Routes = append(e.host.Routes, dataplane.HostRoute{Dst: everywhere, Via: cluster.Gateway(addr)})
		}
	}
	return e
}

// podInterface is what every interface to a pod consists of: strict source checks are in
// force, and whatever else guards a pod stands, before it goes up.
func podInterface(e end) []dataplane.Object {
	objects := []dataplane.Object{
		dataplane.Interface{Name: e.name, Device: e.device, MTU: e.mtu, RPF: dataplane.RPFStrict, Host: e.host},
		dataplane.Unnumbered{Interface: e.name, Lender: lender},
		dataplane.Up{Interface: e.name},
	}
	for _, addr := range e.addresses {
		if e.hostMAC != nil {
			objects = append(objects, dataplane.Neighbor{Interface: e.name, Addr: addr, MAC: *e.hostMAC})
		}
		// A route to one address needs no next hop: that address is the neighbour.
		objects = append(objects, dataplane.Route{Prefix: whole(addr), Paths: []dataplane.Path{{Interface: e.name}}})
	}
	return objects
}

func (c *compilation) checkAddresses(a cluster.Attachment) error {
	if a.Netns == "" {
		return errors.New("it names no network namespace")
	}
	switch {
	case a.Device == cluster.DeviceKernel && len(a.Addresses) == 0:
		return errors.New("it has no address")
	case a.Device == cluster.DeviceMemif && len(a.Memifs) == 0:
		return errors.New("it is a memif, and has none")
	case a.Device == cluster.DeviceMemif && len(a.Addresses) > 0:
		return errors.New("it is a memif, and has addresses of a kernel device")
	}
	for _, m := range a.Memifs {
		if len(m.Addresses) == 0 {
			return fmt.Errorf("its memif %s has no address", m.Name)
		}
	}
	seen := map[netip.Addr]bool{}
	for addr := range a.AllAddresses() {
		if !addr.IsValid() || addr.Is4In6() || addr.Zone() != "" || !addr.IsGlobalUnicast() {
			return fmt.Errorf("address %s: want a unicast address that is routable", addr)
		}
		if who, taken := c.owner[addr]; taken {
			return fmt.Errorf("address %s already belongs to %s", addr, who)
		}
		if seen[addr] {
			return fmt.Errorf("address %s stands twice", addr)
		}
		seen[addr] = true
	}
	return nil
}

// PodInterface names a pod's interface so that a person recognises it, and no two
// containers share it: pod/namespace/name/interface/hash.
func PodInterface(a cluster.Attachment) string {
	return interfaceName(a.Pod, a.ID.IfName, a.ID.String(), dataplane.NameMax)
}

// interfaceName is at most max bytes long. The identity decides the hash.
func interfaceName(pod cluster.PodKey, ifName, identity string, max int) string {
	full := "pod/"
	if pod != (cluster.PodKey{}) {
		full += pod.String() + "/"
	}
	full += ifName + "/"
	id := hex.EncodeToString(hash(identity))
	const short, long = 8, 16
	if clean := dataplane.CleanName(full); clean == full && len(full)+short <= max {
		return full + id[:short]
	}
	// Cut or changed: more of the hash keeps it unique.
	full = dataplane.CleanName(full)
	if room := max - long - 1; len(full) > room {
		full = full[:room] + ":"
	}
	return full + id[:long]
}

func hostInterface(kernelName string) string { return "host/" + dataplane.CleanName(kernelName) }

func hash(s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return sum[:]
}

// link is what the kind of device makes of addressing: an Ethernet link has MAC
// addresses and next hops, a tun neither.
type link struct {
	ethernet     bool
	mac, hostMAC dataplane.MAC
}

// device makes the device of an interface; identity decides its MACs and kernel names.
func (c *compilation) device(netns, hostName, identity string) (dataplane.Device, link) {
	if c.options.Device == DeviceTun {
		return dataplane.Tun{
			Netns: netns, HostName: hostName, Offload: dataplane.OffloadGSO,
			Queues: c.options.Queues, RxRing: c.options.RxRing, TxRing: c.options.TxRing,
		}, link{}
	}
	l := link{ethernet: true, mac: mac("dataplane " + identity), hostMAC: mac("host " + identity)}
	return dataplane.Veth{
		Netns: netns, HostName: hostName, MAC: l.mac, HostMAC: l.hostMAC,
		Outer: "mr" + hex.EncodeToString(hash(identity))[:12],
	}, l
}

// maxSegments is 1 where a kernel's end has to cut what it sends. VPP cuts what goes into a
// tunnel, or leaves by an uplink that does not take it whole, but of what it reads from a veth
// it cannot cut IPv4 (vpp 25.10, plugins/af_packet and vnet/gso/gso.h).
func (c *compilation) maxSegments() uint32 {
	cut := slices.ContainsFunc(c.options.Uplinks, func(u dataplane.Uplink) bool {
		return !u.Whole || c.options.Encapsulation != EncapsulateNever
	})
	if c.options.Device == DeviceVeth && cut {
		return 1
	}
	return 0
}

// mac derives a locally administered unicast address.
func mac(identity string) (m dataplane.MAC) {
	copy(m[:], hash(identity))
	m[0] = m[0]&^1 | 2
	return m
}

func (l link) paths(name string, hop netip.Addr) []dataplane.Path {
	p := dataplane.Path{Interface: name}
	if l.ethernet {
		p.Via = hop
	}
	return []dataplane.Path{p}
}

// hostNeighbors tells the kernel's end who the gateway of each address's family is.
func (l link) hostNeighbors(addresses ...netip.Addr) []dataplane.HostNeighbor {
	if !l.ethernet {
		return nil
	}
	var list []dataplane.HostNeighbor
	seen := map[netip.Addr]bool{}
	for _, a := range addresses {
		if g := cluster.Gateway(a); !seen[g] {
			seen[g] = true
			list = append(list, dataplane.HostNeighbor{Addr: g, MAC: l.mac})
		}
	}
	return list
}
