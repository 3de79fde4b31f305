package worker

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/millrace/millrace/engine/acl"
	"github.com/millrace/millrace/engine/fib"
	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/engine/session"
)

// hostile is a port that gives one packet made by the fuzzer, with its offload.
type hostile struct {
	feed
	data    []byte
	offload packet.Offload
}

func (h *hostile) Receive(_ int, bufs []*packet.Buffer) (int, error) {
	bufs[0].Reset(packet.Headroom)
	bufs[0].Append(h.data)
	bufs[0].Offload = h.offload
	return 1, nil
}

// allKinds is a worker with a route to every kind of adjacency.
func allKinds(tb testing.TB, link port.Link, caps port.Capabilities) *Worker {
	w, _, _ := testWorker(tb, 0, link, func(i *Interface) {
		i.Addrs4 = []Own4{{Addr: [4]byte{10, 0, 0, 1}, IP: 10<<24 | 1, Mask: 0xffffff00}}
		i.Addrs6 = [][16]byte{netip.MustParseAddr("fd00::1").As16()}
		i.LinkLocal = netip.MustParseAddr("fe80::1").As16()
		i.LinkLocals = &Table6{Hash: fib.NewHash6()}
		i.LinkLocals.Hash.Insert(i.LinkLocal, 128, 3)
		i.LinkLocals.Hash.Insert([16]byte{0xfe, 0x80}, 10, 5)
		i.Caps = caps
	})
	ifc := w.state.interfaces.Load().list[1]
	t4, t6 := ifc.Table4, ifc.Table6
	kinds := []Kind{KindDrop, KindRewrite, KindUnresolved, KindLocal, KindLookup, KindGlean, KindUnreachable, KindProhibit, KindLinkLocal}
	w.state.leaves = make([]uint32, 32)
	for i, k := range kinds {
		n := uint32(i + 1)
		a := &Adjacency{Kind: k, Interface: outIf, MTU: 1280, NextHop: netip.MustParseAddr("10.0.0.9"), Table4: t4, Table6: t6}
		if k == KindLocal {
			a.Interface = inIf
		}
		if k == KindRewrite && link == port.Ethernet {
			a.HeaderLen = packet.EthLen
		}
		w.state.SetAdjacency(n, a)
		w.state.SetRoute(n, &Route{Balance: fib.NewBalance([]fib.Weighted{{Target: n, Weight: 1}}), RPF: []uint32{inIf}, Local: k == KindLocal})
		w.state.SetLeaf(n, n)
		t4.Trie.Insert(10<<24|uint32(i)<<16, 16, n)
		t6.Hash.Insert([16]byte{0xfd, byte(i)}, 16, n)
	}
	t6.Hash.Insert([16]byte{0xfe, 0x80}, 10, 9)
	t4.Trie.Insert(0, 0, 2)
	t6.Hash.Insert([16]byte{}, 0, 2)
	return w
}

// guardAll puts access lists on all interfaces, in both directions.
func guardAll(tb testing.TB, w *Worker) {
	tb.Helper()
	all := policy(tb, 20, acl.PermitReflect)
	flags := acl.Rule{Action: acl.Permit, Src: netip.MustParsePrefix("0.0.0.0/0"), Dst: netip.MustParsePrefix("10.1.0.0/16"), Protocol: packet.ProtoTCP,
		SrcPorts: acl.AnyPorts(), DstPorts: acl.AnyPorts(), TCPMask: 2, TCPValue: 2}
	first := guardOf(tb, flags)
	g := &Guard{Chain: acl.Join(append(first.Chain.Lists(), all.Chain.Lists()...)...), Rows: append(first.Rows, all.Rows...), TCPFlags: true}
	list := slices.Clone(w.state.interfaces.Load().list)
	for i, ifc := range list {
		if ifc != nil {
			c := *ifc
			c.In, c.Out = g, g
			list[i] = &c
		}
	}
	w.state.SetStateful(&Stateful{Sessions: session.New(1000, 4), Reclassify: true, CountRules: true})
	w.state.SetInterfaces(list)
	w.state.Bump()
}

func FuzzPacket(f *testing.F) {
	for _, p := range seeds() {
		f.Add(p, []byte{}, true, true)
		f.Add(p, []byte{1, 1, 0, 40, 5, 0, 0, 20, 0, 16}, false, false)
		if len(p) > packet.EthLen {
			f.Add(p[packet.EthLen:], []byte{1, 4, 0, 60, 1, 0, 0, 40, 0, 16}, false, true)
		}
	}
	var workers [2][2]*Worker
	for i, link := range []port.Link{port.Ethernet, port.IP} {
		workers[i][0] = allKinds(f, link, port.Capabilities{})
		workers[i][1] = allKinds(f, link, port.Capabilities{Checksum: true, TSO4: true, TSO6: true, USO: true})
		guardAll(f, workers[i][1])
	}
	f.Fuzz(func(t *testing.T, data, offload []byte, ethernet, capable bool) {
		if len(data) > packet.MaxPacket {
			return
		}
		w := workers[1][0]
		if ethernet {
			w = workers[0][0]
		}
		if capable {
			w = workers[1][1]
			if ethernet {
				w = workers[0][1]
			}
		}
		h := &hostile{data: data}
		if len(offload) >= 10 {
			h.offload = packet.Offload{
				Flags: offload[0], GSO: offload[1], HeaderLen: binary.BigEndian.Uint16(offload[2:]),
				GSOSize:   binary.BigEndian.Uint16(offload[4:]),
				CsumStart: binary.BigEndian.Uint16(offload[6:]), CsumOffset: binary.BigEndian.Uint16(offload[8:]),
			}
		}
		w.limits = limits{} // each packet may have its answer
		w.serve(&Queue{Interface: inIf, Port: h})
		if w.count.Errors[Panic] != 0 {
			w.count.Errors[Panic] = 0
			t.Fatalf("packet % x, offload %+v: the worker panicked", data, h.offload)
		}
		if free := w.arena.Free(); free != spare {
			t.Fatalf("packet % x, offload %+v: %d buffers lost", data, h.offload, spare-free)
		}
	})
}

