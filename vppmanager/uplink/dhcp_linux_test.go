package uplink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/internal/netnstest"
)

// TestIntegrationDHCP asks for a lease by broadcast over the host's link as a client does
// that has no address yet, and renews it as one that has.
func TestIntegrationDHCP(t *testing.T) {
	eachMachine(t, func(r *rig) {
		out := single(r)
		r.serveDHCP(out, "wire0")
		mac, err := net.ParseMAC("02:00:00:00:01:00")
		if err != nil {
			t.Fatal(err)
		}
		if got := r.discover("eth0", mac); got != "192.0.2.9" {
			t.Errorf("the offer is for %s", got)
		}
		r.renew(mac)
	})
}

func dhcp(op layers.DHCPOp, kind layers.DHCPMsgType, mac net.HardwareAddr) *layers.DHCPv4 {
	return &layers.DHCPv4{
		Operation: op, HardwareType: layers.LinkTypeEthernet, HardwareLen: 6, Xid: 0x4d52, ClientHWAddr: mac, Flags: 0x8000,
		ClientIP: net.IPv4zero, YourClientIP: net.IPv4zero, NextServerIP: net.IPv4zero, RelayAgentIP: net.IPv4zero,
		Options: layers.DHCPOptions{layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(kind)})},
	}
}

func bytesOf(t *testing.T, all ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		t.Fatal(err)
	}
	return append([]byte(nil), buf.Bytes()...)
}

func readDHCP(data []byte) (*layers.DHCPv4, layers.DHCPMsgType) {
	m := &layers.DHCPv4{}
	if m.DecodeFromBytes(data, gopacket.NilDecodeFeedback) != nil {
		return nil, 0
	}
	for _, o := range m.Options {
		if o.Type == layers.DHCPOptMessageType && len(o.Data) == 1 {
			return m, layers.DHCPMsgType(o.Data[0])
		}
	}
	return m, 0
}

// serveDHCP answers on a link: offers to all, acknowledgements to where the client says it
// is.
func (r *rig) serveDHCP(n *netnstest.Namespace, link string) {
	r.Helper()
	var server net.PacketConn
	err := n.Do(func() (err error) {
		c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
			var err error
			cerr := raw.Control(func(fd uintptr) {
				err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1), unix.BindToDevice(int(fd), link))
			})
			return errors.Join(err, cerr)
		}}
		server, err = c.ListenPacket(context.Background(), "udp4", ":67")
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { server.Close() })
	go func() {
		buf := make([]byte, 2048)
		for {
			size, _, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			q, kind := readDHCP(buf[:size])
			if q == nil {
				continue
			}
			answer, to := layers.DHCPMsgTypeOffer, net.IPv4bcast
			if kind == layers.DHCPMsgTypeRequest {
				answer, to = layers.DHCPMsgTypeAck, q.ClientIP
			}
			m := dhcp(layers.DHCPOpReply, answer, q.ClientHWAddr)
			m.Xid, m.YourClientIP = q.Xid, net.IPv4(192, 0, 2, 9)
			server.WriteTo(bytesOf(r.T, m), &net.UDPAddr{IP: to, Port: 68}) // one that is lost is asked for again
		}
	}()
}

// discover broadcasts from 0.0.0.0 by a packet socket, and returns the address offered.
func (r *rig) discover(link string, mac net.HardwareAddr) string {
	r.Helper()
	dev, err := net.InterfaceByName(link)
	if err != nil {
		r.Fatal(err)
	}
	const all = unix.ETH_P_IP<<8 | unix.ETH_P_IP>>8 // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, all&0xffff)
	if err != nil {
		r.Fatal(err)
	}
	defer unix.Close(fd)
	at := &unix.SockaddrLinklayer{Protocol: all & 0xffff, Ifindex: dev.Index}
	if err := unix.Bind(fd, at); err != nil {
		r.Fatal(err)
	}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IPv4zero, DstIP: net.IPv4bcast}
	udp := &layers.UDP{SrcPort: 68, DstPort: 67}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		r.Fatal(err)
	}
	frame := bytesOf(r.T, &layers.Ethernet{SrcMAC: mac, DstMAC: layers.EthernetBroadcast, EthernetType: layers.EthernetTypeIPv4},
		ip, udp, dhcp(layers.DHCPOpRequest, layers.DHCPMsgTypeDiscover, mac))
	const header = 14 + 20 + 8
	isOffer := func(f []byte) bool {
		if len(f) < header || binary.BigEndian.Uint16(f[36:]) != 68 {
			return false
		}
		m, kind := readDHCP(f[header:])
		return m != nil && kind == layers.DHCPMsgTypeOffer && m.Xid == 0x4d52
	}
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if err := unix.Sendto(fd, frame, 0, at); err != nil {
			r.Fatal(err)
		}
		if f, err := reply(fd, isOffer); err == nil {
			m, _ := readDHCP(f[header:])
			return addrOf(m.YourClientIP).String()
		}
	}
	r.dump()
	r.Fatal("no offer came")
	return ""
}

// renew asks the server itself, from the address that is leased.
func (r *rig) renew(mac net.HardwareAddr) {
	r.Helper()
	conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 68}, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 67})
	if err != nil {
		r.Fatal(err)
	}
	defer conn.Close()
	q := dhcp(layers.DHCPOpRequest, layers.DHCPMsgTypeRequest, mac)
	q.ClientIP, q.Flags = net.IPv4(192, 0, 2, 9), 0
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if _, err := conn.Write(bytesOf(r.T, q)); err != nil {
			r.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			r.Fatal(err)
		}
		buf := make([]byte, 2048)
		if n, err := conn.Read(buf); err == nil {
			if m, kind := readDHCP(buf[:n]); kind == layers.DHCPMsgTypeAck && addrOf(m.YourClientIP).String() == "192.0.2.9" {
				return
			}
			r.Fatalf("the renewal is answered by %s", fmt.Sprintf("% x", buf[:n]))
		}
	}
	r.dump()
	r.Fatal("the lease is not renewed")
}
