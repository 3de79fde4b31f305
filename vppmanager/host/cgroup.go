package host

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
)

// hierarchy is where a cgroup controller hangs, and the directories of this process in it:
// its own first, then those above it that can be seen.
type hierarchy struct {
	unified bool // cgroup v2
	dirs    []string
}

// cgroup reads what the cgroups of this process let it use. Each controller lies in a
// hierarchy of its own (v1), or in the unified one (v2); machines have both.
func (r *reading) cgroup() {
	const groups, mounts = "/proc/self/cgroup", "/proc/self/mountinfo"
	own, err := r.read(groups)
	if errors.Is(err, fs.ErrNotExist) { // a kernel without cgroups
		return
	}
	table, err2 := r.read(mounts)
	if err := errors.Join(err, err2); err != nil {
		r.note(err)
		return
	}
	find := func(controller string) (hierarchy, bool) {
		return findHierarchy(string(own), string(table), controller)
	}
	if h, found := find("cpuset"); found {
		cpus, err := r.cpuset(h)
		r.inv.Cpuset = noted(r, cpus, err)
	}
	if h, found := find("memory"); found {
		file := "memory.limit_in_bytes"
		if h.unified {
			file = "memory.max"
		}
		limit, limited, err := r.lowest(h, file)
		r.note(err)
		if limited {
			r.inv.MemoryLimit = limit
		}
	}
	if h, found := find("hugetlb"); found {
		r.hugePageLimits(h)
	}
}

// findHierarchy finds a controller in the text of /proc/self/cgroup ("5:cpuset:/a",
// "0::/b") and of /proc/self/mountinfo.
func findHierarchy(groups, mounts, controller string) (hierarchy, bool) {
	for _, unified := range []bool{false, true} {
		own, found := ownGroup(groups, controller, unified)
		if !found {
			continue
		}
		for line := range strings.Lines(mounts) {
			left, right, _ := strings.Cut(line, " - ")
			l, f := strings.Fields(left), strings.Fields(right)
			if len(l) < 5 || len(f) < 3 {
				continue
			}
			if unified && f[0] == "cgroup2" || !unified && f[0] == "cgroup" && slices.Contains(strings.Split(f[2], ","), controller) {
				return hierarchy{unified: unified, dirs: chain(l[4], l[3], own)}, true
			}
		}
	}
	return hierarchy{}, false
}

func ownGroup(groups, controller string, unified bool) (string, bool) {
	for line := range strings.Lines(groups) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		if unified && f[0] == "0" && f[1] == "" || !unified && slices.Contains(strings.Split(f[1], ","), controller) {
			return f[2], true
		}
	}
	return "", false
}

// chain is a group's directory and all above it up to the mount point, which shows the
// hierarchy from root on. A group that does not lie below root (its namespace was left)
// can be seen no deeper than the mount point.
func chain(mount, root, group string) []string {
	rel := "/"
	if below, ok := strings.CutPrefix(group, strings.TrimSuffix(root, "/")); ok && !strings.HasPrefix(group, "/..") {
		rel = path.Clean("/" + below)
	}
	var dirs []string
	for ; ; rel = path.Dir(rel) {
		dirs = append(dirs, path.Join(mount, rel))
		if rel == "/" {
			return dirs
		}
	}
}

// cpuset is the nearest group's that has one.
func (r *reading) cpuset(h hierarchy) ([]int, error) {
	files := []string{"cpuset.effective_cpus", "cpuset.cpus"}
	if h.unified {
		files = []string{"cpuset.cpus.effective"}
	}
	for _, dir := range h.dirs {
		for _, file := range files {
			cpus, err := r.list(dir + "/" + file)
			if err != nil || len(cpus) > 0 {
				return cpus, err
			}
		}
	}
	return nil, nil
}

// lowest is the lowest limit of a group and those above it.
func (r *reading) lowest(h hierarchy, file string) (limit nodeconfig.Size, limited bool, err error) {
	for _, dir := range h.dirs {
		text, err := r.word(dir + "/" + file)
		if err != nil {
			return 0, false, err
		}
		if text == "" || text == "max" {
			continue
		}
		v, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return 0, false, fmt.Errorf("read %s/%s: %.40q is not an amount", dir, file, text)
		}
		// v1 says "none" by the largest multiple of the page's size below 1<<63.
		if v < 1<<62 && (!limited || nodeconfig.Size(v) < limit) {
			limit, limited = nodeconfig.Size(v), true
		}
	}
	return limit, limited, nil
}

// hugePageLimits reads the limit of each size that the controller knows; its files spell
// sizes as 64KB, 2MB, 1GB.
func (r *reading) hugePageLimits(h hierarchy) {
	suffix := ".limit_in_bytes"
	if h.unified {
		suffix = ".max"
	}
	names, err := r.names(h.dirs[0])
	r.note(err)
	for _, name := range names {
		text, ok := strings.CutPrefix(name, "hugetlb.")
		if ok {
			text, ok = strings.CutSuffix(text, suffix)
		}
		size, known := pageSize(text)
		if !ok || !known {
			continue
		}
		limit, limited, err := r.lowest(h, name)
		r.note(err)
		if limited {
			r.inv.HugePageLimits = append(r.inv.HugePageLimits, inventory.HugePageLimit{Size: size, Max: limit})
		}
	}
	slices.SortFunc(r.inv.HugePageLimits, func(a, b inventory.HugePageLimit) int { return cmp.Compare(a.Size, b.Size) })
}

func pageSize(text string) (nodeconfig.Size, bool) {
	for unit, shift := range map[string]int{"KB": 10, "MB": 20, "GB": 30} {
		if digits, ok := strings.CutSuffix(text, unit); ok {
			v, err := strconv.ParseUint(digits, 10, 16)
			return nodeconfig.Size(v << shift), err == nil
		}
	}
	return 0, false
}
