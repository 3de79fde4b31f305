// Package host reads the node: processors, memory, huge pages, devices, links and what
// hangs on them, programs and directories, as the value that package startup plans from.
//
// It only reads. It never changes the node (it loads no kernel module by opening a device)
// and decides nothing. What it needs of sysfs and procfs it reads below a root, what it
// needs of rtnetlink and ethtool it asks a Kernel, so that a recorded machine reads like a
// live one. What a plan cannot do without is an error when it cannot be read; any other
// file that is broken or closed to this process is named in the node's Unread.
package host

import (
	"fmt"
	"runtime"
	"slices"

	"github.com/millrace/millrace/vppmanager/inventory"
)

// Node reads one machine. Root is where its /proc, /sys and /dev hang: "/" but in tests.
type Node struct {
	Root   string
	Arch   string // as in GOARCH
	Kernel Kernel // nil: nothing is said about links
}

// Machine is the one this process runs on.
func Machine() Node { return Node{Root: "/", Arch: runtime.GOARCH, Kernel: netlinkKernel{}} }

// Query says which paths the plan will use.
type Query struct {
	VPP    string   // VPP's program
	Engine string   // the program with the engine verb
	Dirs   []string // directories to write into; they need not exist yet
}

// reading is one inspection under way.
type reading struct {
	Node
	inv       inventory.Node
	processes []process
	seesHost  bool // processes of the whole machine are in /proc
	seesAll   bool // and what each has open could be read
}

// note keeps what could not be read; nil is nothing.
func (r *reading) note(err error) {
	if err != nil {
		r.inv.Unread = append(r.inv.Unread, err.Error())
	}
}

// noted is a value, with the error of its reading noted.
func noted[T any](r *reading, v T, err error) T {
	r.note(err)
	return v
}

// Inspect reads everything a plan depends on.
func (n Node) Inspect(q Query) (inventory.Node, error) {
	r := &reading{Node: n, inv: inventory.Node{VPP: n.program(q.VPP), Engine: n.program(q.Engine)}}
	plugins, err := n.plugins(q.VPP)
	r.inv.Plugins = noted(r, plugins, err)
	dirs := slices.Clone(q.Dirs)
	slices.Sort(dirs)
	for _, dir := range slices.Compact(dirs) {
		r.inv.Dirs = append(r.inv.Dirs, n.directory(dir))
	}
	for _, read := range []func() error{r.status, r.memory, r.numa, r.cpuLevel} {
		if err := read(); err != nil {
			return inventory.Node{}, fmt.Errorf("inspect node: %w", err)
		}
	}
	r.cores()
	r.cgroup()
	r.scanProcesses()
	r.devices()
	r.nics()
	r.managers()
	r.sessions()
	r.modules()
	r.deviceFiles()
	r.apiServers()
	r.inv.Unread = slices.Compact(r.inv.Unread)
	return r.inv, nil
}
