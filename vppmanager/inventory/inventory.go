// Package inventory is the node as a value: processors, memory, huge pages, IOMMU, kernel
// modules, devices, and NICs with everything the host has hung on them.
//
// It is pure: package host fills it from a machine, package startup plans from it. Its JSON
// form is what `millrace node inspect --output json` prints and what recorded nodes in
// tests are; unknown things are absent, never guessed, and Unread says which parts could
// not be read.
package inventory

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/nodeconfig"
)

// Node is one machine at one moment.
type Node struct {
	VPP             File            `json:"vpp"`                     // the VPP program
	Plugins         []string        `json:"plugins,omitempty"`       // of that VPP: dpdk, af_xdp, ...; none = not known
	Engine          File            `json:"engine"`                  // the program with the engine verb: this one
	Dirs            []File          `json:"dirs,omitempty"`          // directories that will be written; Problem says why one cannot be
	Tun             File            `json:"tun"`                     // /dev/net/tun
	VhostNet        File            `json:"vhostNet"`                // /dev/vhost-net
	VFIO            File            `json:"vfio"`                    // /dev/vfio/vfio
	NetAdmin        bool            `json:"netAdmin"`                // CAP_NET_ADMIN is effective
	Kernel          string          `json:"kernel"`                  // release
	ModulesLocked   bool            `json:"modulesLocked,omitempty"` // kernel.modules_disabled: nothing can be loaded any more
	Lockdown        string          `json:"lockdown,omitempty"`      // integrity or confidentiality; "" = none
	CPUs            []int           `json:"cpus"`                    // this process may run on, rising
	Cpuset          []int           `json:"cpuset,omitempty"`        // of this process's cgroup, rising; none = it has no cpuset
	MemoryNodes     []int           `json:"memoryNodes,omitempty"`   // memory nodes this process may use, rising
	Cores           []CPU           `json:"cores,omitempty"`         // all that are online, rising
	CPULevel        string          `json:"cpuLevel"`                // x86-64-v1 to x86-64-v4, arm64, or another architecture's name
	MemoryTotal     nodeconfig.Size `json:"memoryTotal,omitempty"`
	MemoryAvailable nodeconfig.Size `json:"memoryAvailable"`          // without swapping
	MemoryLimit     nodeconfig.Size `json:"memoryLimit,omitempty"`    // of this process's cgroup; 0 = none
	HugePageLimits  []HugePageLimit `json:"hugePageLimits,omitempty"` // of this process's cgroup, by size
	HugePageSize    nodeconfig.Size `json:"hugePageSize"`             // the default one; 0: none
	NUMA            []NUMANode      `json:"numa"`                     // rising, at least one
	IOMMU           IOMMU           `json:"iommu"`
	Modules         []Module        `json:"modules,omitempty"`    // those the drivers of NICs need, by name
	Devices         []PCIDevice     `json:"devices,omitempty"`    // all of the PCI bus, by address
	NICs            []NIC           `json:"nics,omitempty"`       // by name, then by address
	Rules           []Rule          `json:"rules,omitempty"`      // policy routing, by family and priority
	APIServers      []netip.Addr    `json:"apiServers,omitempty"` // of Kubernetes that this node's kubelet talks to
	Unread          []string        `json:"unread,omitempty"`     // what could not be read, each with the file and why
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

// HugePageLimit is how much a cgroup may take of huge pages of one size.
type HugePageLimit struct {
	Size nodeconfig.Size `json:"size"`
	Max  nodeconfig.Size `json:"max"` // bytes; 0 is a limit too
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

// Module returns the state of a module; one that was not asked about is missing. A module
// is the same with - and with _ in its name, as for modprobe.
func (n Node) Module(name string) ModuleState {
	for _, m := range n.Modules {
		if strings.ReplaceAll(m.Name, "-", "_") == strings.ReplaceAll(name, "-", "_") {
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
	Domain     string   `json:"domain,omitempty"`     // of its IOMMU group: DMA, DMA-FQ, identity; "" = the kernel does not say
	NUMA       int      `json:"numa"`                 // -1: none said
	PF         string   `json:"pf,omitempty"`         // of an SR-IOV VF: the address of its PF
	VFs        int      `json:"vfs,omitempty"`        // of a PF: how many there are
	MaxVFs     int      `json:"maxVFs,omitempty"`     // of a PF: how many there can be
	NoIRQ      bool     `json:"noIRQ,omitempty"`      // it has no legacy interrupt (INTx)
	RDMA       []string `json:"rdma,omitempty"`       // RDMA devices on it: mlx5_0
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

// NIC returns the NIC of that kernel name, alternative name or PCI address.
func (n Node) NIC(name string) (NIC, bool) {
	for _, nic := range n.NICs {
		if name != "" && (nic.Name == name || nic.PCI == name || slices.Contains(nic.AltNames, name)) {
			return nic, true
		}
	}
	return NIC{}, false
}
