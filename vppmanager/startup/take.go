package startup

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
)

// taken is a NIC that the plan takes, with what was decided about it.
type taken struct {
	at      string // where it stands in the configuration: uplinks[0]
	want    nodeconfig.Uplink
	nic     inventory.NIC
	members []inventory.NIC // of a bond
	vlans   []inventory.NIC // on it, by name
	aside   []string        // other names for the NIC and its vlans, when the host's links get theirs
	share   bool            // it stays the kernel's
	choice  DriverChoice
	others  []DriverChoice // what was not chosen
}

// byPCI says whether the NIC goes from the kernel to the dataplane's process.
func (t taken) byPCI() bool { return t.choice.PCIDriver != "" }

// apart says whether the NIC is a bond that the dataplane makes anew from the members.
// Sockets are put onto the kernel's bond instead.
func (t taken) apart() bool {
	return t.nic.Kind == "bond" && t.choice.Driver != nodeconfig.DriverAFPacket && t.choice.Driver != nodeconfig.DriverAFXDP
}

// standIns are the VLANs that become the dataplane's with the NIC.
func (t taken) standIns() []inventory.NIC {
	if t.share {
		return nil
	}
	return t.vlans
}

// devices are the NICs that a driver is used on: the NIC itself, or the members of a bond.
func (t taken) devices() []inventory.NIC {
	if t.apart() {
		return t.members
	}
	return []inventory.NIC{t.nic}
}

// host is the name of the link that the host has afterwards; "" = none.
func (t taken) host() string {
	if t.want.NoHostTap || t.share {
		return ""
	}
	return t.nic.Name
}

// take finds the NICs that the configuration names, refuses those that cannot be had, and
// chooses their drivers. Every refusal is in the error; then nothing is taken.
func take(inv inventory.Node, cfg nodeconfig.Config, which nodeconfig.Dataplane) ([]taken, error) {
	var list []taken
	var errs []error
	for i, want := range cfg.Uplinks {
		t, err := find(inv, want)
		if err != nil {
			errs = append(errs, fmt.Errorf("uplinks[%d]%w", i, err))
			continue
		}
		t.at = fmt.Sprintf("uplinks[%d]", i)
		if err := t.decide(judge{node: inv, engine: which == nodeconfig.UseEngine}); err != nil {
			errs = append(errs, err)
			continue
		}
		list = append(list, t)
	}
	errs = append(errs, checkTwice(list)...)
	for _, t := range list {
		if t.share {
			continue // what stands on it stays
		}
		errs = append(errs, checkOnTop(inv, t)...)
		errs = append(errs, checkDevices(inv, t)...)
		errs = append(errs, checkWayOut(inv, list, t)...)
	}
	list, choiceErrs := chooseDrivers(inv, cfg, which, list)
	if err := errors.Join(append(errs, choiceErrs...)...); err != nil {
		return nil, err
	}
	nameAside(inv, list)
	return list, checkGroups(inv, list)
}

// find returns the NIC that an uplink names. Its error goes on after the uplink's path.
func find(inv inventory.Node, want nodeconfig.Uplink) (taken, error) {
	t := taken{want: want}
	nic, found := inv.NIC(want.Name())
	if want.PCI != "" && !found {
		d, listed := inv.Device(want.PCI)
		if !listed {
			return t, fmt.Errorf(".pci: there is no device %s; NICs of this node: %s", want.PCI, nameNICs(inv))
		}
		nic = inventory.NIC{PCI: d.Address, Driver: d.Driver}
	} else if !found {
		return t, fmt.Errorf(".interface: there is no NIC %s; NICs of this node: %s", want.Interface, nameNICs(inv))
	}
	t.nic = nic
	if nic.Bond != nil {
		for _, name := range nic.Bond.Members {
			if m, found := inv.NIC(name); found {
				t.members = append(t.members, m)
			}
		}
	}
	for _, v := range inv.NICs {
		if v.VLAN != nil && v.VLAN.Parent == nic.Name && nic.Name != "" {
			t.vlans = append(t.vlans, v)
		}
	}
	return t, nil
}

