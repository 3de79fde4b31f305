package dataplane

import (
	"fmt"

	"github.com/millrace/millrace/internal/textline"
)

// Tap is an Ethernet device of the kernel whose other end is the dataplane. Like the one of
// a Tun, the kernel's end stays while the dataplane is away.
type Tap struct {
	Netns          string // absolute path, at most 63 bytes; empty = the dataplane's own
	HostName       string // name of the kernel's device, at most 15 bytes
	HostMAC        MAC    // of the kernel's device
	MAC            MAC    // the dataplane's own
	Queues         uint16 // receive queues
	RxRing, TxRing uint16 // descriptors per queue, a power of two
	Offload        Offload
}

func (d Tap) device(l *textline.Line) {
	l.Add("device", "tap")
	l.Add("netns", d.Netns)
	l.Add("host", d.HostName)
	l.Add("host-mac", d.HostMAC.String())
	l.Add("mac", d.MAC.String())
	l.AddUint("queues", uint64(d.Queues))
	l.AddUint("rx-ring", uint64(d.RxRing))
	l.AddUint("tx-ring", uint64(d.TxRing))
	l.Add("offload", d.Offload.String())
}

func (Tap) hasHost() bool    { return true }
func (d Tap) sealed() Device { return d }

func (d Tap) check() error {
	for _, m := range []MAC{d.HostMAC, d.MAC} {
		if m == (MAC{}) || m[0]&1 != 0 {
			return fmt.Errorf("MAC %s: want a unicast address", m)
		}
	}
	return Tun{d.Netns, d.HostName, d.Queues, d.RxRing, d.TxRing, d.Offload}.check()
}

func readTap(r *textline.Reader) Tap {
	return Tap{
		Netns: r.String("netns"), HostName: r.String("host"),
		HostMAC: textline.One(r, "host-mac", ParseMAC), MAC: textline.One(r, "mac", ParseMAC),
		Queues: textline.One(r, "queues", parseUint[uint16]),
		RxRing: textline.One(r, "rx-ring", parseUint[uint16]), TxRing: textline.One(r, "tx-ring", parseUint[uint16]),
		Offload: textline.One(r, "offload", parseOffload),
	}
}
