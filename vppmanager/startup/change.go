package startup

import (
	"fmt"
	"strings"

	"github.com/millrace/millrace/internal/nodeconfig"
)

// Change is one change of the host, small enough to be done and undone as a whole. It says
// what to reach. How it was before is found out when it is carried out (package change),
// and written to the journal first.
type Change struct {
	Kind     ChangeKind      `json:"kind"`
	Module   string          `json:"module,omitempty"`   // of LoadModule
	NUMA     int             `json:"numa,omitempty"`     // of AddHugePages
	PageSize nodeconfig.Size `json:"pageSize,omitempty"` // of AddHugePages
	Pages    int             `json:"pages,omitempty"`    // of AddHugePages: how many more there shall be
	PCI      string          `json:"pci,omitempty"`      // of OverrideDriver, Unbind, Probe
	Driver   string          `json:"driver,omitempty"`   // of OverrideDriver; of Probe: which one has to take the device
	Link     string          `json:"link,omitempty"`     // kernel name when the change is carried out
	Name     string          `json:"name,omitempty"`     // of RenameLink: the new name
	Path     string          `json:"path,omitempty"`     // of SetSysctl: below /proc/sys, or a parameter of a module below /sys/module
	Value    string          `json:"value,omitempty"`    // of SetSysctl
	Why      string          `json:"why"`                // for a person
}

// ChangeKind is what a Change does, and with it how it is undone.
type ChangeKind string

// The kinds.
const (
	// LoadModule loads a kernel module. Undone by unloading it, when it was not there
	// before and nobody uses it.
	LoadModule ChangeKind = "load-module"
	// AddHugePages adds to the huge pages of a memory node. Undone by taking as many away.
	AddHugePages ChangeKind = "add-hugepages"
	// SaveLink records all settings of a link: addresses, routes, rules that name it,
	// permanent neighbours, MTU, flags, offloads, rings, queues, sysctls. It changes
	// nothing. Undone, after all that came later, by putting them back onto the link that
	// then stands for the device.
	SaveLink ChangeKind = "save-link"
	// ReleaseMember takes a link out of its bond. Undone by putting it back.
	ReleaseMember ChangeKind = "release-member"
	// LinkDown takes a link down. Undone by SaveLink's.
	LinkDown ChangeKind = "link-down"
	// RenameLink gives a link another name, so that the host's tap can have this one.
	RenameLink ChangeKind = "rename-link"
	// FlushLink removes the addresses of a link that stays with the kernel, and with them
	// its routes. Undone by SaveLink's.
	FlushLink ChangeKind = "flush-link"
	// SetSysctl writes a sysctl. Undone by writing the former value.
	SetSysctl ChangeKind = "set-sysctl"
	// OverrideDriver says which driver alone may take a PCI device (driver_override).
	OverrideDriver ChangeKind = "override-driver"
	// Unbind takes a PCI device from its driver. Undone by binding it to that driver.
	Unbind ChangeKind = "unbind"
	// Probe has the kernel look for a driver of a PCI device, now under the override.
	// Undone by taking the device from it.
	Probe ChangeKind = "probe"
	// HostTap announces the link through which the host reaches the network from here on;
	// the dataplane makes it. Undone by deleting it, if it is a tun or veth.
	HostTap ChangeKind = "host-tap"
	// XDPProgram announces that VPP attaches an XDP program to a link, which stays there
	// when VPP ends. Undone by detaching it, if it is VPP's.
	XDPProgram ChangeKind = "xdp-program"
)

// String is one line for the printed plan.
func (c Change) String() string {
	var b strings.Builder
	b.WriteString(string(c.Kind))
	switch c.Kind {
	case LoadModule:
		b.WriteString(" " + c.Module)
	case AddHugePages:
		fmt.Fprintf(&b, " %d of %v on NUMA node %d", c.Pages, c.PageSize, c.NUMA)
	case RenameLink:
		b.WriteString(" " + c.Link + " to " + c.Name)
	case SetSysctl:
		b.WriteString(" " + c.Path + " = " + c.Value)
	case OverrideDriver, Probe:
		b.WriteString(" " + c.PCI + " to " + c.Driver)
	case Unbind:
		b.WriteString(" " + c.PCI)
	default:
		b.WriteString(" " + c.Link)
	}
	if c.Why != "" {
		b.WriteString(": " + c.Why)
	}
	return b.String()
}
