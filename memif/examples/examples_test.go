package examples_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/millrace/millrace/memif"
)

// pattern is a frame of n bytes that begins with two MAC addresses.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7)
	}
	return b
}

// TestReflector also has the peer go and come back, on either side.
func TestReflector(t *testing.T) {
	for _, role := range []memif.Role{memif.Server, memif.Client} {
		for _, mode := range []memif.Mode{memif.Ethernet, memif.IP} {
			t.Run(fmt.Sprintf("%s,%s", role, mode), func(t *testing.T) {
				at := memif.SocketConfig{Role: other(role), Address: address(t)}
				nf := start(t, "reflector", "--socket", at.Address, "--role", role.String(), "--mode", mode.String(), "--queues", "2", "--rx-mode", "interrupt")
				if role == memif.Server {
					waitForFile(t, at.Address)
				}
				for range 2 {
					p := newPeer(t, at, memif.Config{Mode: mode, RxQueues: 2, TxQueues: 2, MaxFrame: 9000})
					p.up(t)
					for i, n := range []int{60, 13, 12, 11, 1, 1514, 9000} {
						sent := pattern(n)
						p.send(t, i%2, sent)
						want := bytes.Clone(sent)
						if mode == memif.Ethernet && n >= 12 {
							want = append(append(bytes.Clone(sent[6:12]), sent[:6]...), sent[12:]...)
						}
						if got := p.receive(t, i%2); !bytes.Equal(got, want) {
							t.Errorf("%d bytes: got %x, want %x", n, got, want)
						}
					}
					p.stop()
				}
				nf.waitFor(t, "link up", "link down", "link up", "link down")
				nf.end(t, syscall.SIGINT)
				nf.waitFor(t, "received {Frames:", "sent {Frames:")
			})
		}
	}
}

func TestRouter(t *testing.T) {
	at0 := memif.SocketConfig{Role: memif.Server, Address: address(t)}
	at1 := memif.SocketConfig{Role: memif.Client, Address: address(t)}
	nf := start(t, "router", "--socket0", at0.Address, "--route0", "10.0.0.0/24", "--route0", "fd00:0::/64", "--id0", "3",
		"--socket1", at1.Address, "--role1", "server", "--route1", "0.0.0.0/0", "--route1", "fd00:1::/64", "--queues1", "2")
	waitForFile(t, at1.Address)
	zero := newPeer(t, at0, memif.Config{ID: 3, Mode: memif.IP})
	one := newPeer(t, at1, memif.Config{Mode: memif.IP, RxQueues: 1, TxQueues: 2})
	zero.up(t)
	one.up(t)
	near4, far4, near6, far6 := net.IP{10, 0, 0, 1}, net.IP{10, 0, 1, 1}, net.ParseIP("fd00:0::1"), net.ParseIP("fd00:1::1")
	body := list{icmp4(layers.ICMPv4TypeEchoRequest), gopacket.Payload("on its way")}
	v4 := func(src, dst net.IP, ttl uint8) []byte {
		return build(t, append(list{ip4(src, dst, ttl)}, body...)...)
	}
	v6 := func(src, dst net.IP, hops uint8) []byte {
		return build(t, &layers.IPv6{SrcIP: src, DstIP: dst, HopLimit: hops, NextHeader: layers.IPProtocolNoNextHeader}, gopacket.Payload("on its way"))
	}
	for _, tt := range []struct {
		name     string
		from, to *peer
		queue    int
		in, out  []byte // out nil: dropped
	}{
		{"IPv4", zero, one, 0, v4(near4, far4, 64), v4(near4, far4, 63)},
		{"IPv4 back", one, zero, 1, v4(far4, near4, 2), v4(far4, near4, 1)},
		{"IPv6", zero, one, 0, v6(near6, far6, 255), v6(near6, far6, 254)},
		{"IPv6 back", one, zero, 0, v6(far6, near6, 2), v6(far6, near6, 1)},
		{"the longest prefix leads back", zero, one, 0, v4(far4, near4, 64), nil},
		{"end of life", zero, one, 0, v4(near4, far4, 1), nil},
		{"end of life, IPv6", zero, one, 0, v6(near6, far6, 1), nil},
		{"no route", zero, one, 0, v6(near6, net.ParseIP("fd00:2::1"), 64), nil},
		{"cut off", zero, one, 0, v4(near4, far4, 64)[:19], nil},
		{"nothing", zero, one, 0, []byte{0}, nil},
	} {
		tt.from.send(t, tt.queue, tt.in)
		if tt.out == nil { // then what comes next is this
			tt.in, tt.out = v4(near4, far4, 9), v4(near4, far4, 8)
			tt.from.send(t, tt.queue, tt.in)
		}
		if got := tt.to.receive(t, 0); !bytes.Equal(got, tt.out) {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.name, dump(got, memif.IP), dump(tt.out, memif.IP))
		}
	}
	// Every checksum that there can be survives the step.
	for id := 0; id < 1<<16; id += 64 {
		var batch [][]byte
		for n := range 64 {
			p := ip4(near4, far4, 64)
			p.Id = uint16(id + n)
			batch = append(batch, build(t, p, gopacket.Payload("x")))
		}
		zero.send(t, 0, batch...)
		for range batch {
			got := one.receive(t, 0)
			if sum := checksum(got[:20]); sum != 0xffff || got[8] != 63 {
				t.Fatalf("header %x sums up to %#x", got[:20], sum)
			}
		}
	}
	nf.end(t, syscall.SIGTERM)
	nf.waitFor(t, "received", "dropped")
}

// checksum is the one's complement sum of a right header: 0xffff.
func checksum(b []byte) int {
	s := 0
	for i := 0; i < len(b); i += 2 {
		s += int(b[i])<<8 | int(b[i+1])
	}
	return s>>16 + s&0xffff
}

func TestCapture(t *testing.T) {
	for mode, kind := range map[memif.Mode]layers.LinkType{memif.Ethernet: layers.LinkTypeEthernet, memif.IP: layers.LinkTypeRaw} {
		t.Run(mode.String(), func(t *testing.T) {
			at, path := memif.SocketConfig{Address: address(t)}, filepath.Join(t.TempDir(), "frames.pcapng")
			p := newPeer(t, at, memif.Config{Mode: mode})
			nf := start(t, "capture", "--socket", at.Address, "--mode", mode.String(), "--write", path)
			p.up(t)
			frames := [][]byte{pattern(60), pattern(9000), pattern(1), pattern(2048), pattern(2049), pattern(65535)}
			p.send(t, 0, frames...)
			for len(read(t, path, kind)) < len(frames) { // each batch is flushed
				if t.Context().Err() != nil {
					t.Fatal("no frames")
				}
			}
			nf.end(t, syscall.SIGTERM)
			nf.waitFor(t, fmt.Sprintf("captured {Frames:%d", len(frames)))
			for i, got := range read(t, path, kind) {
				if !bytes.Equal(got, frames[i]) {
					t.Errorf("frame %d: %d bytes were written, %d sent, or they differ", i, len(got), len(frames[i]))
				}
			}
		})
	}
}

// read returns the whole frames of a capture that may still grow.
func read(t *testing.T, path string, kind layers.LinkType) (frames [][]byte) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	if r.LinkType() != kind {
		t.Fatalf("link type %v, want %v", r.LinkType(), kind)
	}
	for {
		b, _, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return frames
		}
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, b)
	}
}
