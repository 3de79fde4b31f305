// Package startup turns what a node has (Inventory) and what it is told (NodeConfig)
// into a Plan: which dataplane runs, why, with which command line and files. Conflicts
// between the two are errors here, before anything is changed.
//
// It is pure: it never reads the machine and never changes it.
package startup

import (
	"fmt"
	"strings"

	"github.com/millrace/millrace/internal/nodeconfig"
)

// Inventory is what the plan depends on, read from the node once.
type Inventory struct {
	VPP             File            // the VPP program
	Engine          File            // the program with the engine verb: this one
	Dirs            []File          // directories that will be written; Problem says why one cannot be
	Tun             File            // /dev/net/tun
	VhostNet        File            // /dev/vhost-net
	NetAdmin        bool            // CAP_NET_ADMIN is effective
	CPUs            []int           // this process may run on, rising
	CPULevel        string          // x86-64-v1 to x86-64-v4, arm64, or another architecture's name
	MemoryAvailable nodeconfig.Size // without swapping
	HugePageSize    nodeconfig.Size // the default one; 0: none
	NUMA            []NUMANode      // rising, at least one
}

// File is a path and what stands in the way of using it.
type File struct {
	Path    string
	Missing bool   // nothing is there
	Problem string // why it cannot be used; "" when it can
}

// NUMANode is one memory node.
type NUMANode struct {
	ID            int
	HugePagesFree int // of the default size
}

func (f File) usable() bool { return !f.Missing && f.Problem == "" }

func (f File) String() string {
	switch {
	case f.Missing:
		return f.Path + " (missing)"
	case f.Problem != "":
		return f.Path + " (" + f.Problem + ")"
	}
	return f.Path
}

// String prints the facts in one line each.
func (inv Inventory) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cpus %s (%s), memory %d MiB available, NET_ADMIN %t\n", ranges(inv.CPUs), inv.CPULevel, inv.MemoryAvailable>>20, inv.NetAdmin)
	for _, n := range inv.NUMA {
		fmt.Fprintf(&b, "numa %d: %d free huge pages of %v\n", n.ID, n.HugePagesFree, inv.HugePageSize)
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
