package uplink

import (
	"net"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	interfaces "go.fd.io/govpp/binapi/interface"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/vppmanager/startup"
)

// TestIntegrationVLAN has a VLAN on an uplink, beside what comes without a tag.
func TestIntegrationVLAN(t *testing.T) {
	eachMachine(t, func(r *rig) {
		r.needs(&interfaces.CreateVlanSubif{})
		out := r.router("p-eth0", "02:00:00:00:01:00", 7)
		u := afPacket(0, "eth0", prefixes("192.0.2.9/24"))
		u.VLANs = []startup.SubUplink{{ID: 7, Host: "eth0.7", MTU: 1500, Addresses: prefixes("198.51.100.9/24")}}
		r.wire(u)
		r.wired()
		r.ping(nil, "198.51.100.1")
		out.pings(net.IPv4(198, 51, 100, 9))
	})
}

// router is 198.51.100.1 behind a NIC's link, and speaks with tags alone: kernels without
// VLANs serve this test, too.
type router struct {
	*rig
	wire    *os.File
	mac     net.HardwareAddr
	tag     uint16
	answers atomic.Int64 // to what it asked
	known   atomic.Pointer[net.HardwareAddr]
}

// router makes the link a tap, whose wire the router is.
func (r *rig) router(name, mac string, tag uint16) *router {
	r.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		r.Fatal(err)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		r.Fatal(err)
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		r.Fatal(err)
	}
	out := &router{rig: r, wire: os.NewFile(uintptr(fd), name), mac: net.HardwareAddr{2, 0, 0, 0, 9, 9}, tag: tag}
	r.ip(nil, "link", "set", name, "address", mac, "up")
	done := make(chan struct{})
	r.Cleanup(func() {
		out.wire.Close()
		<-done
		exec.Command("ip", "link", "del", name).Run() // gone with its wire
	})
	go func() {
		defer close(done)
		buf := make([]byte, 2048)
		for {
			n, err := out.wire.Read(buf)
			if err != nil {
				return
			}
			out.take(gopacket.NewPacket(buf[:n], layers.LayerTypeEthernet, gopacket.Default))
		}
	}()
	return out
}

// take answers ARP and echo requests with its tag.
func (o *router) take(p gopacket.Packet) {
	tag, _ := p.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q)
	eth, _ := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	if tag == nil || tag.VLANIdentifier != o.tag || eth == nil {
		return
	}
	if a, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok {
		if a.Operation == layers.ARPReply {
			mac := net.HardwareAddr(a.SourceHwAddress)
			o.known.Store(&mac)
			return
		}
		if net.IP(a.DstProtAddress).Equal(net.IPv4(198, 51, 100, 1)) {
			o.send(eth.SrcMAC, layers.EthernetTypeARP, o.arp(layers.ARPReply, a.SourceHwAddress, a.SourceProtAddress))
		}
		return
	}
	ip, _ := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	echo, _ := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	if ip == nil || echo == nil {
		return
	}
	if echo.TypeCode.Type() == layers.ICMPv4TypeEchoReply {
		o.answers.Add(1)
		return
	}
	o.send(eth.SrcMAC, layers.EthernetTypeIPv4,
		&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: ip.DstIP, DstIP: ip.SrcIP},
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(0, 0), Id: echo.Id, Seq: echo.Seq}, gopacket.Payload(echo.Payload))
}

func (o *router) arp(op uint16, mac, addr []byte) *layers.ARP {
	return &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
		SourceHwAddress: o.mac, SourceProtAddress: []byte{198, 51, 100, 1}, DstHwAddress: mac, DstProtAddress: addr,
	}
}

func (o *router) send(to net.HardwareAddr, kind layers.EthernetType, all ...gopacket.SerializableLayer) {
	frame := append([]gopacket.SerializableLayer{
		&layers.Ethernet{SrcMAC: o.mac, DstMAC: to, EthernetType: layers.EthernetTypeDot1Q},
		&layers.Dot1Q{VLANIdentifier: o.tag, Type: kind},
	}, all...)
	buf := gopacket.NewSerializeBuffer()
	if gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, frame...) == nil {
		o.wire.Write(buf.Bytes()) // one that is lost is sent again
	}
}

// pings asks who has an address, and for an echo of it.
func (o *router) pings(to net.IP) {
	o.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if o.answers.Load() > 0 {
			return
		}
		o.send(layers.EthernetBroadcast, layers.EthernetTypeARP, o.arp(layers.ARPRequest, make([]byte, 6), to.To4()))
		if mac := o.known.Load(); mac != nil {
			o.send(*mac, layers.EthernetTypeIPv4,
				&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: net.IPv4(198, 51, 100, 1), DstIP: to},
				&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 1}, gopacket.Payload("from the wire"))
		}
	}
	o.dump()
	o.Fatalf("%s does not answer", to)
}
