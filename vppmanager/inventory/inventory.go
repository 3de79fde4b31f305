// Package inventory is the node as a value: processors, memory, huge pages, IOMMU, kernel
// modules, devices, and NICs with everything the host has hung on them.
//
// It is pure: package host fills it from a machine, package startup plans from it. Its JSON
// form is what `millrace node inspect --output json` prints and what recorded nodes in
// tests are; unknown things are absent, never guessed.
package inventory

import (
	"net/netip"
	"slices"

	"github.com/millrace/millrace/internal/nodeconfig"
)

// Node is one machine at one moment.
type Node struct {
	VPP             File            `json:"vpp"`             // the VPP program
	Engine          File            `json:"engine"`          // the program with the engine verb: this one
	Dirs            []File          `json:"dirs,omitempty"`  // directories that will be written; Problem says why one cannot be
	Tun             File            `json:"tun"`             // /dev/net/tun
	VhostNet        File            `json:"vhostNet"`        // /dev/vhost-net
	VFIO            File            `json:"vfio"`            // /dev/vfio/vfio
	NetAdmin        bool            `json:"netAdmin"`        // CAP_NET_ADMIN is effective
	Kernel          string          `json:"kernel"`          // release
	CPUs            []int           `json:"cpus"`            // this process may run on, rising
	Cores           []CPU           `json:"cores,omitempty"` // all that are online, rising
	CPULevel        string          `json:"cpuLevel"`        // x86-64-v1 to x86-64-v4, arm64, or another architecture's name
	MemoryAvailable nodeconfig.Size `json:"memoryAvailable"` // without swapping
	HugePageSize    nodeconfig.Size `json:"hugePageSize"`    // the default one; 0: none
	NUMA            []NUMANode      `json:"numa"`            // rising, at least one
	IOMMU           IOMMU           `json:"iommu"`
	Modules         []Module        `json:"modules,omitempty"` // those the drivers of NICs need, by name
	Devices         []PCIDevice     `json:"devices,omitempty"` // all of the PCI bus, by address
	NICs            []NIC           `json:"nics,omitempty"`    // by name, then by address
	Rules           []Rule          `json:"rules,omitempty"`   // policy routing, by family and priority
}

// File is a path and what stands in the way of using it.
type File struct {
	Path    string `json:"path"`
	Missing bool   `json:"missing,omitempty"` // nothing is there
	Problem string `json:"problem,omitempty"` // why it cannot be used; "" when it can
}

// Usable says whether nothing stands in the way.
func (f File) Usable() bool { return f.Path != "" && !f.Missing && f.Problem == "" }

func (f File) String() string {
	switch {
	case f.Missing:
		return f.Path + " (missing)"
	case f.Problem != "":
		return f.Path + " (" + f.Problem + ")"
	}
	return f.Path
}

// CPU is one logical processor.
type CPU struct {
	ID       int   `json:"id"`
	NUMA     int   `json:"numa"`
	Socket   int   `json:"socket"`
	Siblings []int `json:"siblings,omitempty"` // of the same core (SMT), itself left out
	Isolated bool  `json:"isolated,omitempty"` // isolcpus
}

// NUMANode is one memory node.
type NUMANode struct {
	ID            int             `json:"id"`
	HugePagesFree int             `json:"hugePagesFree"`       // of the default size
	Pages         []HugePages     `json:"hugePages,omitempty"` // of each size, rising
	MemoryFree    nodeconfig.Size `json:"memoryFree,omitempty"`
}

// HugePages are those of one size on one memory node.
type HugePages struct {
	Size  nodeconfig.Size `json:"size"`
	Total int             `json:"total"`
	Free  int             `json:"free"`
}

// IOMMU says whether devices can be given to a process safely.
type IOMMU struct {
	On          bool `json:"on"`                    // there are groups
	Passthrough bool `json:"passthrough,omitempty"` // the default domain is identity
	NoIOMMU     bool `json:"noIOMMU,omitempty"`     // vfio's enable_unsafe_noiommu_mode is set
}

// Module is a kernel module.
type Module struct {
	Name  string      `json:"name"`
	State ModuleState `json:"state"`
}

// ModuleState says how a module can be had.
type ModuleState string

// The states.
const (
	ModuleLoaded    ModuleState = "loaded"
	ModuleBuiltin   ModuleState = "builtin"
	ModuleAvailable ModuleState = "available" // modprobe would find it
	ModuleMissing   ModuleState = "missing"
)