// seeds are whole packets of each kind that the path knows.
func seeds() [][]byte {
	eth := func(typ uint16, p []byte) []byte {
		return append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 7, byte(typ >> 8), byte(typ)}, p...)
	}
	var out [][]byte
	for i := range byte(9) {
		for _, size := range []int{28, 60, 1400} {
			p := make([]byte, size)
			packet.MakeIPv4(p, [4]byte{10, 1, 0, 9}, [4]byte{10, i, 0, 2}, packet.ProtoUDP, 64)
			binary.BigEndian.PutUint16(p[24:], uint16(size-20))
			out = append(out, eth(packet.EtherTypeIPv4, p))
			q := make([]byte, size+40)
			packet.MakeIPv6(q, [16]byte{0xfd, 1}, [16]byte{0xfd, i}, packet.ProtoUDP, 64)
			binary.BigEndian.PutUint16(q[44:], uint16(size))
			out = append(out, eth(packet.EtherTypeIPv6, q))
		}
	}
	b := packet.FromBytes(nil)
	packet.MakeARPRequest(b, packet.MAC{2, 0, 0, 0, 0, 7}, [4]byte{10, 1, 0, 9}, [4]byte{10, 3, 0, 1})
	out = append(out, append([]byte{}, b.Bytes()...))
	packet.MakeNeighborSolicit(b, packet.MAC{2, 0, 0, 0, 0, 7}, [16]byte{0xfe, 0x80, 15: 9}, [16]byte{0xfd, 3})
	out = append(out, append([]byte{}, b.Bytes()...))
	if packet.MakeEchoRequest4(b, [4]byte{10, 1, 0, 9}, [4]byte{10, 3, 0, 1}, packet.EchoRequest{ID: 1}) == packet.OK {
		out = append(out, eth(packet.EtherTypeIPv4, b.Bytes()))
	}
	if packet.MakeEchoRequest6(b, [16]byte{0xfd, 1}, [16]byte{0xfd, 3}, packet.EchoRequest{ID: 1}) == packet.OK {
		out = append(out, eth(packet.EtherTypeIPv6, b.Bytes()))
	}
	return out
}

// Whole packets with a few bytes changed reach deeper than random bytes.
func TestMutatedPackets(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	base := seeds()
	for n, link := range []port.Link{port.Ethernet, port.IP, port.Ethernet, port.IP} {
		w := allKinds(t, link, port.Capabilities{Checksum: r.IntN(2) == 0})
		if n >= 2 {
			guardAll(t, w)
		}
		for range 30000 {
			p := append([]byte{}, base[r.IntN(len(base))]...)
			if link == port.IP {
				p = p[packet.EthLen:]
			}
			p = p[:1+r.IntN(len(p))]
			for range r.IntN(4) {
				p[r.IntN(min(len(p), 90))] = byte(r.Uint32())
			}
			fixHeader(p, link)
			h := &hostile{data: p}
			if r.IntN(2) == 0 {
				h.offload = packet.Offload{
					Flags: uint8(r.IntN(3)), GSO: []uint8{0, 0, 1, 4, 5, 0x81}[r.IntN(6)], GSOSize: uint16(r.IntN(1500)),
					CsumStart: uint16(r.IntN(100)), CsumOffset: uint16(r.IntN(20)), HeaderLen: uint16(r.IntN(100)),
				}
			}
			w.limits = limits{}
			w.serve(&Queue{Interface: inIf, Port: h})
			if w.count.Errors[Panic] != 0 {
				t.Fatalf("packet % x, offload %+v: the worker panicked", p, h.offload)
			}
			if free := w.arena.Free(); free != spare {
				t.Fatalf("packet % x, offload %+v: %d buffers lost", p, h.offload, spare-free)
			}
		}
	}
}

// fixHeader makes the IPv4 checksum right again, so that the packet goes on.
func fixHeader(p []byte, link port.Link) {
	if link == port.Ethernet {
		if len(p) < packet.EthLen {
			return
		}
		p = p[packet.EthLen:]
	}
	if len(p) < packet.IPv4Len || p[0]>>4 != 4 {
		return
	}
	ip := packet.IPv4(p)
	if ip.HeaderLen() >= packet.IPv4Len && ip.HeaderLen() <= len(p) {
		if ip.TotalLen() > len(p) {
			ip.SetTotalLen(len(p))
		}
		ip.UpdateHeaderChecksum()
	}
}
