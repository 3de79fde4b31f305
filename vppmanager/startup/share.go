package startup

import (
	"fmt"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
)

// maxShareMTU is what fits into the buffer of an AF_XDP socket, in bytes: a page less the
// kernel's headroom of 256 and an Ethernet header with one tag.
const maxShareMTU = 4096 - 256 - 18

// decide says whose the NIC is to be.
func (t *taken) decide(j judge) error {
	why := j.unshared(t.nic)
	switch mode := t.want.Mode; {
	case mode == nodeconfig.ModeShare && why != "":
		return fmt.Errorf("%s.mode: %s cannot be shared: %s: set mode: own", t.at, nameNIC(t.nic), why)
	case mode == nodeconfig.ModeShare:
		t.shareBy("it was asked for")
	case mode == nodeconfig.ModeOwn, t.want.NoHostTap, t.want.Driver != nodeconfig.DriverAuto && t.want.Driver != nodeconfig.DriverAFXDP:
	case why == "":
		t.shareBy("auto: it can, and so the host is never cut off")
	}
	return nil
}

func (t *taken) shareBy(why string) {
	t.share = true
	t.choice = DriverChoice{Driver: nodeconfig.DriverAFXDP, Works: true, Why: why}
}

// unshared is why a NIC cannot be shared, or "". A program that is on it already refuses it
// in either mode (see programmed).
func (j judge) unshared(nic inventory.NIC) string {
	switch {
	case !j.engine:
		return "VPP 25.10 loads XDP programs from files, takes off what others have put there, and leaves its own on the NIC when it is killed: choose --dataplane engine"
	case nic.Name == "":
		return "the kernel has no link on it"
	case nic.Kind != "" && nic.Kind != "veth":
		return "it is a " + nic.Kind + ", whose packets are others' before they are its own"
	case nic.Master != "":
		return inUse(nic)
	case nic.MAC == "":
		return "it is no Ethernet"
	case !nic.Up:
		return fmt.Sprintf("it is down, and no AF_XDP socket can be opened (ip link set %s up)", nic.Name)
	case nic.MTU > maxShareMTU:
		return fmt.Sprintf("its MTU of %d is above %d, which is what fits into a buffer of AF_XDP (ip link set %s mtu %d, if the network allows)", nic.MTU, maxShareMTU, nic.Name, maxShareMTU)
	case !kernelAtLeast(j.node.Kernel, 5, 9):
		return "the kernel " + j.node.Kernel + " is older than 5.9, which is the first that takes an XDP program off when its process ends"
	}
	return ""
}

// shareNote says what a person should know before saying yes.
func shareNote(t taken) string {
	note := fmt.Sprintf("%s stays as it is: nothing on the host is changed, and there is nothing to undo; an XDP program of the engine's takes out what is steered, and goes with the engine", t.nic.Name)
	if t.nic.Kind == "veth" {
		note += "; checksums that the other end leaves to the NIC are lost: switch tx-checksumming off there"
	}
	return note
}
