package compile

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
)

// attach adds one attachment's objects, all or none. Only the first interface of a
// container gets its default routes.
func (c *compilation) attach(a cluster.Attachment, first bool) error {
	if err := c.checkAddresses(a); err != nil {
		return err
	}
	place := place{a.Netns, a.ID.IfName}
	if other, taken := c.places[place]; taken {
		return fmt.Errorf("interface %s in %s is that of attachment %s; DEL it first", a.ID.IfName, a.Netns, other)
	}
	name := PodInterface(a)
	device, link := c.device(a.Netns, a.ID.IfName, a.ID.String())
	i := dataplane.Interface{Name: name, Device: device, MTU: a.MTU, RPF: dataplane.RPFStrict}
	if i.MTU == 0 {
		i.MTU = c.options.MTU
	}
	i.Host = dataplane.HostSide{MTU: i.MTU, Neighbors: link.hostNeighbors(a.Addresses...)}
	objects := []dataplane.Object{dataplane.Unnumbered{Interface: name, Lender: lender}, dataplane.Up{Interface: name}}
	routed := map[dataplane.Family]bool{}
	for _, addr := range a.Addresses {
		i.Host.Addresses = append(i.Host.Addresses, whole(addr))
		if f := dataplane.FamilyOf(addr); first && !routed[f] {
			routed[f] = true
			everywhere := netip.PrefixFrom(addr, 0).Masked()
			i.Host.Routes = append(i.Host.Routes, dataplane.HostRoute{Dst: everywhere, Via: cluster.Gateway(addr)})
		}
		if link.ethernet {
			objects = append(objects, dataplane.Neighbor{Interface: name, Addr: addr, MAC: link.hostMAC})
		}
		// A route to one address needs no next hop: that address is the neighbour.
		objects = append(objects, dataplane.Route{Prefix: whole(addr), Paths: []dataplane.Path{{Interface: name}}})
	}
	objects = append(objects, i)
	for _, o := range objects {
		if err := dataplane.Check(o); err != nil {
			return err
		}
	}
	for _, o := range objects {
		c.result.State.Put(o)
		c.result.Owners[o.Key()] = a.ID
	}
	c.places[place] = a.ID
	for _, addr := range a.Addresses {
		c.owner[addr] = "attachment " + a.ID.String()
	}
	return nil
}

// place is where a kernel device lies; there is room for one.
type place struct{ netns, ifName string }

func (c *compilation) checkAddresses(a cluster.Attachment) error {
	if len(a.Addresses) == 0 {
		return errors.New("it has no address")
	}
	if a.Netns == "" {
		return errors.New("it names no network namespace")
	}
	for i, addr := range a.Addresses {
		if !addr.IsValid() || addr.Is4In6() || addr.Zone() != "" || !addr.IsGlobalUnicast() {
			return fmt.Errorf("address %s: want a unicast address that is routable", addr)
		}
		if who, taken := c.owner[addr]; taken {
			return fmt.Errorf("address %s already belongs to %s", addr, who)
		}
		for _, other := range a.Addresses[:i] {
			if other == addr {
				return fmt.Errorf("address %s stands twice", addr)
			}
		}
	}
	return nil
}

// PodInterface names a pod's interface so that a person recognises it, and no two
// containers share it: pod/namespace/name/interface/hash.
func PodInterface(a cluster.Attachment) string {
	pod := ""
	if a.Pod != (cluster.PodKey{}) {
		pod = a.Pod.String() + "/"
	}
	full := "pod/" + pod + a.ID.IfName + "/"
	id := hex.EncodeToString(hash(a.ID.String()))
	const short, long = 8, 16
	if clean := sanitise(full); clean == full && len(full)+short <= dataplane.NameMax {
		return full + id[:short]
	}
	// Cut or changed: more of the hash keeps it unique.
	full = sanitise(full)
	if room := dataplane.NameMax - long - 1; len(full) > room {
		full = full[:room] + ":"
	}
	return full + id[:long]
}

func hostInterface(kernelName string) string { return "host/" + sanitise(kernelName) }

// sanitise replaces what an interface name may not hold.
func sanitise(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("/._:-", r):
			return r
		}
		return '_'
	}, s)
}

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
