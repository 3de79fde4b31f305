package inventory

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Text is the node for a person to read: the machine, one line a NIC, then each NIC that
// carries something. remarks says more about a NIC, a line each; nil says nothing.
func (n Node) Text(remarks func(NIC) []string) string {
	var b strings.Builder
	n.machine(&b)
	n.table(&b)
	for _, nic := range n.NICs {
		var more []string
		if remarks != nil && nic.Candidate() {
			more = remarks(nic)
		}
		n.details(&b, nic, more)
	}
	if len(n.Rules) > 0 {
		b.WriteString("\nrules\n")
	}
	for _, r := range n.Rules {
		fmt.Fprintf(&b, "  IPv%d %d: %s\n", r.Family, r.Priority, clean(r.Text))
	}
	if len(n.Unread) > 0 {
		b.WriteString("\nnot known\n")
	}
	for _, u := range n.Unread {
		fmt.Fprintf(&b, "  %s\n", clean(u))
	}
	return b.String()
}

// Candidate says whether a person would think of the NIC as an uplink: it has a device, or
// is a bond or VLAN, or has an address of its own that reaches beyond the link.
func (n NIC) Candidate() bool {
	if n.Kind == "" && (n.PCI != "" || n.Bus != "") || n.Kind == "bond" || n.Kind == "vlan" {
		return true
	}
	for _, a := range n.Addresses {
		if a.Scope == "global" && n.Kind != "bridge" {
			return true
		}
	}
	return false
}

// Title is the kernel's name, or the PCI address of a NIC without a link.
func (n NIC) Title() string {
	if n.Name == "" {
		return n.PCI
	}
	return clean(n.Name)
}

func (n Node) machine(b *strings.Builder) {
	t := tabwriter.NewWriter(b, 0, 8, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", args...) }
	line("kernel", "%s%s", clean(n.Kernel), n.locks())
	line("cpus", "%s", n.processors())
	line("memory", "%s available of %s%s", mib(n.MemoryAvailable), mib(n.MemoryTotal), limit(n.MemoryLimit))
	for _, m := range n.NUMA {
		line(fmt.Sprintf("numa %d", m.ID), "%s", n.memoryNode(m))
	}
	for _, l := range n.HugePageLimits {
		line("huge pages", "of %v: this cgroup may take %s", l.Size, mib(l.Max))
	}
	line("iommu", "%s", n.IOMMU)
	for _, state := range []ModuleState{ModuleLoaded, ModuleBuiltin, ModuleAvailable, ModuleMissing} {
		if names := n.modulesIn(state); names != "" {
			line("modules", "%s: %s", state, names)
		}
	}
	line("devices", "%v, %v, %v", n.Tun, n.VhostNet, n.VFIO)
	line("vpp", "%v%s", n.VPP, plugins(n.Plugins))
	t.Flush()
}

func (n Node) locks() string {
	s := ""
	if !n.NetAdmin {
		s += ", no CAP_NET_ADMIN"
	}
	if n.ModulesLocked {
		s += ", no modules can be loaded (kernel.modules_disabled)"
	}
	if n.Lockdown != "" {
		s += ", locked down (" + clean(n.Lockdown) + ")"
	}
	return s
}

func (n Node) processors() string {
	var isolated []int
	smt := "no SMT"
	for _, c := range n.Cores {
		if c.Isolated {
			isolated = append(isolated, c.ID)
		}
		if len(c.Siblings) > 0 {
			smt = "SMT"
		}
	}
	s := fmt.Sprintf("%s may be used", Ranges(n.CPUs))
	if len(n.Cores) > 0 {
		s += fmt.Sprintf(" of %d online, %s", len(n.Cores), smt)
	}
	if n.Cpuset != nil {
		s += ", cpuset " + Ranges(n.Cpuset)
	}
	if isolated != nil {
		s += ", isolated " + Ranges(isolated)
	}
	return s + ", " + clean(n.CPULevel)
}

func (n Node) memoryNode(m NUMANode) string {
	var cpus []int
	for _, c := range n.Cores {
		if c.NUMA == m.ID {
			cpus = append(cpus, c.ID)
		}
	}
	parts := []string{}
	if cpus != nil {
		parts = append(parts, "cpus "+Ranges(cpus))
	}
	if m.MemoryFree != 0 {
		parts = append(parts, mib(m.MemoryFree)+" free")
	}
	for _, p := range m.Pages {
		parts = append(parts, fmt.Sprintf("huge pages of %v: %d of %d free", p.Size, p.Free, p.Total))
	}
	return strings.Join(parts, ", ")
}

func (i IOMMU) String() string {
	s := "off"
	switch {
	case i.On && i.Passthrough:
		s = "on, devices pass through (identity)"
	case i.On:
		s = "on"
	}
	if i.NoIOMMU {
		s += ", vfio may work without it (enable_unsafe_noiommu_mode)"
	}
	return s
}

func (n Node) modulesIn(state ModuleState) string {
	var names []string
	for _, m := range n.Modules {
		if m.State == state {
			names = append(names, clean(m.Name))
		}
	}
	return strings.Join(names, " ")
}

func plugins(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return fmt.Sprintf(", %d plugins", len(list))
}

// mib prints memory rounded down: 2048 MiB.
func mib[S ~uint64](s S) string { return strconv.FormatUint(uint64(s)>>20, 10) + " MiB" }

func limit[S ~uint64](s S) string {
	if s == 0 {
		return ""
	}
	return ", this cgroup may use " + mib(s)
}

// Ranges prints rising numbers as VPP and Linux write them: 0-3,8.
func Ranges(list []int) string {
	var parts []string
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		if i == j {
			parts = append(parts, strconv.Itoa(list[i]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", list[i], list[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}

// clean makes text that comes from the machine fit for a terminal: a link's name may hold
// any byte.
func clean(s string) string {
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == 0xfffd || r >= 0x80 && r < 0xa0 {
			return strconv.Quote(s)
		}
	}
	return s
}
