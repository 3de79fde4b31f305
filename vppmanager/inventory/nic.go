package inventory

import "net/netip"

// NIC is a kernel link that could be an uplink (Ethernet, bond or VLAN), or a PCI NIC that
// the kernel drives with no link: then Name is "".
type NIC struct {
	Name      string     `json:"name,omitempty"`
	AltNames  []string   `json:"altNames,omitempty"`
	Index     int        `json:"index,omitempty"`
	PCI       string     `json:"pci,omitempty"`  // address; "" = not of PCI, or not the whole of a PCI device (Port)
	Bus       string     `json:"bus,omitempty"`  // of the device behind it: pci, virtio, usb, vmbus, auxiliary, ...
	Port      string     `json:"port,omitempty"` // of a port that shares its PCI device with others: p0, pf0vf1 (a representor)
	Wireless  bool       `json:"wireless,omitempty"`
	Kind      string     `json:"kind,omitempty"`   // as in `ip -d link`: bond, vlan, veth, bridge; "" = a device
	Driver    string     `json:"driver,omitempty"` // of the link, as ethtool says
	MAC       string     `json:"mac,omitempty"`
	Permanent string     `json:"permanentMAC,omitempty"`
	MTU       int        `json:"mtu,omitempty"`
	Up        bool       `json:"up,omitempty"`      // administratively
	Carrier   bool       `json:"carrier,omitempty"` // the other end is there
	Speed     int        `json:"speed,omitempty"`   // Mbit/s; 0 = not known
	RxQueues  int        `json:"rxQueues,omitempty"`
	TxQueues  int        `json:"txQueues,omitempty"`
	MaxQueues int        `json:"maxQueues,omitempty"` // pairs
	RxRing    int        `json:"rxRing,omitempty"`
	TxRing    int        `json:"txRing,omitempty"`
	MaxRxRing int        `json:"maxRxRing,omitempty"`
	MaxTxRing int        `json:"maxTxRing,omitempty"`
	Master    string     `json:"master,omitempty"`     // bond or bridge it is in
	MasterIs  string     `json:"masterKind,omitempty"` // bond, bridge, vrf, team, openvswitch
	Uppers    []string   `json:"uppers,omitempty"`     // links made on it: VLANs, macvlans
	Bond      *Bond      `json:"bond,omitempty"`
	VLAN      *VLAN      `json:"vlan,omitempty"`
	Offloads  []string   `json:"offloads,omitempty"` // features that are on, by ethtool's names
	XDP       string     `json:"xdp,omitempty"`      // program attached: "xdp_pass (id 12 in the driver)"
	Addresses []Address  `json:"addresses,omitempty"`
	Routes    []Route    `json:"routes,omitempty"`    // all tables, through this link
	Neighbors []Neighbor `json:"neighbors,omitempty"` // permanent ones
	ManagedBy string     `json:"managedBy,omitempty"` // systemd-networkd, NetworkManager, dhclient (pid 12), ...
	DHCP      bool       `json:"dhcp,omitempty"`      // an address of it came by DHCP
	Lease     string     `json:"lease,omitempty"`     // the file with that lease, where there is one
	Sessions  []string   `json:"sessions,omitempty"`  // SSH sessions through it or a link on top of it, by the peer: "192.0.2.9:50022"
}

// Bond is what a bond is made of.
type Bond struct {
	Mode     string   `json:"mode"` // as in `ip -d link`: 802.3ad, active-backup, balance-xor, ...
	XmitHash string   `json:"xmitHash,omitempty"`
	LACPFast bool     `json:"lacpFast,omitempty"`
	Members  []string `json:"members"`
	Active   string   `json:"active,omitempty"`
}

// VLAN is a tagged link on another one.
type VLAN struct {
	Parent string `json:"parent"`
	ID     int    `json:"id"`
	Tag    string `json:"tag,omitempty"` // 802.1ad; "" = 802.1Q
}

// Address is an address of a link.
type Address struct {
	Prefix    netip.Prefix `json:"prefix"`
	Peer      netip.Prefix `json:"peer,omitzero"`       // of a point-to-point address: the other end
	Scope     string       `json:"scope"`               // global, link, host
	Permanent bool         `json:"permanent,omitempty"` // else ValidFor
	ValidFor  int          `json:"validFor,omitempty"`  // seconds
	Flags     []string     `json:"flags,omitempty"`     // as ip names them: dynamic, noprefixroute, mngtmpaddr, ...
}

// Route is a route through a link. One with several ways is a Route for each of them. The
// kernel's own in table 255 (local), which addresses bring and take with them, are left out.
type Route struct {
	Dst      netip.Prefix `json:"dst"`
	Via      netip.Addr   `json:"via,omitzero"`
	Source   netip.Addr   `json:"source,omitzero"`
	Table    int          `json:"table,omitempty"` // 254 = main
	Metric   int          `json:"metric,omitempty"`
	Type     string       `json:"type,omitempty"`     // local, broadcast, ...; "" = unicast
	Weight   int          `json:"weight,omitempty"`   // of one way of several, from 1
	Protocol string       `json:"protocol,omitempty"` // kernel, boot, static, dhcp, ra
	Scope    string       `json:"scope,omitempty"`
	OnLink   bool         `json:"onLink,omitempty"`
	MTU      int          `json:"mtu,omitempty"`
}

// Rule is a rule of policy routing, as `ip rule` prints it.
type Rule struct {
	Family   int    `json:"family"` // 4 or 6
	Priority int    `json:"priority"`
	Text     string `json:"text"`
}

// Neighbor is a permanent neighbour of a link.
type Neighbor struct {
	Addr netip.Addr `json:"addr"`
	MAC  string     `json:"mac"`
}
