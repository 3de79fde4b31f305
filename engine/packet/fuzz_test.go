package packet

import (
	"math/rand/v2"
	"testing"
)

// seeds are whole packets of every kind, from their IP header on.
func seeds(f *testing.F) [][]byte {
	f.Helper()
	r := rand.New(rand.NewPCG(20, 20))
	var all [][]byte
	for i := range 8 {
		all = append(all, randomSample(f, r, i&1 == 0, i&2 == 0, 40*i).bytes)
	}
	b := FromBytes(nil)
	MakeEchoRequest4(b, [4]byte{10, 0, 0, 1}, [4]byte{10, 0, 0, 2}, EchoRequest{ID: 1})
	all = append(all, append([]byte(nil), b.Bytes()...))
	MakeEchoRequest6(b, [16]byte{0: 0xfd}, [16]byte{0: 0xfd, 15: 1}, EchoRequest{ID: 1})
	all = append(all, append([]byte(nil), b.Bytes()...))
	MakeNeighborSolicit(b, MAC{2}, [16]byte{0: 0xfe, 1: 0x80}, [16]byte{0: 0xfd})
	all = append(all, append([]byte(nil), b.L3Bytes()...))
	ext := make([]byte, IPv6Len+24)
	MakeIPv6(ext, [16]byte{15: 1}, [16]byte{15: 2}, ProtoHopByHop, 1)
	ext[40], ext[48] = ProtoFragment, ProtoUDP
	return append(all, ext)
}

// FuzzEthernet takes a frame apart as the first stages of a worker do.
func FuzzEthernet(f *testing.F) {
	for _, p := range seeds(f) {
		f.Add(append(make([]byte, EthLen), p...))
	}
	b := FromBytes(nil)
	MakeARPRequest(b, MAC{2}, [4]byte{10, 0, 0, 1}, [4]byte{10, 0, 0, 2})
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, p []byte) {
		_, off, r := EtherPayload(p)
		if r != OK {
			return
		}
		if a, r := ParseARP(p[off:]); r == OK {
			MakeARPReply(FromBytes(nil), a, MAC{})
		}
		inspect(t, p[off:])
	})
}

// FuzzIP reads every field of what parses.
func FuzzIP(f *testing.F) {
	for _, p := range seeds(f) {
		f.Add(p)
	}
	f.Fuzz(inspect)
}

func inspect(t *testing.T, p []byte) {
	var u Upper
	var ip []byte
	if h, r := ParseIPv4(p); r == OK {
		ip, u = h, h.Upper()
		_, _, _ = h.Options(), h.Payload(), h.SrcAddr()
		if h.TTL() > 1 {
			h.DecrementTTL()
			if _, r := ParseIPv4(p); r != OK {
				t.Fatalf("%v after DecrementTTL", r)
			}
		}
	} else if h, r := ParseIPv6(p); r == OK {
		if u, r = h.Upper(); r != OK {
			return
		}
		ip = h
		if _, r := ParseNeighbor(h, h[u.Offset:]); r == OK {
			n := Neighbor(h[u.Offset:])
			n.LinkAddr()
		}
		if q, r := ParseRouter(h, h[u.Offset:]); r == OK {
			q.LinkAddr()
		}
	} else {
		return
	}
	if u.Offset > len(ip) {
		t.Fatalf("upper layer at %d of %d", u.Offset, len(ip))
	}
	fl := FlowOf(ip, u)
	if fl.Hash() != FlowHash(ip, u) {
		t.Fatal("hashes differ")
	}
	if h, r := ParseTCP(ip[u.Offset:]); r == OK {
		_, _ = h.Options(), h.Payload()
	}
	if h, r := ParseUDP(ip[u.Offset:]); r == OK {
		_ = h.Payload()
	}
	if h, r := ParseICMPv4(ip[u.Offset:]); r == OK {
		_ = h.IsError()
	}
}

