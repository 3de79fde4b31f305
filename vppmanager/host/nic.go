package host

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/millrace/millrace/vppmanager/inventory"
)

// nics joins what rtnetlink, ethtool and sysfs say about links, and adds the PCI NICs that
// have none.
func (r *reading) nics() {
	if r.Kernel != nil {
		links, err := r.Kernel.Links()
		r.note(err)
		r.inv.Rules = links.Rules
		for _, l := range links.Links {
			r.inv.NICs = append(r.inv.NICs, r.nic(l))
		}
	}
	r.linkDevices()
	for _, d := range r.inv.Devices {
		if strings.HasPrefix(d.Class, "02") && len(d.Interfaces) == 0 {
			r.inv.NICs = append(r.inv.NICs, inventory.NIC{PCI: d.Address, Bus: "pci", Driver: d.Driver})
		}
	}
	slices.SortFunc(r.inv.NICs, func(a, b inventory.NIC) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.PCI, b.PCI))
	})
}

// nic is one link: rtnetlink's part, then the driver's, then sysfs's.
func (r *reading) nic(l Link) inventory.NIC {
	n := l.NIC
	e, err := r.Kernel.Ethtool(n.Name)
	r.note(err)
	n.Driver, n.Permanent = e.Driver, cmp.Or(e.Permanent, n.Permanent)
	n.Speed, n.Offloads = e.Speed, e.Offloads
	n.RxQueues, n.TxQueues, n.MaxQueues = e.RxQueues, e.TxQueues, e.MaxQueues
	n.RxRing, n.TxRing, n.MaxRxRing, n.MaxTxRing = e.RxRing, e.TxRing, e.MaxRxRing, e.MaxTxRing
	device, shown := r.deviceOf(l)
	if device != "" {
		r.place(&n, device)
	}
	if !shown {
		return n
	}
	dir := "/sys/class/net/" + n.Name
	n.Wireless = r.exists(dir+"/phy80211") || r.exists(dir+"/wireless")
	port, err := r.portName(dir)
	r.note(err)
	switch {
	case representor.MatchString(port):
		n.Port, n.PCI = port, "" // what is done to the device would hit all its ports
	case r.ports(n.PCI) > 1:
		n.Port = cmp.Or(port, n.Name)
	}
	return n
}

// representor is the name of a port that stands for a VF or a subfunction.
var representor = regexp.MustCompile(`^(c[0-9]+)?pf[0-9]+(vf|sf)[0-9]+$`)

// portName is phys_port_name; drivers without one refuse the reading.
func (r *reading) portName(dir string) (string, error) {
	name, err := r.word(dir + "/phys_port_name")
	if unsupported(err) {
		return "", nil
	}
	return name, err
}

// ports counts the links on a PCI device.
func (r *reading) ports(address string) int {
	d, _ := r.inv.Device(address)
	return len(d.Interfaces)
}

// deviceOf finds the directory of the device behind a link, as seen below Root, and says
// whether sysfs shows this link. It shows those of the network namespace it was mounted
// in, which need not be ours: then only rtnetlink's word on the device helps.
func (r *reading) deviceOf(l Link) (device string, shown bool) {
	dir := "/sys/class/net/" + l.Name
	index, err := r.numberOr(dir+"/ifindex", -1)
	r.note(err)
	mac, err := r.word(dir + "/address")
	r.note(err)
	shown = index == l.Index && (mac == "" || mac == l.MAC)
	at := ""
	switch {
	case l.Parent != "" && filepath.IsLocal(l.Parent) && filepath.IsLocal(l.Bus):
		at = "/sys/bus/" + l.Bus + "/devices/" + l.Parent
	case shown:
		at = dir + "/device"
	}
	if at == "" || !r.exists(at) {
		return "", shown
	}
	real, err := filepath.EvalSymlinks(r.path(at))
	if err != nil {
		r.note(fmt.Errorf("follow %s: %w", at, cause(err)))
		return "", shown
	}
	return real, shown
}

// place says on which bus the device sits, and for PCI, where. A virtio device is the
// whole of the PCI device above it; a port of an auxiliary device is not.
func (r *reading) place(n *inventory.NIC, device string) {
	if bus, err := filepath.EvalSymlinks(filepath.Join(device, "subsystem")); err == nil {
		n.Bus = filepath.Base(bus)
	}
	at := device
	if n.Bus == "virtio" {
		at = filepath.Dir(device)
	}
	if name := filepath.Base(at); (n.Bus == "pci" || n.Bus == "virtio") && pciAddress.MatchString(name) {
		n.PCI = name
	}
}

// linkDevices names the links of each PCI device that sysfs could not show.
func (r *reading) linkDevices() {
	for i := range r.inv.Devices {
		d := &r.inv.Devices[i]
		for _, n := range r.inv.NICs {
			if n.PCI == d.Address {
				d.Interfaces = append(d.Interfaces, n.Name)
			}
		}
		if len(d.Interfaces) > 0 {
			d.Interfaces = sorted(d.Interfaces)
		}
	}
}