// nameNICs lists what could be named instead.
func nameNICs(inv inventory.Node) string {
	var names []string
	for _, nic := range inv.NICs {
		names = append(names, nameNIC(nic))
	}
	if len(names) == 0 && len(inv.Unread) > 0 {
		return "none could be read (" + strings.Join(inv.Unread, "; ") + ")"
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func nameNIC(nic inventory.NIC) string {
	switch {
	case nic.Name == "":
		return nic.PCI
	case nic.PCI != "":
		return nic.Name + " (" + nic.PCI + ")"
	}
	return nic.Name
}

// checkTwice refuses two uplinks on one NIC: by two names of it, a bond and its member, a
// VLAN and what it lies on.
func checkTwice(list []taken) []error {
	var errs []error
	owner := map[string]string{} // by a kernel name or PCI address that is used up
	for _, t := range list {
		uses := []inventory.NIC{t.nic}
		uses = append(append(uses, t.members...), t.vlans...)
		for _, nic := range uses {
			for _, key := range []string{nic.Name, nic.PCI} {
				first, used := owner[key]
				if key == "" || used && first == t.at {
					continue
				}
				if used {
					errs = append(errs, fmt.Errorf("%s: %s is a part of %s already: one uplink has all of a NIC", t.at, nameNIC(nic), first))
					break
				}
				owner[key] = t.at
			}
		}
	}
	return errs
}

// chooseDrivers takes for each NIC the driver that is asked for, or the first that works.
// IOMMU groups make one choice depend on the others: a device can go to the process when
// all devices of its group do, so choices are made again until they hold.
func chooseDrivers(inv inventory.Node, cfg nodeconfig.Config, which nodeconfig.Dataplane, list []taken) ([]taken, []error) {
	var mine []string
	for _, t := range list {
		for _, d := range t.devices() {
			mine = append(mine, d.PCI)
		}
	}
	for {
		var errs []error
		var still []string
		for i := range list {
			j := judge{node: inv, cfg: cfg.VPP, mine: mine, engine: which == nodeconfig.UseEngine}
			if err := list[i].choose(j); err != nil {
				errs = append(errs, err)
			}
			if list[i].byPCI() {
				for _, d := range list[i].devices() {
					still = append(still, d.PCI)
				}
			}
		}
		if len(errs) > 0 || len(still) == len(mine) {
			return list, errs
		}
		mine = still
	}
}

func (t *taken) choose(j judge) error {
	if why := j.programmed(t.nic); why != "" {
		return fmt.Errorf("%s: %s", t.at, why)
	}
	if t.share {
		return nil
	}
	choices := j.drivers(t.nic)
	i := slices.IndexFunc(choices, func(c DriverChoice) bool {
		if t.want.Driver == nodeconfig.DriverAuto {
			return c.Works
		}
		return c.Driver == t.want.Driver
	})
	if i < 0 {
		var why strings.Builder
		for _, c := range choices {
			fmt.Fprintf(&why, "\n  %s: %s", c.Driver, c.Why)
		}
		return fmt.Errorf("%s: no driver works for %s:%s", t.at, nameNIC(t.nic), why.String())
	}
	if !choices[i].Works {
		return fmt.Errorf("%s.driver: %s does not work for %s: %s", t.at, t.want.Driver, nameNIC(t.nic), choices[i].Why)
	}
	t.choice = choices[i]
	t.others = slices.Delete(choices, i, i+1)
	return nil
}

// nameAside finds names for links that stay: p-eth0 for eth0, in 15 bytes and such as no
// other link has.
func nameAside(inv inventory.Node, list []taken) {
	used := map[string]bool{}
	for _, nic := range inv.NICs {
		used[nic.Name] = true
		for _, alt := range nic.AltNames {
			used[alt] = true
		}
	}
	const most = 15 // IFNAMSIZ
	for i := range list {
		for _, nic := range append([]inventory.NIC{list[i].nic}, list[i].vlans...) {
			name := "p-" + nic.Name
			name = name[:min(len(name), most)]
			for n := 2; used[name]; n++ {
				tail := fmt.Sprintf("-%d", n)
				name = name[:min(len("p-"+nic.Name), most-len(tail))] + tail
			}
			used[name] = true
			list[i].aside = append(list[i].aside, name)
		}
	}
}

// checkGroups refuses one IOMMU group under two drivers of VPP: each opens groups by
// itself, and a group can be opened once.
func checkGroups(inv inventory.Node, list []taken) error {
	type user struct {
		at     string
		driver nodeconfig.Driver
	}
	users := map[int]user{}
	var errs []error
	for _, t := range list {
		for _, nic := range t.devices() {
			d, found := inv.Device(nic.PCI)
			if !found || !t.byPCI() || d.IOMMUGroup < 0 {
				continue
			}
			first, used := users[d.IOMMUGroup]
			if used && (first.driver == nodeconfig.DriverDPDK) != (t.choice.Driver == nodeconfig.DriverDPDK) {
				errs = append(errs, fmt.Errorf("%s: %s is in IOMMU group %d with %s, so both need the same driver, not %s and %s",
					t.at, nameNIC(nic), d.IOMMUGroup, first.at, t.choice.Driver, first.driver))
			}
			users[d.IOMMUGroup] = user{t.at, t.choice.Driver}
		}
	}
	return errors.Join(errs...)
}
