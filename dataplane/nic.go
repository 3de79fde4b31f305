package dataplane

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/textline"
)

// NIC is a network card that the dataplane drives, or a link that the kernel drives and the
// dataplane takes over.
type NIC struct {
	Driver NICDriver
	// Port names the device: for NICDPDK the interface of that name in the machine, which
	// makes it at its start (startup.conf); for NICAVF and NICVirtio a PCI address such as
	// 0000:03:00.0; else the kernel's name of the link, at most 15 bytes.
	Port string
	// MAC is the dataplane's own where it can have one (see NICDriver.OwnMAC); else zero: the
	// card's.
	MAC                MAC
	RxQueues, TxQueues uint16 // 0 = the driver's default
	RxRing, TxRing     uint16 // descriptors; 0 = the driver's default
	// Share leaves the link to the kernel, of NICAFXDP: what Steering names is the dataplane's.
	Share bool
	// Promiscuous takes in frames for every address, and so with every VLAN tag: a card may
	// filter by tags that its driver does not tell it of. For NICDPDK only.
	Promiscuous bool
}

// NICDriver is what moves a NIC's packets.
type NICDriver uint8

const (
	NICDPDK     NICDriver = iota // VPP's dpdk plugin
	NICAFPacket                  // a packet socket on a kernel link
	NICAFXDP                     // AF_XDP sockets on a kernel link
	NICAVF                       // VPP's own driver of Intel virtual functions
	NICVirtio                    // VPP's own driver of virtio-net
	NICRDMA                      // VPP's own driver of Mellanox cards, beside the kernel's
)

var nicDriverNames = [...]string{
	NICDPDK: "dpdk", NICAFPacket: "af_packet", NICAFXDP: "af_xdp", NICAVF: "avf", NICVirtio: "virtio", NICRDMA: "rdma",
}

func (d NICDriver) String() string {
	if int(d) < len(nicDriverNames) {
		return nicDriverNames[d]
	}
	return fmt.Sprintf("driver-%d", uint8(d))
}

// ParseNICDriver reads dpdk, af_packet, af_xdp, avf, virtio or rdma.
func ParseNICDriver(s string) (NICDriver, error) {
	if i := slices.Index(nicDriverNames[:], s); i >= 0 {
		return NICDriver(i), nil
	}
	return 0, fmt.Errorf("driver %q: want one of %s", s, strings.Join(nicDriverNames[:], ", "))
}

// Kernel says whether the link stays with the kernel, too.
func (d NICDriver) Kernel() bool { return d == NICAFPacket || d == NICAFXDP || d == NICRDMA }

// OwnMAC says whether the dataplane is told its MAC address: sockets on a link of the kernel
// do not take over the one that the link has.
func (d NICDriver) OwnMAC() bool { return d == NICAFPacket || d == NICAFXDP }

func (d NIC) device(l *textline.Line) {
	l.Add("device", "nic")
	l.Add("driver", d.Driver.String())
	l.Add("port", d.Port)
	if d.MAC != (MAC{}) {
		l.Add("mac", d.MAC.String())
	}
	l.AddUint("rx-queues", uint64(d.RxQueues))
	l.AddUint("tx-queues", uint64(d.TxQueues))
	l.AddUint("rx-ring", uint64(d.RxRing))
	l.AddUint("tx-ring", uint64(d.TxRing))
	if d.Share {
		l.Add("share", "true")
	}
	if d.Promiscuous {
		l.Add("promiscuous", "true")
	}
}

func (NIC) hasHost() bool    { return false }
func (d NIC) sealed() Device { return d }

func (d NIC) check() error {
	if d.Driver.String() != nicDriverNames[min(int(d.Driver), len(nicDriverNames)-1)] {
		return fmt.Errorf("%s: no such driver", d.Driver)
	}
	if d.Driver.OwnMAC() != (d.MAC != MAC{}) || d.MAC[0]&1 != 0 {
		return fmt.Errorf("MAC %s: want a unicast address for af_packet and af_xdp, and none for others", d.MAC)
	}
	if d.Share && d.Driver != NICAFXDP {
		return fmt.Errorf("%s cannot share a link: only af_xdp can", d.Driver)
	}
	if d.RxQueues > 256 || d.TxQueues > 256 {
		return fmt.Errorf("queues %d and %d: want at most 256 each way", d.RxQueues, d.TxQueues)
	}
	if d.Promiscuous && d.Driver != NICDPDK {
		return fmt.Errorf("promiscuous: only a dpdk port is")
	}
	switch {
	case d.Driver == NICDPDK:
		if d.RxQueues|d.TxQueues|d.RxRing|d.TxRing != 0 {
			return fmt.Errorf("queues and rings of a dpdk port are set at the machine's start")
		}
		if d.Port == "" || len(d.Port) > 30 || strings.ContainsAny(d.Port, settingsApart) {
			return fmt.Errorf("port %q: want 1 to 30 bytes, none of them a space, comma or #", d.Port)
		}
		return nil
	case d.Driver.Kernel():
		if err := checkKernelName("port", d.Port); err != nil {
			return err
		}
		if strings.ContainsAny(d.Port, settingsApart) {
			return fmt.Errorf("port %q: a comma or # may not stand in it", d.Port)
		}
		return nil
	}
	_, err := ParsePCI(d.Port)
	return err
}

// settingsApart are the characters that take a machine's note of a device apart.
const settingsApart = " ,#"

// PCI is the address of a device of the PCI bus.
type PCI struct {
	Domain   uint16
	Bus      uint8
	Slot     uint8 // 0 to 31
	Function uint8 // 0 to 7
}

// ParsePCI reads dddd:bb:ss.f, all hexadecimal.
func ParsePCI(s string) (PCI, error) {
	var p PCI
	shape := len(s) == 12 && s[4] == ':' && s[7] == ':' && s[10] == '.'
	if !shape {
		return PCI{}, fmt.Errorf("PCI address %q: want one such as 0000:03:00.0", s)
	}
	for _, part := range []struct {
		text string
		most uint64
		set  func(uint64)
	}{
		{s[:4], 0xffff, func(n uint64) { p.Domain = uint16(n) }},
		{s[5:7], 0xff, func(n uint64) { p.Bus = uint8(n) }},
		{s[8:10], 0x1f, func(n uint64) { p.Slot = uint8(n) }},
		{s[11:], 7, func(n uint64) { p.Function = uint8(n) }},
	} {
		n, err := strconv.ParseUint(part.text, 16, 16)
		if err != nil || n > part.most {
			return PCI{}, fmt.Errorf("PCI address %q: want one such as 0000:03:00.0", s)
		}
		part.set(n)
	}
	return p, nil
}

func readNIC(r *textline.Reader) NIC {
	return NIC{
		Driver: textline.One(r, "driver", ParseNICDriver), Port: r.String("port"),
		MAC:      textline.One(r, "mac", ParseMAC),
		RxQueues: textline.One(r, "rx-queues", parseUint[uint16]), TxQueues: textline.One(r, "tx-queues", parseUint[uint16]),
		RxRing: textline.One(r, "rx-ring", parseUint[uint16]), TxRing: textline.One(r, "tx-ring", parseUint[uint16]),
		Share:       textline.One(r, "share", parseTrue),
		Promiscuous: textline.One(r, "promiscuous", parseTrue),
	}
}
