package startup

import (
	"net/netip"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
)

// Uplink is a way out of the node that the dataplane owns or shares: what the manager tells the
// dataplane as soon as that runs, so that the host is never cut off for longer than that
// takes, whether an agent runs or not.
type Uplink struct {
	Name     string            `json:"name"`            // in the dataplane: uplink0, uplink1, ...
	Driver   nodeconfig.Driver `json:"driver"`          // never auto
	PCI      string            `json:"pci,omitempty"`   // of dpdk, avf and virtio; "" = not of PCI
	Share    bool              `json:"share,omitempty"` // the kernel keeps the NIC with all that is on it
	Link     string            `json:"link,omitempty"`  // of af_packet, af_xdp and rdma: the kernel's link, after renames
	Host     string            `json:"host,omitempty"`  // the host's own link, which has the NIC's former name; "" = the host keeps none
	MAC      string            `json:"mac,omitempty"`   // of the uplink and of the host's link
	MTU      int               `json:"mtu,omitempty"`   // bytes at L3
	RxQueues int               `json:"rxQueues,omitempty"`
	TxQueues int               `json:"txQueues,omitempty"`
	RxRing   int               `json:"rxRing,omitempty"` // descriptors; 0 = the driver's default
	TxRing   int               `json:"txRing,omitempty"`
	Workers  []int             `json:"workers,omitempty"` // that poll its receive queues, from 0; none = any
	Bond     *inventory.Bond   `json:"bond,omitempty"`    // the uplink is a bond of Members
	Members  []Uplink          `json:"members,omitempty"` // of a bond: without addresses and host links
	VLANs    []SubUplink       `json:"vlans,omitempty"`

	Addresses []netip.Prefix    `json:"addresses,omitempty"` // what the host has on it, link-local ones left out
	Routes    []inventory.Route `json:"routes,omitempty"`    // what the host reaches through it, connected ones left out
}

// SubUplink is a VLAN on an uplink, with a host link of its own.
type SubUplink struct {
	ID        int               `json:"id"`
	Host      string            `json:"host,omitempty"` // kernel name of the host's link
	MTU       int               `json:"mtu,omitempty"`
	Addresses []netip.Prefix    `json:"addresses,omitempty"`
	Routes    []inventory.Route `json:"routes,omitempty"`
}
