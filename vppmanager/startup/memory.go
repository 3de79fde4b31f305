package startup

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
)

const (
	// bufferBytes is what VPP lays one buffer of 2 KiB data into (vlib/buffer.c): data,
	// header and head room, as an odd number of cache lines.
	bufferBytes = 2368
	// dpdkBufferBytes is the same with DPDK's headers before each buffer, which its plugin
	// brings (VLIB_BUFFER_SET_EXT_HDR_SIZE in plugins/dpdk/buffer.c).
	dpdkBufferBytes = 2496
	// podBuffers is what the rings of a pod's tap hold for good: 256 descriptors each way,
	// as the agent makes them. Rings of af_packet and memif hold none of VPP's buffers.
	podBuffers = 512
	// threadBuffers is a thread's cache (512, vlib/buffer.h) and the frames in its hands.
	threadBuffers = 4096
	// someBuffers are in flight or wait in reassembly and queues.
	someBuffers = 2048
	// driverBytes is what VPP's dpdk plugin has free on every memory node, or else adds
	// by itself (dpdk/device/init.c), and what rings of the other drivers lie in.
	driverBytes = 16 << 20
	// queueBytes is for the descriptors of one more queue.
	queueBytes = 1 << 20
)

// memoryPlan is how VPP's packet buffers lie in memory.
type memoryPlan struct {
	hugePages bool
	must      bool  // and nothing else will do
	buffers   int   // on each memory node that has some
	nodes     []int // memory nodes with buffers; none = all
	add       []Change
	why       string // of the number of buffers
}

// wantedBuffers is the configured number, or one for this node.
func wantedBuffers(inv inventory.Node, cfg nodeconfig.Config, ups []Uplink, th threads) (int, string) {
	if n := cfg.VPP.BuffersPerNuma; n > 0 {
		return n, "vpp.buffersPerNuma"
	}
	pods, taps := 0, "none for pods without taps"
	if tapsWork(inv, ups) {
		pods, taps = cfg.MaxPods*podBuffers, fmt.Sprintf("%d x %d for pods", cfg.MaxPods, podBuffers)
		for _, u := range ups {
			pods += podBuffers * (bit(u.Host != "") + len(u.VLANs))
		}
	}
	rings := 0
	for _, u := range ups {
		for _, m := range append([]Uplink{u}, u.Members...) {
			rings += m.RxQueues*m.RxRing + m.TxQueues*m.TxRing
		}
	}
	n := pods + rings + th.count()*threadBuffers + someBuffers
	const step, least = 8192, 16384 // VPP's own default is the least
	n = max(least, (n+step-1)/step*step)
	return n, fmt.Sprintf("%s, %d for rings of uplinks, %d x %d for threads, rounded up", taps, rings, th.count(), threadBuffers)
}

// tapsWork says whether VPP will be able to make taps: an uplink brings vhost_net along.
func tapsWork(inv inventory.Node, ups []Uplink) bool {
	return inv.VhostNet.Usable() || len(ups) > 0 && inv.VhostNet.Missing && inv.Module("vhost_net") == inventory.ModuleAvailable && !inv.ModulesLocked
}

// planMemory decides whether packet buffers lie on huge pages and which of these are
// added, and checks that the memory VPP will ask for is there.
func planMemory(inv inventory.Node, cfg nodeconfig.Config, ups []Uplink, th threads) (memoryPlan, []string, error) {
	var m memoryPlan
	m.buffers, m.why = wantedBuffers(inv, cfg, ups, th)
	if th.pinned && len(inv.Cores) > 0 {
		m.nodes = bufferNodes(inv, ups, th)
	}
	needy := hungry(ups) // of huge pages
	m.must = needy != "" || cfg.VPP.HugePages == nodeconfig.HugePagesOn
	short := m.hugePagesShort(inv, ups)
	var notes []string
	switch {
	case needy != "" && cfg.VPP.HugePages == nodeconfig.HugePagesOff:
		return m, nil, fmt.Errorf("vpp.hugepages: off, but %s: choose auto or on, or the driver af_packet", needy)
	case cfg.VPP.HugePages == nodeconfig.HugePagesOff:
		short = []shortage{{why: "vpp.hugepages is off"}}
	case m.must && len(short) > 0:
		if err := m.addPages(inv, cfg, short, needy); err != nil {
			return m, nil, err
		}
		short = nil
	}
	if m.hugePages = len(short) == 0; !m.hugePages {
		notes = append(notes, "packet buffers lie on small pages, which costs speed: "+short[0].why)
	}
	return m, notes, m.checkMemory(inv, cfg)
}