// FuzzAnswer makes errors and replies of arbitrary packets; what comes out must parse,
// and must never be about an error.
func FuzzAnswer(f *testing.F) {
	for _, p := range seeds(f) {
		f.Add(p, uint8(3), uint8(4))
	}
	f.Fuzz(func(t *testing.T, p []byte, typ, code uint8) {
		if len(p) > MaxPacket {
			return
		}
		e := ICMPError{Type: typ, Code: code}
		b := FromBytes(p)
		if MakeICMPv4Error(b, [4]byte{192, 0, 2, 1}, e) == OK {
			ip, r := ParseIPv4(b.Bytes())
			if r != OK || len(ip) != b.Len() || len(ip) > maxError4 {
				t.Fatalf("error of %d bytes is %v", b.Len(), r)
			}
			if _, r := ParseICMPv4(ip.Payload()); r != OK {
				t.Fatal(r)
			}
			if isError4(typ) && MakeICMPv4Error(b, [4]byte{192, 0, 2, 1}, e) == OK {
				t.Fatal("an error about an error")
			}
		}
		b = FromBytes(p)
		if MakeICMPv6Error(b, [16]byte{0: 0x20}, e) == OK {
			ip, r := ParseIPv6(b.Bytes())
			if r != OK || len(ip) != b.Len() || len(ip) > maxError6 {
				t.Fatalf("error of %d bytes is %v", b.Len(), r)
			}
			if _, r := ParseICMPv6(ip, ip.Payload()); r != OK {
				t.Fatal(r)
			}
		}
		if b = FromBytes(p); MakeEchoReply4(b) == OK {
			if ip, r := ParseIPv4(b.Bytes()); r != OK {
				t.Fatal(r)
			} else if _, r := ParseICMPv4(ip.Payload()); r != OK {
				t.Fatal(r)
			}
		}
		if b = FromBytes(p); MakeEchoReply6(b, [16]byte{0: 0x20}) == OK {
			if _, r := ParseIPv6(b.Bytes()); r != OK {
				t.Fatal(r)
			}
		}
	})
}

// FuzzOffload hands over packets with the Offload of a liar.
func FuzzOffload(f *testing.F) {
	for _, p := range seeds(f) {
		f.Add(p, NeedsChecksum, GSOTCPv4, uint16(100), uint16(20), uint16(16), uint8(0))
		f.Add(p, NeedsChecksum, GSOTCPv6, uint16(1), uint16(40), uint16(16), uint8(14))
		f.Add(p, uint8(0), GSOUDPL4, uint16(9), uint16(0), uint16(0), uint8(3))
	}
	dst := FromBytes(nil)
	f.Fuzz(func(t *testing.T, p []byte, flags, gso uint8, size, start, offset uint16, l3 uint8) {
		if len(p)+int(l3) > MaxPacket {
			return
		}
		b := FromBytes(append(make([]byte, l3), p...))
		b.L3 = uint16(l3)
		b.Offload = Offload{Flags: flags, GSO: gso, GSOSize: size, CsumStart: start, CsumOffset: offset}
		r := CheckOffload(b)
		_ = WireLen(b)
		_ = VerifyTransportChecksum(b)
		var cut Segmenter
		if started := cut.Start(b); started == OK && r == OK {
			total := 0
			want := b.Len() - cut.headers
			for range 50 {
				if !cut.Next(dst) {
					if total != want {
						t.Fatalf("segments of %d bytes, want %d", total, want)
					}
					break
				}
				total += dst.Len() - cut.headers
			}
		}
		_ = SetTransportChecksum(b)
		_ = LeaveChecksum(b)
		if FinishChecksum(b) == OK && b.Offload.Flags&NeedsChecksum != 0 {
			t.Fatal("unfinished")
		}
	})
}

// FuzzFragment cuts arbitrary packets; the pieces must parse and make the packet.
func FuzzFragment(f *testing.F) {
	for _, p := range seeds(f) {
		f.Add(p, uint16(100))
	}
	dst := FromBytes(nil)
	f.Fuzz(func(t *testing.T, p []byte, mtu uint16) {
		if len(p) > 4000 {
			return
		}
		b := FromBytes(p)
		var cut Fragmenter
		if cut.Start(b, int(mtu)) != OK {
			return
		}
		whole, _ := ParseIPv4(b.Bytes())
		var joined []byte
		for cut.Next(dst) {
			ip, r := ParseIPv4(dst.Bytes())
			// A second fragment at 8 bytes is what a tiny MTU makes, and what we refuse.
			if r != OK && r != BadFragment || dst.Len() > max(int(mtu), len(whole)) {
				t.Fatalf("fragment of %d bytes for MTU %d is %v", dst.Len(), mtu, r)
			}
			if r == BadFragment {
				return
			}
			joined = append(joined, ip.Payload()...)
		}
		if string(joined) != string(whole.Payload()) {
			t.Fatal("the fragments make another packet")
		}
	})
}
