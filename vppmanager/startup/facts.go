// Package startup turns what a node has (inventory.Node) and what it is told (NodeConfig)
// into a Plan: which dataplane runs, why, with which command line and files, and what is
// changed on the host for it. Conflicts between the two are errors here, before anything
// is changed.
//
// It is pure: it never reads the machine and never changes it.
package startup

import (
	"fmt"
	"strings"

	"github.com/millrace/millrace/vppmanager/inventory"
)

// facts prints what the plan depends on, a line each.
func facts(inv inventory.Node) string {
	var b strings.Builder
	fmt.Fprintf(&b, "cpus %s (%s), memory %d MiB available, NET_ADMIN %t\n", ranges(inv.CPUs), inv.CPULevel, inv.MemoryAvailable>>20, inv.NetAdmin)
	for _, n := range inv.NUMA {
		fmt.Fprintf(&b, "numa %d: %d free huge pages of %v\n", n.ID, n.HugePagesFree, inv.HugePageSize)
	}
	if inv.Kernel != "" {
		iommu := "off"
		if inv.IOMMU.On {
			iommu = "on"
		}
		if inv.IOMMU.Passthrough {
			iommu += " (pass-through)"
		}
		fmt.Fprintf(&b, "kernel %s, IOMMU %s\n", inv.Kernel, iommu)
	}
	fmt.Fprintf(&b, "tun %v, vhost-net %v\n", inv.Tun, inv.VhostNet)
	fmt.Fprintf(&b, "vpp %v\n", inv.VPP)
	return b.String()
}

// ranges prints rising CPU numbers as VPP and Linux write them: 0-3,8.
func ranges(cpus []int) string {
	var parts []string
	for i := 0; i < len(cpus); {
		j := i
		for j+1 < len(cpus) && cpus[j+1] == cpus[j]+1 {
			j++
		}
		if i == j {
			parts = append(parts, fmt.Sprint(cpus[i]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", cpus[i], cpus[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}
