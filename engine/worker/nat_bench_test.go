package worker

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/millrace/millrace/engine/nat"
	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
)

// natWorker is a testWorker whose links translate to some services with ten backends each.
// With snat all flows get another source.
func natWorker(tb testing.TB, link port.Link, services int, snat bool) (*Worker, *feed, *feed, *NAT) {
	tb.Helper()
	w, in, out := testWorker(tb, 1, link, func(i *Interface) {
		i.NATIn4, i.NATIn6, i.NATOut4, i.NATOut6 = true, true, true, true
	})
	pods := nat.Interfaces{}.With(inIf, true)
	t := &nat.Tables{Policy: nat.Policy{Kind: nat.PolicyInterfaces}}
	if snat {
		t.Policy.Include4, t.Policy.Include6 = pods, pods
		t.Policy.Source4, t.Policy.Source6 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fd00::1")
	}
	for i := range services {
		for _, proto := range []uint8{packet.ProtoUDP, packet.ProtoTCP} {
			for _, vip := range vips(i) {
				x := nat.Translation{Endpoint: nat.Endpoint{Addr: vip, Port: 80, Protocol: proto}, Maglev: true}
				for n := range 10 {
					backend := netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i), byte(n)})
					if vip.Is6() {
						backend = netip.AddrFrom16([16]byte{0xfd, 1: 0, 8: 2, 9: byte(i >> 8), 10: byte(i), 15: byte(n)})
					}
					x.Backends = append(x.Backends, nat.Backend{Dst: netip.AddrPortFrom(backend, 8080)})
				}
				t = t.With(nat.NewTranslation(x))
			}
		}
	}
	n := &NAT{Tables: t, Sessions: nat.NewSessions(nat.DefaultMax)}
	w.state.SetNAT(n)
	w.state.Bump()
	return w, in, out, n
}

// vips are the addresses of a service.
func vips(i int) []netip.Addr {
	return []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}),
		netip.AddrFrom16([16]byte{0xfd, 8: 1, 14: byte(i >> 8), 15: byte(i)})}
}

// toServices makes packets of flows4 or flows6 ones to services.
func toServices(pkts [][]byte, services int) {
	for i, p := range pkts {
		ip := p[len(p)-46:]
		if p[0]>>4 == 6 {
			ip = p
		}
		vip := vips(i % services)[0]
		l4 := packet.IPv4Len
		if ip[0]>>4 == 6 {
			vip, l4 = vips(i % services)[1], packet.IPv6Len
			copy(ip[24:], vip.AsSlice())
		} else {
			copy(ip[16:], vip.AsSlice())
			packet.IPv4(ip).UpdateHeaderChecksum()
		}
		binary.BigEndian.PutUint16(ip[l4+2:], 80)
		binary.BigEndian.PutUint16(ip[l4+6:], 1+uint16(i))
	}
}

func TestNATDoesNotAllocate(t *testing.T) {
	service4, service6, tcp := flows4(20000, port.Ethernet), flows6(20000), flows4(20000, port.Ethernet)
	for _, p := range [][][]byte{service4, service6} {
		toServices(p, 10)
	}
	makeTCP(tcp)
	for _, c := range []struct {
		name string
		link port.Link
		pkts [][]byte
		snat bool
		made bool
	}{
		{"services", port.Ethernet, service4, false, true},
		{"services of IPv6", port.IP, service6, false, true},
		{"other sources", port.Ethernet, tcp[:10000], true, true},
		{"both", port.Ethernet, service4[:10000], true, true},
		{"nothing", port.Ethernet, tcp, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, in, out, n := natWorker(t, c.link, 10, c.snat)
			in.pkts = c.pkts
			q := &Queue{Interface: inIf, Port: in}
			w.serve(q)
			if n := testing.AllocsPerRun(30, func() { w.serve(q) }); n != 0 {
				t.Errorf("%v allocations per batch of new flows", n)
			}
			in.pkts, in.at = c.pkts[:256], 0
			if n := testing.AllocsPerRun(30, func() { w.serve(q) }); n != 0 {
				t.Errorf("%v allocations per batch of known flows", n)
			}
			if made, _ := n.Sessions.Totals(); out.sent == 0 || (made != 0) != c.made {
				t.Errorf("%d packets sent, %d sessions", out.sent, made)
			}
		})
	}
}

// BenchmarkNAT is the cost of known flows, beside that of plain forwarding.
func BenchmarkNAT(b *testing.B) {
	service4, service6, plain6, tcp := flows4(1000, port.Ethernet), flows6(1000), flows6(1000), flows4(1000, port.Ethernet)
	toServices(service4, 10)
	toServices(service6, 10)
	makeTCP(tcp)
	for _, c := range []struct {
		name     string
		link     port.Link
		pkts     [][]byte
		on, snat bool
	}{
		{"ip4/off", port.Ethernet, tcp, false, false},
		{"ip4/nothing-translates", port.Ethernet, tcp, true, false},
		{"ip4/service", port.Ethernet, service4, true, false},
		{"ip4/source", port.Ethernet, tcp, true, true},
		{"ip4/service-and-source", port.Ethernet, service4, true, true},
		{"ip6/off", port.IP, plain6, false, false},
		{"ip6/nothing-translates", port.IP, plain6, true, false},
		{"ip6/service", port.IP, service6, true, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			w, in, _, _ := natWorker(b, c.link, 10, c.snat)
			if !c.on {
				w, in, _ = testWorker(b, 1, c.link, nil)
			}
			in.pkts = c.pkts
			q := &Queue{Interface: inIf, Port: in}
			for b.Loop() {
				w.serve(q)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/packet.BatchSize, "ns/packet")
		})
	}
}

// BenchmarkNATNew is the cost of first packets, by the number of services.
func BenchmarkNATNew(b *testing.B) {
	for _, services := range []int{10, 10000} {
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) {
			w, in, _, n := natWorker(b, port.Ethernet, services, false)
			in.pkts = flows4(1<<16, port.Ethernet)
			toServices(in.pkts, services)
			q := &Queue{Interface: inIf, Port: in}
			for b.Loop() {
				if in.at == 0 {
					b.StopTimer()
					n.Sessions.Clear()
					w.state.Bump()
					b.StartTimer()
				}
				w.serve(q)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/packet.BatchSize, "ns/flow")
		})
	}
}
