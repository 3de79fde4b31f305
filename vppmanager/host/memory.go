package host

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
)

func (r *reading) memory() error {
	fields, err := r.fields("/proc/meminfo")
	if err != nil {
		return err
	}
	for name, into := range map[string]*nodeconfig.Size{
		"MemTotal": &r.inv.MemoryTotal, "MemAvailable": &r.inv.MemoryAvailable, "Hugepagesize": &r.inv.HugePageSize,
	} {
		text, given := fields[name]
		if !given && name != "MemAvailable" { // a kernel without huge pages
			continue
		}
		if *into, err = kilobytes(text); err != nil {
			return fmt.Errorf("read %s in /proc/meminfo: %w", name, err)
		}
	}
	return nil
}

// numa reads the memory nodes; a kernel without NUMA counts as one.
func (r *reading) numa() error {
	ids, err := r.memoryNodes()
	if err != nil {
		return err
	}
	for _, id := range ids {
		dir := fmt.Sprintf("%s/node%d", nodeDir, id)
		node, err := r.memoryNode(id, dir+"/hugepages")
		if err != nil {
			return err
		}
		r.note(r.free(&node, dir+"/meminfo", fmt.Sprintf("Node %d MemFree", id)))
		r.inv.NUMA = append(r.inv.NUMA, node)
	}
	if len(ids) == 0 {
		node, err := r.memoryNode(0, "/sys/kernel/mm/hugepages")
		if err != nil {
			return err
		}
		r.note(r.free(&node, "/proc/meminfo", "MemFree"))
		r.inv.NUMA = []inventory.NUMANode{node}
	}
	return nil
}

// free reads the unused memory of a node, where the kernel tells it.
func (r *reading) free(node *inventory.NUMANode, file, field string) error {
	if !r.exists(file) {
		return nil
	}
	fields, err := r.fields(file)
	if err != nil {
		return err
	}
	if node.MemoryFree, err = kilobytes(fields[field]); err != nil {
		return fmt.Errorf("read %s in %s: %w", field, file, err)
	}
	return nil
}

var hugePagesName = regexp.MustCompile(`^hugepages-([0-9]{1,12})kB$`)

// memoryNode reads the huge pages of each size in one directory.
func (r *reading) memoryNode(id int, dir string) (inventory.NUMANode, error) {
	node := inventory.NUMANode{ID: id}
	names, err := r.names(dir)
	if err != nil {
		return node, err
	}
	for _, name := range names {
		m := hugePagesName.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		kb, _ := strconv.ParseUint(m[1], 10, 64) // digits, few enough
		pages := inventory.HugePages{Size: nodeconfig.Size(kb << 10)}
		if pages.Total, err = r.number(dir + "/" + name + "/nr_hugepages"); err != nil {
			return node, err
		}
		if pages.Free, err = r.number(dir + "/" + name + "/free_hugepages"); err != nil {
			return node, err
		}
		if pages.Size == r.inv.HugePageSize {
			node.HugePagesFree = pages.Free
		}
		node.Pages = append(node.Pages, pages)
	}
	slices.SortFunc(node.Pages, func(a, b inventory.HugePages) int { return cmp.Compare(a.Size, b.Size) })
	return node, nil
}
