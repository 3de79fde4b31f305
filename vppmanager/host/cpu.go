package host

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/vppmanager/inventory"
)

// status reads what this process may do and where it may run.
func (r *reading) status() error {
	const file = "/proc/self/status"
	fields, err := r.fields(file)
	if err != nil {
		return err
	}
	caps, err := strconv.ParseUint(fields["CapEff"], 16, 64)
	if err != nil {
		return fmt.Errorf("read CapEff in %s: %w", file, err)
	}
	const capNetAdmin = 12 // linux/capability.h
	r.inv.NetAdmin = caps&(1<<capNetAdmin) != 0
	r.inv.CPUs, err = numbers(fields["Cpus_allowed_list"])
	if err != nil {
		return fmt.Errorf("read Cpus_allowed_list in %s: %w", file, err)
	}
	if list, given := fields["Mems_allowed_list"]; given {
		r.inv.MemoryNodes, err = numbers(list)
		if err != nil {
			return fmt.Errorf("read Mems_allowed_list in %s: %w", file, err)
		}
	}
	kernel, err := r.word("/proc/sys/kernel/osrelease")
	r.inv.Kernel = noted(r, kernel, err)
	return nil
}

const cpuDir, nodeDir = "/sys/devices/system/cpu", "/sys/devices/system/node"

// cores reads the processors that are online: where they sit and what they share.
func (r *reading) cores() {
	online, err := r.list(cpuDir + "/online")
	r.note(err)
	isolated, err := r.list(cpuDir + "/isolated")
	r.note(err)
	memory := r.memoryNodeOf()
	for _, id := range online {
		topology := fmt.Sprintf("%s/cpu%d/topology", cpuDir, id)
		socket, err := r.number(topology + "/physical_package_id")
		r.note(err)
		siblings, err := r.list(topology + "/thread_siblings_list")
		r.note(err)
		core := inventory.CPU{ID: id, NUMA: memory[id], Socket: socket, Isolated: slices.Contains(isolated, id)}
		for _, other := range siblings {
			if other != id {
				core.Siblings = append(core.Siblings, other)
			}
		}
		r.inv.Cores = append(r.inv.Cores, core)
	}
}

var nodeName = regexp.MustCompile(`^node([0-9]{1,5})$`)

// memoryNodes are the numbers of the memory nodes, rising; none without NUMA.
func (n Node) memoryNodes() ([]int, error) {
	names, err := n.names(nodeDir)
	var ids []int
	for _, name := range names {
		if m := nodeName.FindStringSubmatch(name); m != nil {
			id, _ := strconv.Atoi(m[1]) // digits, few enough
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, err
}

// memoryNodeOf maps processors to memory nodes.
func (r *reading) memoryNodeOf() map[int]int {
	of := map[int]int{}
	ids, err := r.memoryNodes()
	r.note(err)
	for _, id := range ids {
		cpus, err := r.list(fmt.Sprintf("%s/node%d/cpulist", nodeDir, id))
		r.note(err)
		for _, cpu := range cpus {
			of[cpu] = id
		}
	}
	return of
}

// levels are the x86-64 micro-architecture levels above the first, by the flags that
// tell them apart; each needs the ones before it.
var levels = []struct{ name, flags string }{
	{"x86-64-v2", "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3"},
	{"x86-64-v3", "avx avx2 bmi1 bmi2 f16c fma abm movbe"},
	{"x86-64-v4", "avx512f avx512bw avx512cd avx512dq avx512vl"},
}

func (r *reading) cpuLevel() error {
	r.inv.CPULevel = r.Arch
	if r.Arch != "amd64" {
		return nil
	}
	info, err := r.fields("/proc/cpuinfo")
	if err != nil {
		return err
	}
	has := strings.Fields(info["flags"])
	if len(has) == 0 {
		return errors.New("read flags in /proc/cpuinfo: there are none")
	}
	r.inv.CPULevel = "x86-64-v1"
	for _, l := range levels {
		for _, flag := range strings.Fields(l.flags) {
			if !slices.Contains(has, flag) {
				return nil
			}
		}
		r.inv.CPULevel = l.name
	}
	return nil
}