// hungry says which uplink cannot do without huge pages, and why; "" when none is.
func hungry(ups []Uplink) string {
	for _, u := range ups {
		switch u.Driver {
		case nodeconfig.DriverDPDK, nodeconfig.DriverAVF, nodeconfig.DriverVirtio:
			return fmt.Sprintf("%s by %s needs huge pages", u.Name, u.Driver)
		}
	}
	return ""
}

// bufferNodes are the memory nodes on which threads run or NICs are.
func bufferNodes(inv inventory.Node, ups []Uplink, th threads) []int {
	nodes := th.nodes(inv)
	for _, u := range ups {
		for _, m := range append([]Uplink{u}, u.Members...) {
			if d, found := inv.Device(m.PCI); found && d.NUMA >= 0 {
				nodes = append(nodes, d.NUMA)
			}
		}
	}
	slices.Sort(nodes)
	nodes = slices.Compact(nodes)
	if len(nodes) == len(inv.NUMA) {
		return nil
	}
	return nodes
}

// shortage is what a memory node lacks.
type shortage struct {
	node, need, free int // huge pages; need -1: more than may be had
	why              string
}

// hugePagesShort says where buffers and drivers do not fit into the free huge pages.
func (m memoryPlan) hugePagesShort(inv inventory.Node, ups []Uplink) []shortage {
	size := nodeconfig.Size(bufferBytes)
	if slices.Contains(driverPlugins(ups), "dpdk") {
		size = dpdkBufferBytes
	}
	if inv.HugePageSize < size {
		return []shortage{{why: "the kernel has no huge pages"}}
	}
	var list []shortage
	var total nodeconfig.Size
	for _, n := range inv.NUMA {
		buffers := 0
		if len(m.nodes) == 0 || slices.Contains(m.nodes, n.ID) {
			buffers = m.buffers
		}
		need := ceil(buffers, int(inv.HugePageSize/size)) + ceil(driverMemory(inv, ups, n.ID), int(inv.HugePageSize))
		total += nodeconfig.Size(need) * inv.HugePageSize
		if n.HugePagesFree < need {
			list = append(list, shortage{n.ID, need, n.HugePagesFree, fmt.Sprintf("%d buffers%s need %d huge pages of %v on NUMA node %d, %d are free",
				buffers, forDrivers(ups), need, inv.HugePageSize, n.ID, n.HugePagesFree)})
		}
	}
	for _, l := range inv.HugePageLimits {
		if l.Size == inv.HugePageSize && l.Max < total {
			return []shortage{{need: -1, why: fmt.Sprintf("VPP needs %d MiB of huge pages, this container may use %d MiB: raise its limit hugepages-%v", total>>20, l.Max>>20, l.Size)}}
		}
	}
	return list
}

func ceil(n, by int) int { return (n + by - 1) / by }

func forDrivers(ups []Uplink) string {
	if hungry(ups) != "" {
		return " and the drivers' rings"
	}
	return ""
}

// driverMemory is what drivers take of huge pages on a memory node, in bytes.
func driverMemory(inv inventory.Node, ups []Uplink, node int) int {
	total, dpdk := 0, false
	for _, u := range ups {
		for _, m := range append([]Uplink{u}, u.Members...) {
			d, found := inv.Device(m.PCI)
			if !found || hungry([]Uplink{m}) == "" {
				continue
			}
			dpdk = dpdk || m.Driver == nodeconfig.DriverDPDK
			if d.NUMA == node || d.NUMA < 0 && node == inv.NUMA[0].ID {
				total += queueBytes * (m.RxQueues + m.TxQueues)
				if m.Driver != nodeconfig.DriverDPDK {
					total += driverBytes
				}
			}
		}
	}
	if dpdk {
		total += driverBytes
	}
	return total
}

