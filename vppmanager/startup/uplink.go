package startup

import (
	"net/netip"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
)

// Uplink is a way out of the node that the dataplane owns: what the manager tells the
// dataplane as soon as that runs, so that the host is never cut off for longer than that
// takes, whether an agent runs or not.
type Uplink struct {
	Name     string            // in the dataplane: uplink0, uplink1, ...
	Driver   nodeconfig.Driver // never auto
	PCI      string            // of dpdk, avf and virtio; "" = not of PCI
	Link     string            // of af_packet, af_xdp and rdma: the kernel's link, after renames
	Host     string            // the host's own link, which has the NIC's former name; "" = the host keeps none
	MAC      string            // of the uplink and of the host's link
	MTU      int               // bytes at L3
	RxQueues int
	TxQueues int
	RxRing   int // descriptors
	TxRing   int
	Bond     *inventory.Bond // the uplink is a bond of Members
	Members  []Uplink        // of a bond: without addresses and host links
	VLANs    []SubUplink

	Addresses []netip.Prefix    // what the host has on it, link-local ones left out
	Routes    []inventory.Route // what the host reaches through it, connected ones left out
}

// SubUplink is a VLAN on an uplink, with a host link of its own.
type SubUplink struct {
	ID        int
	Host      string // kernel name of the host's link
	MTU       int
	Addresses []netip.Prefix
	Routes    []inventory.Route
}
