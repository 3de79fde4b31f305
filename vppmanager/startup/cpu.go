package startup

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
)

// threads is where VPP's threads run.
type threads struct {
	pinned  bool  // false: VPP's main thread stays where it starts, and there are no workers
	main    int   // CPU of the main thread
	workers []int // CPU of each worker, rising, as VPP numbers them
	notes   []string
}

// count is the number of threads that forward or transmit.
func (t threads) count() int { return 1 + len(t.workers) }

// nodes are the memory nodes of the threads, rising.
func (t threads) nodes(inv inventory.Node) []int {
	var list []int
	for _, cpu := range append([]int{t.main}, t.workers...) {
		list = append(list, core(inv, cpu).NUMA)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func core(inv inventory.Node, id int) inventory.CPU {
	for _, c := range inv.Cores {
		if c.ID == id {
			return c
		}
	}
	return inventory.CPU{ID: id}
}

// placeThreads chooses CPUs of those that this process may use: isolated ones first, then
// near the NICs, then on cores of their own.
func placeThreads(inv inventory.Node, cfg nodeconfig.Config, list []taken) (threads, error) {
	n := cfg.VPP.Workers
	free := allowed(inv)
	t := threads{pinned: n > 0 || len(list) > 0}
	if len(free) == 0 {
		return t, nil // an error of its own
	}
	if n >= len(free) && n > 0 {
		return t, fmt.Errorf("vpp.workers: %d workers and the main thread need %d CPUs, this process may use %d (%s)", n, n+1, len(free), ranges(free))
	}
	near := nearNodes(inv, list)
	p := placement{inv: inv, free: free}
	t.main = p.best(near, false)
	for i := range n {
		want := near
		if len(near) > 1 { // NICs on several memory nodes: workers on each in turn
			want = near[i%len(near) : i%len(near)+1]
		}
		t.workers = append(t.workers, p.best(want, true))
	}
	slices.Sort(t.workers)
	t.notes = placeNotes(inv, t, near)
	return t, nil
}

// allowed are the CPUs of this process's affinity and cpuset.
func allowed(inv inventory.Node) []int {
	if len(inv.Cpuset) == 0 {
		return inv.CPUs
	}
	return slices.DeleteFunc(slices.Clone(inv.CPUs), func(c int) bool { return !slices.Contains(inv.Cpuset, c) })
}

// nearNodes are the memory nodes of the NICs, in the order of the uplinks.
func nearNodes(inv inventory.Node, list []taken) []int {
	var nodes []int
	for _, t := range list {
		if n := numaOf(inv, t); n >= 0 && !slices.Contains(nodes, n) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// numaOf is the memory node of an uplink's first device; -1 = not known.
func numaOf(inv inventory.Node, t taken) int {
	for _, nic := range t.devices() {
		if d, found := inv.Device(nic.PCI); found && d.NUMA >= 0 {
			return d.NUMA
		}
	}
	return -1
}

// placement hands out CPUs.
type placement struct {
	inv  inventory.Node
	free []int
	used []int
}

// best takes the CPU that fits best. A worker polls without end, so isolated CPUs are for
// workers, and neither should share a core with another thread of VPP. The main thread
// takes the first CPU that is not isolated.
func (p *placement) best(near []int, worker bool) int {
	cost := func(id int) []int {
		c := core(p.inv, id)
		shared := slices.ContainsFunc(c.Siblings, func(s int) bool { return slices.Contains(p.used, s) })
		return []int{bit(c.Isolated != worker), bit(len(near) > 0 && !slices.Contains(near, c.NUMA)), bit(shared), id}
	}
	id := slices.MinFunc(p.free, func(a, b int) int { return slices.Compare(cost(a), cost(b)) })
	p.free = slices.DeleteFunc(slices.Clone(p.free), func(c int) bool { return c == id })
	p.used = append(p.used, id)
	return id
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// placeNotes says what a person would have placed better by giving other CPUs.
func placeNotes(inv inventory.Node, t threads, near []int) []string {
	var notes []string
	all := append([]int{t.main}, t.workers...)
	for i, a := range all {
		for _, b := range all[i+1:] {
			if slices.Contains(core(inv, a).Siblings, b) {
				notes = append(notes, fmt.Sprintf("threads of VPP share a core (CPUs %d and %d), which halves their speed: give this process more CPUs, or lower vpp.workers", min(a, b), max(a, b)))
			}
		}
	}
	isolated := 0
	for _, w := range t.workers {
		c := core(inv, w)
		isolated += bit(c.Isolated)
		if len(near) > 0 && !slices.Contains(near, c.NUMA) {
			notes = append(notes, fmt.Sprintf("the worker on CPU %d is on NUMA node %d, the NICs are on %s: packets cross between sockets", w, c.NUMA, join(near)))
		}
	}
	if isolated < len(t.workers) && len(inv.Cores) > 0 {
		notes = append(notes, fmt.Sprintf("%d of %d workers run on CPUs that the kernel uses too (isolcpus keeps it off)", len(t.workers)-isolated, len(t.workers)))
	}
	return notes
}

// workersNear are the numbers of the workers on a memory node, and all when none is; none
// when that would be all anyway.
func (t threads) workersNear(inv inventory.Node, node int) []int {
	var list []int
	for i, cpu := range t.workers {
		if node >= 0 && core(inv, cpu).NUMA == node {
			list = append(list, i)
		}
	}
	if len(list) == len(t.workers) {
		return nil
	}
	return list
}

func join(list []int) string { return ranges(slices.SortedFunc(slices.Values(list), cmp.Compare)) }

// String says where the threads run, for the printed plan.
func (t threads) String(inv inventory.Node) string {
	if !t.pinned {
		return "the main thread forwards, on whichever CPU it starts"
	}
	at := func(id int) string {
		if len(inv.Cores) == 0 {
			return fmt.Sprint(id)
		}
		c := core(inv, id)
		isolated := ""
		if c.Isolated {
			isolated = ", isolated"
		}
		return fmt.Sprintf("%d (NUMA %d%s)", id, c.NUMA, isolated)
	}
	if len(t.workers) == 0 {
		return "the main thread forwards, on CPU " + at(t.main)
	}
	var names []string
	for _, w := range t.workers {
		names = append(names, at(w))
	}
	return fmt.Sprintf("main on CPU %s, workers on %s", at(t.main), strings.Join(names, ", "))
}