// addPages plans the huge pages that are short.
func (m *memoryPlan) addPages(inv inventory.Node, cfg nodeconfig.Config, short []shortage, needy string) error {
	if inv.HugePageSize < bufferBytes {
		if needy == "" {
			needy = "vpp.hugepages is on"
		}
		return fmt.Errorf("%s: %s: choose another driver (af_packet), or a kernel with CONFIG_HUGETLBFS", needy, short[0].why)
	}
	var bytes nodeconfig.Size
	for _, s := range short {
		if s.need < 0 {
			return fmt.Errorf("vpp.hugepages: %s", s.why)
		}
		if !cfg.VPP.AddHugePages {
			return fmt.Errorf("vpp.hugepages: %s: set vm.nr_hugepages, or let the manager add them (vpp.addHugePages: true)", s.why)
		}
		m.add = append(m.add, Change{
			Kind: AddHugePages, NUMA: s.node, PageSize: inv.HugePageSize, Pages: s.need - s.free, Why: s.why,
		})
		bytes += nodeconfig.Size(s.need-s.free) * inv.HugePageSize
	}
	if left := leftFor(inv, cfg); bytes > left {
		return fmt.Errorf("vpp.hugepages: %d MiB of huge pages would have to be added, %d MiB of memory are available beside VPP's heap: lower maxPods, vpp.buffersPerNuma or vpp.mainHeapSize (%s)",
			bytes>>20, left>>20, short[0].why)
	}
	return nil
}

// reserve is memory that is left to the rest of the node.
const reserve = 256 << 20

// leftFor is what may become huge pages.
func leftFor(inv inventory.Node, cfg nodeconfig.Config) nodeconfig.Size {
	if taken := cfg.VPP.MainHeapSize + reserve; taken < inv.MemoryAvailable {
		return inv.MemoryAvailable - taken
	}
	return 0
}

// checkMemory checks the heap, and the buffers where they lie on small pages.
func (m *memoryPlan) checkMemory(inv inventory.Node, cfg nodeconfig.Config) error {
	total := cfg.VPP.MainHeapSize
	if !m.hugePages {
		// No buffer may straddle two pages: VPP lays out a page for each asked for, then
		// keeps those 73 % that do not.
		m.buffers = m.buffers * 100 / 72
		nodes := len(inv.NUMA)
		if len(m.nodes) > 0 {
			nodes = len(m.nodes)
		}
		total += nodeconfig.Size(m.buffers) * 4096 * nodeconfig.Size(nodes)
	}
	var errs []error
	if inv.MemoryAvailable < total {
		errs = append(errs, fmt.Errorf("vpp.mainHeapSize: VPP may use %d MiB (heap and buffers), %d MiB are available: lower it, or vpp.buffersPerNuma",
			total>>20, inv.MemoryAvailable>>20))
	}
	if inv.MemoryLimit > 0 && inv.MemoryLimit < total {
		errs = append(errs, fmt.Errorf("vpp.mainHeapSize: VPP may use %d MiB (heap and buffers), this container may use %d MiB: raise its memory limit, or lower vpp.mainHeapSize",
			total>>20, inv.MemoryLimit>>20))
	}
	return errors.Join(errs...)
}

// buffersSection is the section of startup.conf.
func (m memoryPlan) buffersSection(inv inventory.Node, cfg nodeconfig.Config) []string {
	lines := []string{fmt.Sprintf("buffers-per-numa %d", m.buffers)}
	if len(m.nodes) > 0 {
		for _, n := range inv.NUMA {
			if !slices.Contains(m.nodes, n.ID) {
				lines = append(lines, fmt.Sprintf("numa %d { buffers 0 }", n.ID))
			}
		}
	}
	switch {
	case !m.hugePages:
		lines = append(lines, "page-size default")
	case m.must:
		lines = append(lines, "page-size default-hugepage")
	} // else VPP tries huge pages, and takes small ones when another program was quicker
	return lines
}

// String says how buffers lie, for the printed plan.
func (m memoryPlan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d buffers", m.buffers)
	if len(m.nodes) > 0 {
		fmt.Fprintf(&b, " on NUMA node %s", ranges(m.nodes))
	} else {
		b.WriteString(" on each NUMA node")
	}
	if m.hugePages {
		b.WriteString(", huge pages")
	} else {
		b.WriteString(", small pages")
	}
	return b.String() + " (" + m.why + ")"
}
