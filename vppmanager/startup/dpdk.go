package startup

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
)

// driverPlugins are the plugins that the uplinks' drivers and bonds come with.
func driverPlugins(ups []Uplink) []string {
	var names []string
	for _, u := range ups {
		switch u.Driver {
		case nodeconfig.DriverDPDK, nodeconfig.DriverAVF, nodeconfig.DriverRDMA:
			names = append(names, string(u.Driver))
		}
		if u.Bond != nil && u.Bond.Mode == "802.3ad" {
			names = append(names, "lacp")
		}
	}
	return names
}

// checkPlugins finds plugins that the uplinks need and this VPP does not have.
func checkPlugins(inv inventory.Node, ups []Uplink) error {
	var errs []error
	for _, name := range driverPlugins(ups) {
		if j := (judge{node: inv}); !j.plugin(name) {
			errs = append(errs, errors.New(j.noPlugin(name)))
		}
	}
	return errors.Join(errs...)
}

// dpdkSection lists the devices of the dpdk plugin; none when there is none, and then the
// plugin is not loaded.
//
// A list of devices is what keeps the plugin off all others: with one it hands only these
// to DPDK (-a), without one it takes every NIC that is down (dpdk/device/init.c). They are
// bound by then, so it binds nothing; uio-driver names the driver all the same, because
// the plugin's own choice would switch on vfio's mode without IOMMU.
func dpdkSection(list []taken, ups []Uplink) []string {
	var lines []string
	var by []string
	for i, u := range ups {
		if u.Driver != nodeconfig.DriverDPDK {
			continue
		}
		devices := []Uplink{u}
		if u.Bond != nil {
			devices = u.Members
		}
		for _, d := range devices {
			lines = append(lines, fmt.Sprintf("dev %s { %s }", d.PCI, strings.Join(devOptions(d), " ")))
		}
		by = append(by, string(list[i].choice.PCIDriver))
	}
	if len(lines) == 0 {
		return nil
	}
	lines = append(lines, "uio-driver "+by[0])
	if slices.Contains(by, string(nodeconfig.PCIDriverUIO)) {
		// Without IOMMU a device reads and writes physical addresses. Under vfio-pci DPDK
		// looks itself at how wide addresses the IOMMU takes.
		lines = append(lines, "iova-mode pa")
	}
	return lines
}

// devOptions are in the order in which VPP's own documentation has them.
func devOptions(d Uplink) []string {
	options := []string{
		"name " + d.Name,
		fmt.Sprintf("num-rx-queues %d", d.RxQueues), fmt.Sprintf("num-tx-queues %d", d.TxQueues),
		fmt.Sprintf("num-rx-desc %d", d.RxRing), fmt.Sprintf("num-tx-desc %d", d.TxRing),
	}
	if len(d.Workers) > 0 {
		options = append(options, "workers "+ranges(d.Workers))
	}
	return options
}
