package program

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/af_packet"
	"go.fd.io/govpp/binapi/af_xdp"
	"go.fd.io/govpp/binapi/avf"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/pci_types"
	"go.fd.io/govpp/binapi/rdma"
	"go.fd.io/govpp/binapi/virtio"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/steer"
	"github.com/millrace/millrace/vpp"
)

// nicSettings are what no dump returns of a NIC, and stand in the tag behind the name, as
// memifSettings do: the driver's letter, the port, queues and rings, apart by commas.
type nicSettings struct{ dataplane.NIC }

const (
	nicLetters     = "dpxavr" // in the order of dataplane's drivers
	nicShare       = "s"      // af_xdp, shared
	nicPromiscuous = "D"      // dpdk, promiscuous
)

func (s nicSettings) String() string {
	letter := nicLetters[s.Driver : s.Driver+1]
	switch {
	case s.Share:
		letter = nicShare
	case s.Promiscuous:
		letter = nicPromiscuous
	}
	return fmt.Sprintf("%s%s,%s,%d,%d,%d,%d", settingsMark, letter, s.Port, s.RxQueues, s.TxQueues, s.RxRing, s.TxRing)
}

func parseNICSettings(text string) (s nicSettings, ok bool) {
	parts := strings.Split(text, ",")
	if len(parts) != 6 || len(parts[0]) != 1 {
		return nicSettings{}, false
	}
	driver := strings.Index(nicLetters, parts[0])
	switch parts[0] {
	case nicShare:
		driver, s.Share = int(dataplane.NICAFXDP), true
	case nicPromiscuous:
		driver, s.Promiscuous = int(dataplane.NICDPDK), true
	}
	s.Driver, s.Port = dataplane.NICDriver(driver), parts[1]
	for i, n := range []*uint16{&s.RxQueues, &s.TxQueues, &s.RxRing, &s.TxRing} {
		v, err := strconv.ParseUint(parts[2+i], 10, 16)
		if err != nil {
			return nicSettings{}, false
		}
		*n = uint16(v)
	}
	return s, driver >= 0
}

// observeNICs takes the word of the tags. Only sockets have an address of ours.
func (p *Program) observeNICs(seen *observed) {
	for name, settings := range seen.settings {
		s, ok := parseNICSettings(settings)
		if !ok {
			continue
		}
		if s.Driver.OwnMAC() {
			s.MAC = dataplane.MAC(seen.details[name].L2Address)
		}
		port := p.ports[name]
		port.driver, port.nic = driverNIC, s.NIC
		p.ports[name] = port
		seen.devices[name] = s.NIC
	}
}

// nicExchange makes the interface; that of a dpdk port is there since the machine's start,
// and is given our tag. So is one on AF_XDP that an attempt made which ended before the tag:
// the queues have no room for another.
func (p *Program) nicExchange(o dataplane.Interface, d dataplane.NIC) (vpp.Exchange, error) {
	if n := len(p.tag(o)); n > tagMax {
		return vpp.Exchange{}, fmt.Errorf("its tag has %d bytes, and the machine keeps %d: give it a shorter name", n, tagMax)
	}
	switch d.Driver {
	case dataplane.NICDPDK:
		index, ok := p.named[d.Port]
		if !ok {
			return vpp.Exchange{}, fmt.Errorf("the dataplane has no interface %s: its start-up configuration does not name it, or its driver could not take the device (show log tells)", d.Port)
		}
		return tagExchange(interface_types.InterfaceIndex(index), p.tag(o)), nil
	case dataplane.NICAFPacket:
		return vpp.Exchange{
			Request: &af_packet.AfPacketCreateV3{
				Mode: af_packet.AF_PACKET_API_MODE_ETHERNET, HwAddr: [6]byte(d.MAC), HostIfName: d.Port,
				TxFramesPerBlock: txFrames, Flags: qdiscBypass | checksumGSO,
				NumRxQueues: max(1, d.RxQueues), NumTxQueues: max(1, d.TxQueues),
			},
			Reply: &af_packet.AfPacketCreateV3Reply{},
		}, nil
	case dataplane.NICAFXDP:
		if index, ok := p.named[o.Name]; ok {
			return tagExchange(interface_types.InterfaceIndex(index), p.tag(o)), nil
		}
		queues := d.RxQueues
		if queues == 0 {
			queues = allQueues
		}
		prog := ""
		if d.Share {
			prog = steer.Prog
		}
		return vpp.Exchange{
			Request: &af_xdp.AfXdpCreateV3{HostIf: d.Port, Name: o.Name, RxqNum: queues, RxqSize: d.RxRing, TxqSize: d.TxRing, Prog: prog},
			Reply:   &af_xdp.AfXdpCreateV3Reply{},
		}, nil
	case dataplane.NICRDMA:
		return vpp.Exchange{
			Request: &rdma.RdmaCreateV4{
				HostIf: d.Port, Name: o.Name, RxqNum: max(1, d.RxQueues),
				RxqSize: ringOr(d.RxRing, 1024), TxqSize: ringOr(d.TxRing, 1024),
			},
			Reply: &rdma.RdmaCreateV4Reply{},
		}, nil
	}
	return pciExchange(d)
}

const (
	tagMax    = 63
	allQueues = 65535 // AF_XDP_NUM_RX_QUEUES_ALL
)

func ringOr(n, otherwise uint16) uint16 {
	if n == 0 {
		return otherwise
	}
	return n
}

// setsMAC says whether the interface comes with an address that VPP thought of, another one
// each time, and is given ours.
func setsMAC(o dataplane.Interface) (mac dataplane.MAC, ok bool) {
	switch d := o.Device.(type) {
	case dataplane.NIC:
		return d.MAC, d.Driver == dataplane.NICAFXDP
	case dataplane.VXLAN:
		return d.MAC, true
	}
	return dataplane.MAC{}, false
}

