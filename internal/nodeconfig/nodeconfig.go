// Package nodeconfig owns the NodeConfig file: its Go types, its defaults, its strict
// decoding and its printed form.
//
// It turns bytes into a value and back. It never reads files, the environment or the
// machine; whoever starts a process does that and hands the bytes in.
package nodeconfig

import (
	"net/netip"
	"path"
)

// APIVersion and Kind head every NodeConfig document.
const (
	APIVersion = "millrace.io/v1alpha1"
	Kind       = "NodeConfig"
)

// Path is where the file lies when no flag names another.
const Path = "/etc/millrace/node.yaml"

// Config is one node's configuration. The order of the fields is the order in which
// they are printed; a doc tag becomes the comment above the field.
type Config struct {
	APIVersion string         `yaml:"apiVersion"`
	Kind       string         `yaml:"kind"`
	NodeName   string         `yaml:"nodeName" doc:"this node's name in Kubernetes; empty: the host name"`
	Dataplane  Dataplane      `yaml:"dataplane" doc:"auto (VPP when its binary is there, else the engine), vpp or engine"`
	LogLevel   LogLevel       `yaml:"logLevel" doc:"debug, info, warn or error"`
	RuntimeDir string         `yaml:"runtimeDir" doc:"sockets, start files and the manager's lock; nothing here outlives a stop"`
	StateDir   string         `yaml:"stateDir" doc:"what has to survive a reboot: the journal of pod attachments"`
	Sockets    Sockets        `yaml:"sockets"`
	MTU        int            `yaml:"mtu" doc:"of pod interfaces, in bytes, 1280 to 9216; with uplinks at most what leaves by them in one piece"`
	PodCIDRs   []netip.Prefix `yaml:"podCIDRs" doc:"ranges this node gives to its pods, IPv4, IPv6 or both"`
	MaxPods    int            `yaml:"maxPods" doc:"as the kubelet's maxPods: packet buffers are sized for as many"`
	Uplinks    []Uplink       `yaml:"uplinks" doc:"NICs that the dataplane takes over, the way out of the node first; empty: none"`
	NodeToNode NodeToNode     `yaml:"nodeToNode" doc:"how pods of other nodes are reached, where there are uplinks; the same on all nodes"`
	Masquerade Masquerade     `yaml:"masquerade" doc:"the way out: what pods send to no pod and no node gets the node's address"`
	Services   Services       `yaml:"services" doc:"Kubernetes services"`
	Memif      Memif          `yaml:"memif" doc:"memif interfaces of pods"`
	VPP        VPP            `yaml:"vpp" doc:"used when the dataplane is VPP"`
	Engine     Engine         `yaml:"engine" doc:"used when the dataplane is the embedded engine"`
}

// Sockets are the unix sockets of a node, as absolute paths.
type Sockets struct {
	API   string `yaml:"api" doc:"VPP binary API; empty: api.sock in runtimeDir"`
	Stats string `yaml:"stats" doc:"VPP stats segment; empty: stats.sock in runtimeDir"`
	CNI   string `yaml:"cni" doc:"where the CNI plugin finds the agent"`
	Agent string `yaml:"agent" doc:"where millrace show and explain find the agent; empty: agent.sock beside cni"`
}

// Uplink is one NIC that the dataplane takes over. Interface or PCI says which one.
type Uplink struct {
	Interface string `yaml:"interface" doc:"kernel name of a NIC or a bond, such as eth1; this or pci"`
	PCI       string `yaml:"pci" doc:"address of a NIC, such as 0000:03:00.0"`
	Mode      Mode   `yaml:"mode" doc:"share (the NIC stays Linux's, and the dataplane gets what is for pods), own (the dataplane takes it), or auto (share where it works, unless a driver other than af_xdp is given)"`
	Driver    Driver `yaml:"driver" doc:"auto (the first that works of those behind it), dpdk, virtio, avf, rdma, af_packet; or af_xdp"`
	RxQueues  int    `yaml:"rxQueues" doc:"receive queues; 0: one a worker, as far as the NIC has them"`
	TxQueues  int    `yaml:"txQueues" doc:"transmit queues; 0: one a thread, as far as the NIC has them"`
	RxRing    int    `yaml:"rxRing" doc:"descriptors of a receive queue, a power of two; 0: the driver's default"`
	TxRing    int    `yaml:"txRing" doc:"descriptors of a transmit queue, a power of two; 0: the driver's default"`
	NoHostTap bool   `yaml:"noHostTap" doc:"true: the host gives up this NIC with its addresses and routes while the dataplane runs"`
}

