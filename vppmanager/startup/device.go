package startup

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
)

// Vendors of the PCI bus.
const (
	intel    = "8086"
	mellanox = "15b3"
)

// dpdkDevices are the devices that VPP's dpdk plugin takes, by vendor and a range of
// devices (VPP 25.10, plugins/dpdk/device/init.c), less those whose drivers its build of
// DPDK leaves out. Intel's stand in dpdkKnows, Broadcom's in netXtreme.
var dpdkDevices = []struct {
	vendor   string
	from, to uint64
}{
	{"1af4", 0x1000, 0x1000},                                                     // virtio-net, transitional
	{"1af4", 0x1041, 0x1041},                                                     // virtio-net
	{"15ad", 0x07b0, 0x07b0},                                                     // vmxnet3
	{"1137", 0x0043, 0x0043}, {"1137", 0x0071, 0x0071}, {"1137", 0x02b7, 0x02b7}, // Cisco VIC
	{"1425", 0x4000, 0x5fff}, // Chelsio T4, T5
	{"1d0f", 0xec20, 0xec21}, // Amazon ENA
	{"1077", 0x8070, 0x8090}, // QLogic FastLinQ
	{"1ae0", 0x0042, 0x0042}, // Google gVNIC
}

// netXtreme are Broadcom devices above 16c0 that are not of the C, S and E series.
var netXtreme = []uint64{0x16c6, 0x16c7, 0x16dd, 0x16f7, 0x16fd, 0x16fe, 0x170d, 0x170c, 0x170e, 0x1712, 0x1713}

func dpdkKnows(d inventory.PCIDevice) bool {
	id, err := strconv.ParseUint(d.Device, 16, 16)
	if err != nil {
		return false
	}
	switch d.Vendor {
	case intel:
		return true
	case "14e4":
		return id >= 0x16c0 && !slices.Contains(netXtreme, id) || slices.Contains([]uint64{0x1604, 0x1605, 0x1606, 0x1609, 0x1614}, id)
	}
	for _, k := range dpdkDevices {
		if k.vendor == d.Vendor && k.from <= id && id <= k.to {
			return true
		}
	}
	return false
}

func isVirtio(d inventory.PCIDevice) bool {
	return d.Vendor == "1af4" && (d.Device == "1000" || d.Device == "1041")
}

// device finds the PCI device under a NIC that can be taken from the kernel, or says why
// there is none.
func (j judge) device(nic inventory.NIC) (d inventory.PCIDevice, why string) {
	var pf inventory.PCIDevice
	switch {
	case nic.Kind == "vlan":
		return d, "a VLAN has no device of its own: name the link below it"
	case nic.Kind != "":
		return d, "a " + nic.Kind + " is no PCI device"
	case nic.Port != "":
		return d, "it is port " + nic.Port + " of a device that has other links too, which would go with it"
	case nic.PCI == "":
		return d, "not a PCI device"
	}
	d, found := j.node.Device(nic.PCI)
	if d.PF != "" {
		pf, _ = j.node.Device(d.PF)
	}
	switch {
	case !found:
		return d, "its PCI device " + nic.PCI + " is not listed"
	case !strings.HasPrefix(d.Class, "0200"):
		return d, fmt.Sprintf("its PCI device %s is no Ethernet controller (class %s)", nic.PCI, d.Class)
	case d.VFs > 0:
		return d, fmt.Sprintf("it has %d virtual functions, which stop with it: use one of them, or remove them (echo 0 > /sys/bus/pci/devices/%s/sriov_numvfs)", d.VFs, nic.PCI)
	case pf.Driver == "vfio-pci":
		return d, fmt.Sprintf("its physical function %s is under vfio-pci, which asks for a token that VPP does not have: give that back to the kernel's driver", d.PF)
	}
	return d, ""
}

// hold says by which driver of the kernel a device can be handed to a process.
func (j judge) hold(d inventory.PCIDevice) (by nodeconfig.PCIDriver, works bool, why string) {
	vfio, vfioWhy := j.vfio(d)
	uio, uioWhy := j.uio(d)
	switch {
	case j.cfg.PCIDriver != nodeconfig.PCIDriverUIO && vfio:
		return nodeconfig.PCIDriverVFIO, true, vfioWhy
	case j.cfg.PCIDriver == nodeconfig.PCIDriverVFIO:
		return "", false, vfioWhy
	case uio:
		return nodeconfig.PCIDriverUIO, true, uioWhy
	case j.cfg.PCIDriver == nodeconfig.PCIDriverUIO:
		return "", false, uioWhy
	case vfioWhy == uioWhy:
		return "", false, vfioWhy
	case j.node.Module("vfio_pci") == inventory.ModuleMissing && j.node.Module("uio_pci_generic") == inventory.ModuleMissing:
		return "", false, "the kernel has neither vfio-pci nor uio_pci_generic: install one with all modules (on Debian one without -cloud)"
	}
	return "", false, fmt.Sprintf("vfio-pci: %s; uio_pci_generic: %s", vfioWhy, uioWhy)
}