// Module returns the state of a module; one that was not asked about is missing.
func (n Node) Module(name string) ModuleState {
	for _, m := range n.Modules {
		if m.Name == name {
			return m.State
		}
	}
	return ModuleMissing
}

// PCIDevice is one device of the PCI bus.
type PCIDevice struct {
	Address    string   `json:"address"` // 0000:03:00.0
	Vendor     string   `json:"vendor"`  // four hexadecimal digits
	Device     string   `json:"device"`
	Class      string   `json:"class"`                // six hexadecimal digits: 020000 is Ethernet, 0604xx a bridge
	Driver     string   `json:"driver,omitempty"`     // bound at this moment
	Override   string   `json:"override,omitempty"`   // driver_override
	IOMMUGroup int      `json:"iommuGroup"`           // -1: none
	NUMA       int      `json:"numa"`                 // -1: none said
	PF         string   `json:"pf,omitempty"`         // of an SR-IOV VF: the address of its PF
	VFs        int      `json:"vfs,omitempty"`        // of a PF: how many there are
	User       string   `json:"user,omitempty"`       // of a device that vfio or uio holds: who has it open, "dpdk-testpmd (pid 12)"
	Interfaces []string `json:"interfaces,omitempty"` // kernel links on it
}

// Device returns the device of an address.
func (n Node) Device(address string) (PCIDevice, bool) {
	i := slices.IndexFunc(n.Devices, func(d PCIDevice) bool { return d.Address == address })
	if i < 0 {
		return PCIDevice{}, false
	}
	return n.Devices[i], true
}

// NIC is a kernel link that could be an uplink (Ethernet, bond or VLAN), or a PCI NIC that
// the kernel drives with no link: then Name is "".
type NIC struct {
	Name      string     `json:"name,omitempty"`
	AltNames  []string   `json:"altNames,omitempty"`
	Index     int        `json:"index,omitempty"`
	PCI       string     `json:"pci,omitempty"`    // address; "" = not of PCI
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
	MaxQueues int        `json:"maxQueues,omitempty"`
	RxRing    int        `json:"rxRing,omitempty"`
	TxRing    int        `json:"txRing,omitempty"`
	Master    string     `json:"master,omitempty"` // bond or bridge it is in
	Bond      *Bond      `json:"bond,omitempty"`
	VLAN      *VLAN      `json:"vlan,omitempty"`
	Offloads  []string   `json:"offloads,omitempty"` // features that are on, by ethtool's names
	XDP       string     `json:"xdp,omitempty"`      // program attached: "id 12 name xdp_pass"
	Addresses []Address  `json:"addresses,omitempty"`
	Routes    []Route    `json:"routes,omitempty"`    // all tables, through this link
	Neighbors []Neighbor `json:"neighbors,omitempty"` // permanent ones
	ManagedBy string     `json:"managedBy,omitempty"` // systemd-networkd, NetworkManager, dhclient (pid 12), ...
	DHCP      bool       `json:"dhcp,omitempty"`      // an address of it came by DHCP
	Sessions  []string   `json:"sessions,omitempty"`  // SSH sessions through its addresses: "192.0.2.9:50022"
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
}

// Address is an address of a link.
type Address struct {
	Prefix    netip.Prefix `json:"prefix"`
	Scope     string       `json:"scope"`               // global, link, host
	Permanent bool         `json:"permanent,omitempty"` // else ValidFor
	ValidFor  int          `json:"validFor,omitempty"`  // seconds
	Flags     []string     `json:"flags,omitempty"`     // as ip names them: dynamic, noprefixroute, mngtmpaddr, ...
}

// Route is a route through a link.
type Route struct {
	Dst      netip.Prefix `json:"dst"`
	Via      netip.Addr   `json:"via,omitzero"`
	Source   netip.Addr   `json:"source,omitzero"`
	Table    int          `json:"table,omitempty"` // 254 = main
	Metric   int          `json:"metric,omitempty"`
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

// NIC returns the NIC of that kernel name, alternative name or PCI address.
func (n Node) NIC(name string) (NIC, bool) {
	for _, nic := range n.NICs {
		if name != "" && (nic.Name == name || nic.PCI == name || slices.Contains(nic.AltNames, name)) {
			return nic, true
		}
	}
	return NIC{}, false
}
