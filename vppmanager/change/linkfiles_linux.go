package change

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// linkDirs are where a link has settings as files; * stands for its name.
func linkDirs() []string {
	return []string{
		"proc/sys/net/ipv4/conf/*", "proc/sys/net/ipv4/neigh/*", "proc/sys/net/ipv6/conf/*", "proc/sys/net/ipv6/neigh/*",
		"proc/sys/net/mpls/conf/*",
	}
}

// linkAttributes are those of sysfs that netlink does not know. They belong to the
// hardware.
func linkAttributes() []string {
	return []string{
		"sys/class/net/*/gro_flush_timeout", "sys/class/net/*/napi_defer_hard_irqs", "sys/class/net/*/threaded",
		"sys/class/net/*/queues/?x-*/rps_cpus", "sys/class/net/*/queues/?x-*/rps_flow_cnt",
		"sys/class/net/*/queues/?x-*/xps_cpus", "sys/class/net/*/queues/?x-*/xps_rxqs",
	}
}

// checkFile lets in what readFiles finds.
func checkFile(name string) error {
	ok := path.Clean(name) == name
	if ok {
		ok = slices.ContainsFunc(linkDirs(), func(dir string) bool { return path.Dir(name) == dir }) ||
			slices.ContainsFunc(linkAttributes(), func(a string) bool {
				match, err := path.Match(strings.Replace(a, "*", `\*`, 1), name)
				return match && err == nil
			})
	}
	if !ok {
		return fmt.Errorf("file %q: no setting of a link", name)
	}
	return nil
}

// readFiles reads the settings that a link has as files and that can be written. One that
// has no value at this moment (stable_secret before it is used) answers with an error and
// is none.
func (h Host) readFiles(link string, own bool) (map[string]string, error) {
	patterns := []string{}
	for _, dir := range linkDirs() {
		patterns = append(patterns, dir+"/?*")
	}
	if own {
		patterns = append(patterns, linkAttributes()...)
	}
	all := map[string]string{}
	for _, pattern := range patterns {
		before, after, _ := strings.Cut(pattern, "*")
		paths, err := filepath.Glob(h.path(before + link + after))
		if err != nil {
			return nil, err
		}
		for _, p := range paths {
			info, err := os.Stat(p)
			if err != nil || !info.Mode().IsRegular() || info.Mode()&0o200 == 0 {
				continue
			}
			rel, err := filepath.Rel(h.Root, p)
			if err != nil {
				return nil, err
			}
			if value, err := h.read(rel); err == nil {
				all[before+"*"+strings.TrimPrefix(rel, before+link)] = value
			}
		}
	}
	return all, nil
}

// writeFiles writes those of a link that are others now. What the kernel refuses is told:
// some depend on what the driver can do.
func (h Host) writeFiles(link string, files map[string]string, own bool) {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasPrefix(name, "sys/") && !own {
			continue
		}
		value, at := files[name], strings.Replace(name, "*", link, 1)
		now, err := h.read(at)
		if errors.Is(err, fs.ErrNotExist) || err == nil && now == value {
			continue
		}
		if err := h.write(value, at); err != nil {
			h.tell("%s could not be set to %q again: %v", at, value, err)
		}
	}
}
