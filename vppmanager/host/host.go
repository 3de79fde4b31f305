// Package host reads the node: processors, memory, huge pages, devices, programs and
// directories, as the value that package startup plans from.
//
// It only reads. It never changes the node and decides nothing.
package host

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
)

// Node reads one machine. Root is where its /proc, /sys and /dev hang: "/" but in tests.
type Node struct {
	Root string
	Arch string // as in GOARCH
}

// Query says which paths the plan will use.
type Query struct {
	VPP    string   // VPP's program
	Engine string   // the program with the engine verb
	Dirs   []string // directories to write into; they need not exist yet
}

// Inspect reads everything a plan depends on.
func (n Node) Inspect(q Query) (inventory.Node, error) {
	inv := inventory.Node{
		VPP:      n.program(q.VPP),
		Engine:   n.program(q.Engine),
		Tun:      n.device("/dev/net/tun"),
		VhostNet: n.device("/dev/vhost-net"),
	}
	dirs := slices.Clone(q.Dirs)
	slices.Sort(dirs)
	for _, dir := range slices.Compact(dirs) {
		inv.Dirs = append(inv.Dirs, n.directory(dir))
	}
	for _, read := range []func(*inventory.Node) error{n.status, n.memory, n.numa, n.cpuLevel} {
		if err := read(&inv); err != nil {
			return inventory.Node{}, fmt.Errorf("inspect node: %w", err)
		}
	}
	return inv, nil
}

func (n Node) path(p string) string { return filepath.Join(n.Root, p) }

func (n Node) program(path string) inventory.File {
	f := inventory.File{Path: path}
	info, err := os.Stat(n.path(path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Missing = true
	case err != nil:
		f.Problem = "cannot be read: " + reason(err)
	case info.IsDir():
		f.Problem = "is a directory"
	case !info.Mode().IsRegular():
		f.Problem = "is not a program"
	case info.Mode()&0o111 == 0:
		f.Problem = fmt.Sprintf("is not executable (mode %04o)", info.Mode().Perm())
	}
	return f
}

// device opens a device: being there is not enough, a container may still be kept from
// it, and its kernel module may be missing.
func (n Node) device(path string) inventory.File {
	f := inventory.File{Path: path}
	file, err := os.OpenFile(n.path(path), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f.Missing = true
		return f
	}
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		f.Problem = reason(err)
	}
	return f
}

// status reads what this process may do and where it may run.
func (n Node) status(inv *inventory.Node) error {
	const file = "/proc/self/status"
	fields, err := n.fields(file)
	if err != nil {
		return err
	}
	caps, err := strconv.ParseUint(fields["CapEff"], 16, 64)
	if err != nil {
		return fmt.Errorf("read CapEff in %s: %w", file, err)
	}
	const capNetAdmin = 12 // linux/capability.h
	inv.NetAdmin = caps&(1<<capNetAdmin) != 0
	inv.CPUs, err = numbers(fields["Cpus_allowed_list"])
	if err != nil {
		return fmt.Errorf("read Cpus_allowed_list in %s: %w", file, err)
	}
	return nil
}

func (n Node) memory(inv *inventory.Node) error {
	fields, err := n.fields("/proc/meminfo")
	if err != nil {
		return err
	}
	available, err := kilobytes(fields["MemAvailable"])
	if err != nil {
		return fmt.Errorf("read MemAvailable in /proc/meminfo: %w", err)
	}
	inv.MemoryAvailable = available
	size, given := fields["Hugepagesize"]
	if !given { // a kernel without huge pages
		return nil
	}
	if inv.HugePageSize, err = kilobytes(size); err != nil {
		return fmt.Errorf("read Hugepagesize in /proc/meminfo: %w", err)
	}
	return nil
}

// numa reads the free huge pages of each memory node; a kernel without NUMA counts as one.
func (n Node) numa(inv *inventory.Node) error {
	pages := fmt.Sprintf("hugepages/hugepages-%dkB/free_hugepages", inv.HugePageSize>>10)
	entries, err := os.ReadDir(n.path("/sys/devices/system/node"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		id, err := strconv.Atoi(strings.TrimPrefix(e.Name(), "node"))
		if err != nil || !strings.HasPrefix(e.Name(), "node") {
			continue
		}
		free, err := n.number(filepath.Join("/sys/devices/system/node", e.Name(), pages))
		if err != nil {
			return err
		}
		inv.NUMA = append(inv.NUMA, inventory.NUMANode{ID: id, HugePagesFree: free})
	}
	slices.SortFunc(inv.NUMA, func(a, b inventory.NUMANode) int { return a.ID - b.ID })
	if len(inv.NUMA) == 0 {
		free, err := n.number(filepath.Join("/sys/kernel/mm", pages))
		if err != nil {
			return err
		}
		inv.NUMA = []inventory.NUMANode{{HugePagesFree: free}}
	}
	return nil
}

// levels are the x86-64 micro-architecture levels above the first, by the flags that
// tell them apart; each needs the ones before it.
var levels = []struct{ name, flags string }{
	{"x86-64-v2", "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3"},
	{"x86-64-v3", "avx avx2 bmi1 bmi2 f16c fma abm movbe"},
	{"x86-64-v4", "avx512f avx512bw avx512cd avx512dq avx512vl"},
}

func (n Node) cpuLevel(inv *inventory.Node) error {
	inv.CPULevel = n.Arch
	if n.Arch != "amd64" {
		return nil
	}
	info, err := n.fields("/proc/cpuinfo")
	if err != nil {
		return err
	}
	has := strings.Fields(info["flags"])
	inv.CPULevel = "x86-64-v1"
	for _, l := range levels {
		for _, flag := range strings.Fields(l.flags) {
			if !slices.Contains(has, flag) {
				return nil
			}
		}
		inv.CPULevel = l.name
	}
	return nil
}

// fields reads "name: value" lines; the first of a name counts.
func (n Node) fields(file string) (map[string]string, error) {
	data, err := os.ReadFile(n.path(file))
	if err != nil {
		return nil, err
	}
	fields := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, found := strings.Cut(lines.Text(), ":")
		if name = strings.TrimSpace(name); !found || fields[name] != "" {
			continue
		}
		fields[name] = strings.TrimSpace(value)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return fields, nil
}

// number reads a file that holds one number; a missing file is 0.
func (n Node) number(file string) (int, error) {
	data, err := os.ReadFile(n.path(file))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", file, err)
	}
	return v, nil
}

func kilobytes(s string) (nodeconfig.Size, error) {
	v, err := strconv.ParseUint(strings.TrimSuffix(s, " kB"), 10, 53)
	if err != nil {
		return 0, fmt.Errorf("%q is not an amount in kB: %w", s, err)
	}
	return nodeconfig.Size(v << 10), nil
}

// numbers reads the kernel's list format: 0-3,8.
func numbers(list string) ([]int, error) {
	var out []int
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, errA := strconv.Atoi(from)
		b, errB := strconv.Atoi(to)
		if err := errors.Join(errA, errB); err != nil {
			return nil, err
		}
		if b < a || b > 1<<16 {
			return nil, fmt.Errorf("%q is not a range", part)
		}
		for i := a; i <= b; i++ {
			out = append(out, i)
		}
	}
	return out, nil
}

// reason is the error without the operation and the path, which stand beside it already.
func reason(err error) string {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err.Error()
	}
	return err.Error()
}