// setDefaults is called before an item of the list is decoded.
func (u *Uplink) setDefaults() { u.Mode, u.Driver = ModeAuto, DriverAuto }

// NodeToNode is how pods of other nodes are reached.
type NodeToNode struct {
	Encapsulation Encapsulation `yaml:"encapsulation" doc:"VXLAN to CrossSubnet (nodes on no subnet of an uplink), Always or Never"`
}

// Masquerade is which packets of pods leave the node with its address.
type Masquerade struct {
	Enabled            bool           `yaml:"enabled" doc:"false: the network carries the pods' addresses, or somebody else translates them"`
	NonMasqueradeCIDRs []netip.Prefix `yaml:"nonMasqueradeCIDRs" doc:"destinations that see the pods' own addresses, beside all pods and nodes of the cluster"`
}

// Services says who serves Kubernetes services on the node.
type Services struct {
	Enabled bool `yaml:"enabled" doc:"false: somebody else does, kube-proxy for example"`
}

// Memif is what all memif interfaces of a node have in common.
type Memif struct {
	UseDMA bool `yaml:"useDMA" doc:"copy by a DMA engine (VPP with dma_intel and a device of it); without one no memif can be made"`
}

// VPP is what the manager writes into VPP's startup.conf.
type VPP struct {
	Binary         string    `yaml:"binary" doc:"VPP's program; VPP_BIN and --vpp-bin override it"`
	Workers        int       `yaml:"workers" doc:"worker threads, each on a CPU of its own; 0: the main thread forwards"`
	MainHeapSize   Size      `yaml:"mainHeapSize" doc:"routes, ACLs and sessions live here"`
	BuffersPerNuma int       `yaml:"buffersPerNuma" doc:"packet buffers of 2 KiB per NUMA node; 0: sized from maxPods, workers and the rings of the uplinks"`
	HugePages      HugePages `yaml:"hugepages" doc:"auto (when enough are free), on or off"`
	AddHugePages   bool      `yaml:"addHugePages" doc:"add the huge pages that are short, where an uplink or hugepages: on needs them; taken away at the end"`
	PCIDriver      PCIDriver `yaml:"pciDriver" doc:"the kernel's driver under dpdk, virtio and avf: auto (vfio-pci before uio_pci_generic), vfio-pci or uio_pci_generic"`
	AllowNoIOMMU   bool      `yaml:"allowNoIOMMU" doc:"take NICs on machines without IOMMU too: a NIC can then write to all memory"`
	Plugins        []string  `yaml:"plugins" doc:"further plugins to load, for example wireguard"`
	Extra          []string  `yaml:"extra" doc:"lines added to startup.conf as they stand, in sections of their own"`
}

// Engine is how the embedded engine runs.
type Engine struct {
	Workers int `yaml:"workers" doc:"worker threads; 0: half of the CPUs, at least 1 and at most 4"`
}

// Default returns the configuration of an empty file, before Complete.
func Default() Config {
	return Config{
		APIVersion: APIVersion,
		Kind:       Kind,
		Dataplane:  Auto,
		LogLevel:   Info,
		RuntimeDir: "/run/vpp",
		StateDir:   "/var/lib/millrace",
		Sockets:    Sockets{CNI: "/run/millrace/cni.sock"},
		MTU:        1500,
		PodCIDRs:   []netip.Prefix{},
		MaxPods:    110,
		Uplinks:    []Uplink{},
		NodeToNode: NodeToNode{EncapsulationCrossSubnet},
		Masquerade: Masquerade{Enabled: true, NonMasqueradeCIDRs: []netip.Prefix{}},
		Services:   Services{Enabled: true},
		VPP: VPP{
			Binary:       "/usr/bin/vpp",
			MainHeapSize: 1 << 30,
			HugePages:    HugePagesAuto,
			AddHugePages: true,
			PCIDriver:    PCIDriverAuto,
			Plugins:      []string{},
			Extra:        []string{},
		},
	}
}

// Complete fills the fields whose default depends on others: the node's name from
// hostname, the API and stats sockets from the runtime directory, the agent's from the
// CNI socket.
func (c *Config) Complete(hostname string) {
	if c.NodeName == "" {
		c.NodeName = hostname
	}
	if c.Sockets.API == "" {
		c.Sockets.API = c.RuntimeDir + "/api.sock"
	}
	if c.Sockets.Stats == "" {
		c.Sockets.Stats = c.RuntimeDir + "/stats.sock"
	}
	if c.Sockets.Agent == "" {
		c.Sockets.Agent = path.Join(path.Dir(c.Sockets.CNI), "agent.sock")
	}
}