// vfio judges vfio-pci.
func (j judge) vfio(d inventory.PCIDevice) (works bool, why string) {
	if missing := j.missing("vfio_pci"); missing != "" {
		return false, missing
	}
	if !j.node.VFIO.Missing && j.node.VFIO.Problem != "" {
		return false, fmt.Sprintf("%v: let this process use the device", j.node.VFIO)
	}
	switch {
	case j.node.IOMMU.On && d.IOMMUGroup >= 0:
		if shared := j.strangers(d); len(shared) > 0 {
			return false, fmt.Sprintf("IOMMU group %d also has %s, which would have to be given up with it", d.IOMMUGroup, strings.Join(shared, ", "))
		}
		return true, fmt.Sprintf("vfio-pci, IOMMU group %d", d.IOMMUGroup)
	case !j.cfg.AllowNoIOMMU && j.node.IOMMU.NoIOMMU:
		return false, notAllowed
	case j.cfg.AllowNoIOMMU && (j.node.IOMMU.NoIOMMU || j.cfg.PCIDriver == nodeconfig.PCIDriverVFIO):
		return true, "vfio-pci without IOMMU (" + noIOMMUMode + ")"
	case j.cfg.AllowNoIOMMU:
		return false, "there is no IOMMU, and " + noIOMMUMode + " is not on: vpp.pciDriver: vfio-pci switches it on, if this kernel has it"
	}
	return false, noIOMMU
}

// noIOMMUMode is the parameter by which vfio does without IOMMU. Whether a kernel has it
// (CONFIG_VFIO_NOIOMMU) shows only when vfio is loaded, so auto does not try.
const noIOMMUMode = "enable_unsafe_noiommu_mode"

const (
	noIOMMU    = "there is no IOMMU: switch it on (BIOS, intel_iommu=on)"
	notAllowed = "there is no IOMMU: switch it on (BIOS, intel_iommu=on), or set vpp.allowNoIOMMU: true, by which the NIC can write to all memory"
)

// uio judges uio_pci_generic.
func (j judge) uio(d inventory.PCIDevice) (works bool, why string) {
	if missing := j.missing("uio_pci_generic"); missing != "" {
		return false, missing
	}
	switch {
	case j.node.IOMMU.On && d.IOMMUGroup >= 0 && !j.node.IOMMU.Passthrough:
		return false, "the IOMMU blocks devices that vfio-pci does not drive: use vfio-pci, or start the kernel with iommu=pt"
	case d.PF != "" || d.NoIRQ:
		return false, "the device has no line interrupt (INTx), which uio_pci_generic needs"
	case j.node.Lockdown != "":
		return false, "the kernel is locked down (" + j.node.Lockdown + "), which keeps uio_pci_generic from the device"
	case !j.cfg.AllowNoIOMMU:
		return false, notAllowed
	}
	return true, "uio_pci_generic without IOMMU, as vpp.allowNoIOMMU says"
}

// strangers are the devices of the same IOMMU group that are neither bridges nor taken by
// the plan.
func (j judge) strangers(d inventory.PCIDevice) []string {
	var list []string
	for _, o := range j.node.Devices {
		if o.IOMMUGroup != d.IOMMUGroup || o.Address == d.Address || strings.HasPrefix(o.Class, "06") || slices.Contains(j.mine, o.Address) {
			continue
		}
		if o.Driver == "" || o.Driver == "pci-stub" {
			continue // nobody uses it, and the kernel lets such be (vfio: "viable")
		}
		list = append(list, nameDevice(o))
	}
	return list
}

// nameDevice is an address with what stands on it: 0000:03:00.1 (eth1).
func nameDevice(d inventory.PCIDevice) string {
	switch {
	case len(d.Interfaces) > 0:
		return d.Address + " (" + strings.Join(d.Interfaces, ", ") + ")"
	case d.Driver != "":
		return d.Address + " (" + d.Driver + ")"
	}
	return d.Address
}

// missing names the first of the modules that cannot be had; "" when all can.
func (j judge) missing(names ...string) string {
	for _, name := range names {
		switch state := j.node.Module(name); {
		case state == inventory.ModuleAvailable && j.node.ModulesLocked:
			return fmt.Sprintf("the module %s is not loaded, and kernel.modules_disabled forbids to load any: load it at boot (/etc/modules-load.d)", name)
		case state == inventory.ModuleMissing:
			return fmt.Sprintf("the kernel has no module %s: install a kernel with all modules (on Debian one without -cloud)", name)
		}
	}
	return ""
}

// plugin says whether VPP has a plugin; when the plugins are not known it is assumed.
func (j judge) plugin(name string) bool {
	return len(j.node.Plugins) == 0 || slices.Contains(j.node.Plugins, name)
}

func (j judge) noPlugin(name string) string {
	pkg := "vpp-plugin-core"
	if name == "dpdk" {
		pkg = "vpp-plugin-dpdk"
	}
	return fmt.Sprintf("this VPP (%s) has no %s plugin: install it (%s)", j.node.VPP.Path, name, pkg)
}
