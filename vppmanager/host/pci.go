package host

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/vppmanager/inventory"
)

const pciDir, groupDir = "/sys/bus/pci/devices", "/sys/kernel/iommu_groups"

var pciAddress = regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)

// devices reads the PCI bus and the IOMMU.
func (r *reading) devices() {
	names, err := r.names(pciDir)
	r.note(err)
	for _, address := range names {
		if !pciAddress.MatchString(address) {
			r.note(fmt.Errorf("list %s: %.40q is not a PCI address", pciDir, address))
			continue
		}
		r.inv.Devices = append(r.inv.Devices, r.pciDevice(address))
	}
	r.iommu()
}

// pciDevice reads one device. What cannot be read stays empty and is noted.
func (r *reading) pciDevice(address string) inventory.PCIDevice {
	dir := pciDir + "/" + address
	d := inventory.PCIDevice{
		Address: address,
		Vendor:  r.hex(dir+"/vendor", 4), Device: r.hex(dir+"/device", 4), Class: r.hex(dir+"/class", 6),
	}
	var err error
	d.Driver, err = r.base(dir + "/driver")
	r.note(err)
	d.Override, err = r.word(dir + "/driver_override")
	r.note(err)
	if d.Override == "(null)" {
		d.Override = ""
	}
	d.NUMA, err = r.numberOr(dir+"/numa_node", -1)
	r.note(err)
	d.PF, err = r.base(dir + "/physfn")
	r.note(err)
	d.VFs, err = r.number(dir + "/sriov_numvfs")
	r.note(err)
	d.MaxVFs, err = r.number(dir + "/sriov_totalvfs")
	r.note(err)
	irq, err := r.numberOr(dir+"/irq", -1)
	r.note(err)
	d.NoIRQ = irq == 0
	d.RDMA, err = r.names(dir + "/infiniband")
	r.note(err)
	d.Interfaces = r.interfaces(dir)
	d.IOMMUGroup, d.Domain = r.group(dir)
	d.User = r.user(d)
	return d
}

// hex reads 0x1af4 as 1af4.
func (r *reading) hex(file string, digits int) string {
	text, err := r.word(file)
	if err == nil && text == "" {
		err = fmt.Errorf("read %s: it is missing or empty", file)
	}
	text = strings.TrimPrefix(text, "0x")
	if _, bad := strconv.ParseUint(text, 16, 32); err == nil && (bad != nil || len(text) != digits) {
		err = fmt.Errorf("read %s: %.40q is not a number of %d hexadecimal digits", file, text, digits)
	}
	if err != nil {
		r.note(err)
		return ""
	}
	return strings.ToLower(text)
}

// interfaces are the links right on a device, and on its virtio device.
func (r *reading) interfaces(dir string) []string {
	links, err := r.names(dir + "/net")
	r.note(err)
	below, err := r.names(dir)
	r.note(err)
	for _, name := range below {
		if !strings.HasPrefix(name, "virtio") {
			continue
		}
		more, err := r.names(dir + "/" + name + "/net")
		r.note(err)
		links = append(links, more...)
	}
	if len(links) == 0 {
		return nil
	}
	return sorted(links)
}

// group reads the IOMMU group of a device and the group's domain. The groups that vfio
// makes up without an IOMMU are none.
func (r *reading) group(dir string) (int, string) {
	name, err := r.base(dir + "/iommu_group")
	if err != nil || name == "" {
		r.note(err)
		return -1, ""
	}
	id, err := strconv.Atoi(name)
	if err != nil || id < 0 {
		r.note(fmt.Errorf("read link %s/iommu_group: %.40q is not a group's number", dir, name))
		return -1, ""
	}
	if made, err := r.word(fmt.Sprintf("%s/%d/name", groupDir, id)); err != nil || made == "vfio-noiommu" {
		r.note(err)
		return -1, ""
	}
	domain, err := r.word(fmt.Sprintf("%s/%d/type", groupDir, id))
	return id, noted(r, domain, err)
}

// iommu draws the sum of the groups. Older kernels do not tell a group's domain; there the
// command line says what was asked for.
func (r *reading) iommu() {
	domains := map[string]bool{}
	for _, d := range r.inv.Devices {
		if d.IOMMUGroup >= 0 {
			r.inv.IOMMU.On = true
			domains[d.Domain] = true
		}
	}
	switch {
	case !r.inv.IOMMU.On:
	case domains[""]:
		line, err := r.word("/proc/cmdline")
		r.note(err)
		words := strings.Fields(line)
		r.inv.IOMMU.Passthrough = slices.Contains(words, "iommu=pt") || slices.Contains(words, "iommu.passthrough=1")
	default:
		r.inv.IOMMU.Passthrough = len(domains) == 1 && domains["identity"]
	}
	unsafe, err := r.word("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode")
	r.inv.IOMMU.NoIOMMU = noted(r, unsafe == "Y" || unsafe == "1", err)
}

// user finds who has the device open through vfio, uio or its own memory.
func (r *reading) user(d inventory.PCIDevice) string {
	dir := pciDir + "/" + d.Address
	files := map[string]bool{}
	if name, err := r.base(dir + "/iommu_group"); err == nil && name != "" && strings.HasPrefix(d.Driver, "vfio") {
		files["/dev/vfio/"+name] = true
		files["/dev/vfio/noiommu-"+name] = true
	}
	for _, kind := range []struct{ sub, dev string }{{"/vfio-dev", "/dev/vfio/devices/"}, {"/uio", "/dev/"}} {
		names, err := r.names(dir + kind.sub)
		r.note(err)
		for _, name := range names {
			files[kind.dev+name] = true
		}
	}
	var users []string
	for _, p := range r.processes {
		if slices.ContainsFunc(p.files, func(f string) bool { return files[f] || holdsResource(f, d.Address) }) {
			users = append(users, fmt.Sprintf("%s (pid %d)", p.name, p.pid))
		}
	}
	return strings.Join(users, ", ")
}

// holdsResource says whether an open file is a memory or port region of the device.
func holdsResource(file, address string) bool {
	_, rest, found := strings.Cut(file, "/"+address+"/")
	return found && strings.HasPrefix(rest, "resource")
}
