package host

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/millrace/millrace/vppmanager/inventory"
)

// driverModules are those that userspace drivers and taps need, as modprobe is asked for
// them.
func driverModules() []string {
	return []string{
		"af_packet", "ib_uverbs", "igb_uio", "mlx4_ib", "mlx5_ib", "tun", "uio", "uio_pci_generic",
		"vfio", "vfio-pci", "vfio_iommu_type1", "vhost_net",
	}
}

// modules reads how each of them can be had. A module that is in use may be part of the
// kernel without being listed: what it registered shows it.
func (r *reading) modules() {
	loaded, err := r.firstWords("/proc/modules", " ")
	r.note(err)
	dir := "/lib/modules/" + r.inv.Kernel
	builtin, err := r.firstWords(dir+"/modules.builtin", "\n")
	r.note(err)
	available, err := r.firstWords(dir+"/modules.dep", ":")
	r.note(err)
	if available == nil && r.inv.Kernel != "" {
		r.note(fmt.Errorf("read %s/modules.dep: it is not there: no module can be loaded from here", dir))
	}
	misc, _ := r.miscDevices() // its error is noted with the devices
	for _, name := range driverModules() {
		key := strings.ReplaceAll(name, "-", "_")
		state := inventory.ModuleMissing
		switch {
		case loaded[key]:
			state = inventory.ModuleLoaded
		case builtin[key], r.registered(name, misc):
			state = inventory.ModuleBuiltin
		case available[key]:
			state = inventory.ModuleAvailable
		}
		r.inv.Modules = append(r.inv.Modules, inventory.Module{Name: name, State: state})
	}
	locked, err := r.number("/proc/sys/kernel/modules_disabled")
	r.inv.ModulesLocked = noted(r, locked != 0, err)
	lockdown, err := r.word("/sys/kernel/security/lockdown")
	r.note(err)
	if _, rest, found := strings.Cut(lockdown, "["); found {
		if mode, _, _ := strings.Cut(rest, "]"); mode != "none" {
			r.inv.Lockdown = mode
		}
	}
}

// registered says whether the kernel shows something that only this module can have made.
func (r *reading) registered(name string, misc map[string]bool) bool {
	key := strings.ReplaceAll(name, "-", "_")
	switch key {
	case "tun", "vfio":
		if misc[key] {
			return true
		}
	case "vhost_net":
		if misc["vhost-net"] {
			return true
		}
	case "af_packet":
		if r.exists("/proc/thread-self/net/packet") {
			return true
		}
	}
	return r.exists("/sys/module/"+key) || r.exists("/sys/bus/pci/drivers/"+name)
}

// firstWords reads the names of modules at the starts of lines: what stands before the
// separator, without directory and ".ko" with what follows. nil when the file is missing.
func (n Node) firstWords(file, separator string) (map[string]bool, error) {
	data, err := n.read(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	words := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		word, _, _ := strings.Cut(line, separator)
		word, _, _ = strings.Cut(path.Base(strings.TrimSpace(word)), ".ko")
		words[strings.ReplaceAll(word, "-", "_")] = true
	}
	return words, nil
}

// sorted is a copy in order, without repetitions.
func sorted(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return slices.Compact(out)
}