func macExchange(index interface_types.InterfaceIndex, mac dataplane.MAC) vpp.Exchange {
	return vpp.Exchange{
		Request: &interfaces.SwInterfaceSetMacAddress{SwIfIndex: index, MacAddress: [6]byte(mac)},
		Reply:   &interfaces.SwInterfaceSetMacAddressReply{},
	}
}

// promiscuousExchange switches the mode on. A dpdk port that had it already, such as one that
// outlives its mark, answers with what it was, 1 (dpdk_flag_change); see isPromiscuous.
func promiscuousExchange(index interface_types.InterfaceIndex) vpp.Exchange {
	return vpp.Exchange{
		Request: &interfaces.SwInterfaceSetPromisc{SwIfIndex: index, PromiscOn: true},
		Reply:   &interfaces.SwInterfaceSetPromiscReply{},
	}
}

func isPromiscuous(err error) bool { return errors.Is(err, api.VPPApiError(1)) }

// pciExchange makes what VPP drives by itself.
func pciExchange(d dataplane.NIC) (vpp.Exchange, error) {
	a, err := dataplane.ParsePCI(d.Port)
	if err != nil {
		return vpp.Exchange{}, err
	}
	switch d.Driver {
	case dataplane.NICAVF:
		// vlib_pci_addr_t as a number: domain, bus, and five bits of slot below three of function.
		number := uint32(a.Domain) | uint32(a.Bus)<<16 | uint32(a.Slot|a.Function<<5)<<24
		return vpp.Exchange{
			Request: &avf.AvfCreate{PciAddr: number, RxqNum: d.RxQueues, RxqSize: d.RxRing, TxqSize: d.TxRing},
			Reply:   &avf.AvfCreateReply{},
		}, nil
	case dataplane.NICVirtio:
		return vpp.Exchange{
			Request: &virtio.VirtioPciCreateV2{
				PciAddr:     pci_types.PciAddress{Domain: a.Domain, Bus: a.Bus, Slot: a.Slot, Function: a.Function},
				VirtioFlags: virtio.VIRTIO_API_FLAG_GSO | virtio.VIRTIO_API_FLAG_CSUM_OFFLOAD,
			},
			Reply: &virtio.VirtioPciCreateV2Reply{},
		}, nil
	}
	return vpp.Exchange{}, fmt.Errorf("no file of this package knows %s", d.Driver)
}

// createdNIC reads the answer. A packet socket that exists already was made by an attempt
// that ended before it was tagged; the answer names it.
func (p *Program) createdNIC(o dataplane.Interface, d dataplane.NIC, e vpp.Exchange) (port, bool) {
	made := port{driver: driverNIC, nic: d}
	if e.Err != nil && (d.Driver != dataplane.NICAFPacket || !errors.Is(e.Err, api.IF_ALREADY_EXISTS)) {
		return port{}, false
	}
	switch r := e.Reply.(type) {
	case *interfaces.SwInterfaceTagAddDelReply:
		made.index = p.named[d.Port]
		if d.Driver == dataplane.NICAFXDP {
			made.index = p.named[o.Name]
		}
	case *af_packet.AfPacketCreateV3Reply:
		made.index = uint32(r.SwIfIndex)
	case *af_xdp.AfXdpCreateV3Reply:
		made.index = uint32(r.SwIfIndex)
	case *rdma.RdmaCreateV4Reply:
		made.index = uint32(r.SwIfIndex)
	case *avf.AvfCreateReply:
		made.index = uint32(r.SwIfIndex)
	case *virtio.VirtioPciCreateV2Reply:
		made.index = uint32(r.SwIfIndex)
	default:
		return port{}, false
	}
	return made, true
}

// deleteNIC takes the interface away; a dpdk port stays, without a mark of ours and in the
// tables it came in.
func deleteNIC(index interface_types.InterfaceIndex, d dataplane.NIC) []vpp.Exchange {
	switch d.Driver {
	case dataplane.NICDPDK:
		list := []vpp.Exchange{}
		for _, is6 := range []bool{false, true} {
			list = append(list, vpp.Exchange{
				Request: &interfaces.SwInterfaceSetTable{SwIfIndex: index, IsIPv6: is6}, Reply: &interfaces.SwInterfaceSetTableReply{},
			})
		}
		return append(list, vpp.Exchange{Request: &interfaces.SwInterfaceTagAddDel{SwIfIndex: index}, Reply: &interfaces.SwInterfaceTagAddDelReply{}})
	case dataplane.NICAFPacket:
		return []vpp.Exchange{deleteAFPacket(d.Port)}
	case dataplane.NICAFXDP:
		return []vpp.Exchange{{Request: &af_xdp.AfXdpDelete{SwIfIndex: index}, Reply: &af_xdp.AfXdpDeleteReply{}}}
	case dataplane.NICAVF:
		return []vpp.Exchange{{Request: &avf.AvfDelete{SwIfIndex: index}, Reply: &avf.AvfDeleteReply{}}}
	case dataplane.NICVirtio:
		return []vpp.Exchange{{Request: &virtio.VirtioPciDelete{SwIfIndex: index}, Reply: &virtio.VirtioPciDeleteReply{}}}
	}
	return []vpp.Exchange{{Request: &rdma.RdmaDelete{SwIfIndex: index}, Reply: &rdma.RdmaDeleteReply{}}}
}

func tagExchange(index interface_types.InterfaceIndex, tag string) vpp.Exchange {
	return vpp.Exchange{
		Request: &interfaces.SwInterfaceTagAddDel{IsAdd: true, SwIfIndex: index, Tag: tag},
		Reply:   &interfaces.SwInterfaceTagAddDelReply{},
	}
}
