package worker

import (
	"testing"

	"github.com/millrace/millrace/engine/nat"
	"github.com/millrace/millrace/engine/packet"
)

// step is a packet that comes in by an interface, and what comes out.
type step struct {
	by   int
	p    wire
	want string
}

func (r *rig) steps(all ...step) {
	r.tb.Helper()
	for i, s := range all {
		if got := r.one(s.by, s.p); got != s.want {
			r.tb.Errorf("step %d: %s", i+1, describe(s.p.buffer().Bytes()))
			r.tb.Errorf("  got  %s", got)
			r.tb.Errorf("  want %s", s.want)
		}
	}
}

// twice is steps with each packet sent twice: the first makes the flow known.
func (r *rig) twice(all ...step) {
	r.tb.Helper()
	for _, s := range all {
		r.steps(s, s)
	}
}

func TestNATService(t *testing.T) {
	r := newRig(t, nil)
	for _, proto := range []uint8{packet.ProtoTCP, packet.ProtoUDP} {
		r.service(proto, "10.96.0.1:80", 1, nil, "10.0.2.2:8080")
		r.service(proto, "[fd00:96::1]:80", 2, nil, "[fd00:2::2]:8080")
	}
	bare, pending := udp("10.0.1.2:1001", "10.96.0.1:80"), udp("10.0.1.2:1002", "10.96.0.1:80")
	bare.bare, pending.pending = true, true
	pending6 := tcp("[fd00:1::2]:1002", "[fd00:96::1]:80", packet.TCPSyn)
	pending6.pending = true
	odd := udp("10.0.1.2:1003", "10.96.0.1:80")
	odd.data = 7
	r.twice(
		step{1, udp("10.0.1.2:1000", "10.96.0.1:80"), "2: udp 10.0.1.2:1000>10.0.2.2:8080 ttl 63"},
		step{2, udp("10.0.2.2:8080", "10.0.1.2:1000"), "1: udp 10.96.0.1:80>10.0.1.2:1000 ttl 63"},
		step{1, tcp("10.0.1.2:1000", "10.96.0.1:80", packet.TCPSyn), "2: tcp 10.0.1.2:1000>10.0.2.2:8080 ttl 63"},
		step{2, tcp("10.0.2.2:8080", "10.0.1.2:1000", packet.TCPSyn|packet.TCPAck), "1: tcp 10.96.0.1:80>10.0.1.2:1000 ttl 63"},
		step{1, udp("[fd00:1::2]:1000", "[fd00:96::1]:80"), "2: udp [fd00:1::2]:1000>[fd00:2::2]:8080 ttl 63"},
		step{2, udp("[fd00:2::2]:8080", "[fd00:1::2]:1000"), "1: udp [fd00:96::1]:80>[fd00:1::2]:1000 ttl 63"},
		step{1, bare, "2: udp 10.0.1.2:1001>10.0.2.2:8080 ttl 63"},
		step{1, pending, "2: udp 10.0.1.2:1002>10.0.2.2:8080 ttl 63"},
		step{1, pending6, "2: tcp [fd00:1::2]:1002>[fd00:2::2]:8080 ttl 63"},
		step{1, odd, "2: udp 10.0.1.2:1003>10.0.2.2:8080 ttl 63"},
		// What nobody translates.
		step{1, udp("10.0.1.2:1000", "10.0.2.2:8080"), "2: udp 10.0.1.2:1000>10.0.2.2:8080 ttl 63"},
		step{2, udp("10.0.2.2:8081", "10.0.1.2:1000"), "1: udp 10.0.2.2:8081>10.0.1.2:1000 ttl 63"},
		step{1, udp("10.0.1.2:1000", "10.96.0.1:81"), "3: udp 10.0.0.1:49152>10.96.0.1:81 ttl 63"},
	)
	if n := r.nat.Sessions.Count(); n != 8 {
		t.Errorf("%d sessions", n)
	}
	if c := r.w.count.Translations; c[1].Packets != 5 || c[2].Packets != 2 {
		t.Errorf("counted %d and %d flows of the services", c[1].Packets, c[2].Packets)
	}
}

// TestNATOutside: pods speak to the outside by the node's address.
func TestNATOutside(t *testing.T) {
	r := newRig(t, nil)
	r.twice(
		step{1, udp("10.0.1.2:1000", "192.0.2.1:53"), "3: udp 10.0.0.1:49152>192.0.2.1:53 ttl 63"},
		step{3, udp("192.0.2.1:53", "10.0.0.1:49152"), "1: udp 192.0.2.1:53>10.0.1.2:1000 ttl 63"},
		step{1, ping("10.0.1.2:7", "192.0.2.1:0", 8), "3: icmp 8 10.0.0.1>192.0.2.1 id 49152 ttl 63"},
		step{3, ping("192.0.2.1:49152", "10.0.0.1:0", 0), "1: icmp 0 192.0.2.1>10.0.1.2 id 7 ttl 63"},
		step{1, udp("[fd00:1::2]:1000", "[2001:db8::1]:53"), "3: udp [fd00::1]:49153>[2001:db8::1]:53 ttl 63"},
		step{3, udp("[2001:db8::1]:53", "[fd00::1]:49153"), "1: udp [2001:db8::1]:53>[fd00:1::2]:1000 ttl 63"},
		step{1, ping("[fd00:1::2]:7", "[2001:db8::1]:0", 128), "3: icmp 128 fd00::1>2001:db8::1 id 49152 ttl 63"},
		step{3, ping("[2001:db8::1]:49152", "[fd00::1]:0", 129), "1: icmp 129 2001:db8::1>fd00:1::2 id 7 ttl 63"},
		// Excluded, and not of a pod.
		step{1, udp("10.0.1.2:1000", "10.0.9.1:53"), "3: udp 10.0.1.2:1000>10.0.9.1:53 ttl 63"},
		step{3, udp("192.0.2.1:1000", "10.0.1.2:53"), "1: udp 192.0.2.1:1000>10.0.1.2:53 ttl 63"},
	)
}

// TestNATHairpin: a pod that reaches itself by a service sees the node.
func TestNATHairpin(t *testing.T) {
	r := newRig(t, nil)
	r.service(packet.ProtoTCP, "10.96.0.1:80", 1, nil, "10.0.1.2:8080")
	r.twice(
		step{1, tcp("10.0.1.2:1000", "10.96.0.1:80", packet.TCPSyn), "1: tcp 10.0.0.1:49152>10.0.1.2:8080 ttl 63"},
		step{1, tcp("10.0.1.2:8080", "10.0.0.1:49152", packet.TCPSyn|packet.TCPAck), "1: tcp 10.96.0.1:80>10.0.1.2:1000 ttl 63"},
	)
}

// TestNATNodePort: from outside to a node port whose backend is outside, too.
func TestNATNodePort(t *testing.T) {
	r := newRig(t, nil)
	r.service(packet.ProtoUDP, "10.0.0.1:30000", 1, nil, "10.7.0.2:8080")
	r.service(packet.ProtoTCP, "10.0.0.1:30000", 1, nil, "10.0.2.2:8080")
	r.twice(
		step{3, udp("192.0.2.1:1000", "10.0.0.1:30000"), "3: udp 10.0.0.1:49152>10.7.0.2:8080 ttl 63"},
		step{3, udp("10.7.0.2:8080", "10.0.0.1:49152"), "3: udp 10.0.0.1:30000>192.0.2.1:1000 ttl 63"},
		step{3, tcp("192.0.2.1:1000", "10.0.0.1:30000", packet.TCPSyn), "2: tcp 192.0.2.1:1000>10.0.2.2:8080 ttl 63"},
		step{2, tcp("10.0.2.2:8080", "192.0.2.1:1000", packet.TCPSyn|packet.TCPAck), "3: tcp 10.0.0.1:30000>192.0.2.1:1000 ttl 63"},
	)
}

// TestNATErrors: what is said about a translated flow is told to its sender as of the flow
// that it knows, by whoever says it.
func TestNATErrors(t *testing.T) {
	r := newRig(t, nil)
	r.service(packet.ProtoUDP, "10.96.0.1:80", 1, nil, "10.0.2.2:8080")
	r.service(packet.ProtoUDP, "[fd00:96::1]:80", 1, nil, "[fd00:2::2]:8080")
	old := udp("10.0.1.2:1000", "10.96.0.1:80")
	old.ttl = 1
	long := udp("10.0.1.2:1000", "192.0.2.1:53")
	long.ttl = 1
	r.twice(
		step{1, udp("10.0.1.2:1000", "10.96.0.1:80"), "2: udp 10.0.1.2:1000>10.0.2.2:8080 ttl 63"},
		step{2, about("10.0.2.2", "10.0.1.2", udp("10.0.1.2:1000", "10.0.2.2:8080")),
			"1: icmp 3 10.96.0.1>10.0.1.2 ttl 63 [udp 10.0.1.2:1000>10.96.0.1:80 ttl 64]"},
		step{2, about("10.0.2.77", "10.0.1.2", udp("10.0.1.2:1000", "10.0.2.2:8080")),
			"1: icmp 3 10.0.2.77>10.0.1.2 ttl 63 [udp 10.0.1.2:1000>10.96.0.1:80 ttl 64]"},
		step{1, about("10.0.1.2", "10.96.0.1", udp("10.96.0.1:80", "10.0.1.2:1000")),
			"2: icmp 3 10.0.1.2>10.0.2.2 ttl 63 [udp 10.0.2.2:8080>10.0.1.2:1000 ttl 64]"},
		step{1, udp("[fd00:1::2]:1000", "[fd00:96::1]:80"), "2: udp [fd00:1::2]:1000>[fd00:2::2]:8080 ttl 63"},
		step{2, about("fd00:2::2", "fd00:1::2", udp("[fd00:1::2]:1000", "[fd00:2::2]:8080")),
			"1: icmp 1 fd00:96::1>fd00:1::2 ttl 63 [udp [fd00:1::2]:1000>[fd00:96::1]:80 ttl 64]"},
		step{1, udp("10.0.1.2:1000", "192.0.2.1:53"), "3: udp 10.0.0.1:49152>192.0.2.1:53 ttl 63"},
		step{3, about("192.0.2.9", "10.0.0.1", udp("10.0.0.1:49152", "192.0.2.1:53")),
			"1: icmp 3 192.0.2.9>10.0.1.2 ttl 63 [udp 10.0.1.2:1000>192.0.2.1:53 ttl 64]"},
		// The node's own, about what has lived too long.
		step{1, old, "1: icmp 11 10.0.0.1>10.0.1.2 ttl 255 [udp 10.0.1.2:1000>10.96.0.1:80 ttl 1]"},
		step{1, long, "1: icmp 11 10.0.0.1>10.0.1.2 ttl 255 [udp 10.0.1.2:1000>192.0.2.1:53 ttl 1]"},
		// Of no flow.
		step{2, about("10.0.2.2", "10.0.1.2", udp("10.0.1.2:1009", "10.0.2.2:8080")),
			"1: icmp 3 10.0.2.2>10.0.1.2 ttl 63 [udp 10.0.1.2:1009>10.0.2.2:8080 ttl 64]"},
	)
}

// TestNATEdits: UDP leaves a backend that is gone at once, and so does a connection that
// nobody answered; an open one stays.
func TestNATEdits(t *testing.T) {
	r := newRig(t, nil)
	const syn, ack, fin = packet.TCPSyn, packet.TCPAck, packet.TCPFin
	both := func(backends ...string) {
		r.service(packet.ProtoTCP, "10.96.0.1:80", 1, nil, backends...)
		r.service(packet.ProtoUDP, "10.96.0.1:80", 2, nil, backends...)
	}
	both("10.0.2.2:8080")
	to := func(p wire, backend string) step {
		name := map[uint8]string{packet.ProtoTCP: "tcp", packet.ProtoUDP: "udp"}[p.proto]
		return step{1, p, "2: " + name + " " + p.src.String() + ">" + backend + " ttl 63"}
	}
	open, asked, flow := tcp("10.0.1.2:1000", "10.96.0.1:80", syn), tcp("10.0.1.2:1001", "10.96.0.1:80", syn), udp("10.0.1.2:1000", "10.96.0.1:80")
	r.twice(to(open, "10.0.2.2:8080"), to(asked, "10.0.2.2:8080"), to(flow, "10.0.2.2:8080"),
		step{2, tcp("10.0.2.2:8080", "10.0.1.2:1000", syn|ack), "1: tcp 10.96.0.1:80>10.0.1.2:1000 ttl 63"})
	open.flags = ack
	both("10.0.2.3:8080")
	r.twice(to(open, "10.0.2.2:8080"), to(asked, "10.0.2.3:8080"), to(flow, "10.0.2.3:8080"),
		step{2, tcp("10.0.2.2:8080", "10.0.1.2:1000", ack), "1: tcp 10.96.0.1:80>10.0.1.2:1000 ttl 63"},
		step{2, udp("10.0.2.3:8080", "10.0.1.2:1000"), "1: udp 10.96.0.1:80>10.0.1.2:1000 ttl 63"},
		step{2, udp("10.0.2.2:8080", "10.0.1.2:1000"), "1: udp 10.0.2.2:8080>10.0.1.2:1000 ttl 63"})
	open.flags = fin | ack
	r.twice(to(open, "10.0.2.2:8080"))
	both("10.0.2.3:8080", "10.0.2.4:8080")
	r.twice(to(open, "10.0.2.2:8080"), to(flow, "10.0.2.3:8080"))
	open.flags = syn // the same port again, to whom is there now
	if got := r.one(1, open); got == to(open, "10.0.2.2:8080").want {
		t.Errorf("a new connection went to a backend that is gone")
	}
	both()
	if got := r.one(1, flow); got != "3: udp 10.0.0.1:49152>10.96.0.1:80 ttl 63" {
		t.Errorf("without a backend: %s", got)
	}
	r.nat.Tables = r.nat.Tables.Without(nat.Endpoint{Addr: flow.dst.Addr(), Port: 80, Protocol: packet.ProtoTCP})
	r.publish()
	asked.flags = ack
	if got := r.one(1, asked); got != "3: tcp 10.0.0.1:49152>10.96.0.1:80 ttl 63" {
		t.Errorf("without a service: %s", got)
	}
}

// TestNATBegins: a flow that nothing translated is looked at again, once a session has
// begun that it belongs to.
func TestNATBegins(t *testing.T) {
	r := newRig(t, nil)
	r.service(packet.ProtoUDP, "10.96.0.1:80", 1, nil, "10.0.2.2:8080")
	r.twice(step{2, udp("10.0.2.2:8080", "10.0.1.2:1000"), "1: udp 10.0.2.2:8080>10.0.1.2:1000 ttl 63"})
	r.twice(step{1, udp("10.0.1.2:1000", "10.96.0.1:80"), "2: udp 10.0.1.2:1000>10.0.2.2:8080 ttl 63"})
	r.tick(1)
	r.twice(step{2, udp("10.0.2.2:8080", "10.0.1.2:1000"), "1: udp 10.96.0.1:80>10.0.1.2:1000 ttl 63"})
}

// TestNATAges: a flow in use lives on, one that rests ends with its port.
func TestNATAges(t *testing.T) {
	r := newRig(t, nil)
	p := udp("10.0.1.2:1000", "192.0.2.1:53")
	r.steps(step{1, p, "3: udp 10.0.0.1:49152>192.0.2.1:53 ttl 63"})
	for range 100 {
		r.tick(1)
		r.steps(step{1, p, "3: udp 10.0.0.1:49152>192.0.2.1:53 ttl 63"})
	}
	r.tick(31)
	r.steps(step{3, udp("192.0.2.1:53", "10.0.0.1:49152"), "3: icmp 3 10.0.0.1>192.0.2.1 ttl 255 [udp 192.0.2.1:53>10.0.0.1:49152 ttl 64]"},
		step{1, p, "3: udp 10.0.0.1:49153>192.0.2.1:53 ttl 63"})
	// A connection that is opened again from its old port is one that lives long.
	const syn, ack, fin = packet.TCPSyn, packet.TCPAck, packet.TCPFin
	for range 3 {
		for _, f := range []uint8{syn, ack, ack, fin | ack, ack} {
			r.steps(step{1, tcp("10.0.1.2:1000", "192.0.2.1:53", f), "3: tcp 10.0.0.1:49152>192.0.2.1:53 ttl 63"})
			if f == syn {
				f |= ack
			}
			r.steps(step{3, tcp("192.0.2.1:53", "10.0.0.1:49152", f), "1: tcp 192.0.2.1:53>10.0.1.2:1000 ttl 63"})
		}
	}
	for i := range r.nat.Sessions.All(r.w.state.Clock()) {
		if i.Proto == packet.ProtoTCP && i.Lifetime != 5 {
			t.Errorf("a closed connection lives for %d seconds", i.Lifetime)
		}
	}
	for range 2 {
		r.steps(step{1, tcp("10.0.1.2:1000", "192.0.2.1:53", syn), "3: tcp 10.0.0.1:49152>192.0.2.1:53 ttl 63"},
			step{3, tcp("192.0.2.1:53", "10.0.0.1:49152", syn|ack), "1: tcp 192.0.2.1:53>10.0.1.2:1000 ttl 63"})
		for i := range r.nat.Sessions.All(r.w.state.Clock()) {
			if i.Proto == packet.ProtoTCP && i.Lifetime != 3600 {
				t.Errorf("an open connection lives for %d seconds", i.Lifetime)
			}
		}
		r.steps(step{1, tcp("10.0.1.2:1000", "192.0.2.1:53", fin|ack), "3: tcp 10.0.0.1:49152>192.0.2.1:53 ttl 63"})
	}
}

// TestNATExhausted: without a port, or room for a session, a packet is dropped and counted.
func TestNATExhausted(t *testing.T) {
	r := newRig(t, nil)
	for i := range nat.MaxPorts + 3 {
		p := udp("10.0.1.2:1000", "192.0.2.1:53")
		p.src = withPort(p.src, uint16(1000+i))
		r.play(1, p)
	}
	r.nat.Sessions = nat.NewSessions(1)
	r.publish()
	r.play(1, udp("[fd00:1::2]:1000", "[2001:db8::1]:53"))
	r.play(1, udp("[fd00:1::2]:1001", "[2001:db8::1]:53"))
	for _, c := range []struct {
		r    Reason
		want uint64
	}{{natReason(natNoPorts, true, false), 3}, {natReason(natFull, true, true), 1}} {
		if got := r.w.count.Errors[c.r]; got != c.want {
			t.Errorf("%v counted %d times, want %d", Names()[c.r], got, c.want)
		}
	}
	if r.w.count.Drops[1] != 4 {
		t.Errorf("%d drops", r.w.count.Drops[1])
	}
}

// TestNATOneWay: a translation may leave answers alone.
func TestNATOneWay(t *testing.T) {
	r := newRig(t, nil)
	r.service(packet.ProtoUDP, "10.96.0.1:80", 1, func(x *nat.Translation) { x.NoReturn = true }, "10.0.2.2:8080")
	r.twice(step{1, udp("10.0.1.2:1000", "10.96.0.1:80"), "2: udp 10.0.1.2:1000>10.0.2.2:8080 ttl 63"},
		step{2, udp("10.0.2.2:8080", "10.0.1.2:1000"), "1: udp 10.0.2.2:8080>10.0.1.2:1000 ttl 63"})
}

// TestNATFragments: later fragments get the addresses of the first; those that come before
// it are dropped where they would have to be changed.
func TestNATFragments(t *testing.T) {
	r := newRig(t, nil)
	r.service(packet.ProtoUDP, "10.96.0.1:80", 1, nil, "10.0.2.2:8080")
	r.service(packet.ProtoUDP, "[fd00:96::1]:80", 1, nil, "[fd00:2::2]:8080")
	piece := func(p wire, id uint16, later bool) wire {
		p.id, p.first, p.later = id, !later, later
		return p
	}
	four, six := udp("10.0.1.2:1000", "10.96.0.1:80"), udp("[fd00:1::2]:1000", "[fd00:96::1]:80")
	back, out := udp("10.0.2.2:8080", "10.0.1.2:1000"), udp("10.0.1.2:1000", "192.0.2.1:53")
	r.twice(step{1, piece(four, 7, true), "-"}, step{1, piece(six, 7, true), "-"}, step{1, piece(out, 7, true), "-"})
	r.twice(
		step{1, piece(four, 7, false), "2: udp 10.0.1.2:1000>10.0.2.2:8080 ttl 63"},
		step{1, piece(four, 7, true), "2: later of 17 10.0.1.2>10.0.2.2 ttl 63"},
		step{1, piece(four, 8, true), "-"},
		step{2, piece(back, 7, false), "1: udp 10.96.0.1:80>10.0.1.2:1000 ttl 63"},
		step{2, piece(back, 7, true), "1: later of 17 10.96.0.1>10.0.1.2 ttl 63"},
		step{2, piece(back, 8, true), "1: later of 17 10.0.2.2>10.0.1.2 ttl 63"},
		step{1, piece(six, 7, false), "2: udp [fd00:1::2]:1000>[fd00:2::2]:8080 ttl 63"},
		step{1, piece(six, 7, true), "2: later of 17 fd00:1::2>fd00:2::2 ttl 63"},
		step{1, piece(out, 7, false), "3: udp 10.0.0.1:49152>192.0.2.1:53 ttl 63"},
		step{1, piece(out, 7, true), "3: later of 17 10.0.0.1>192.0.2.1 ttl 63"},
	)
	// The same identification again, of another flow.
	r.service(packet.ProtoUDP, "10.96.0.1:80", 1, nil, "10.0.2.3:8080")
	r.steps(step{1, piece(four, 7, false), "2: udp 10.0.1.2:1000>10.0.2.3:8080 ttl 63"},
		step{1, piece(four, 7, true), "2: later of 17 10.0.1.2>10.0.2.3 ttl 63"})
	r.tick(4)
	r.steps(step{1, piece(four, 7, true), "-"})
	for _, c := range []struct {
		output, v6 bool
		want       uint64
	}{{false, false, 5}, {false, true, 2}, {true, false, 2}} {
		if got := r.w.count.Errors[natReason(natPiece, c.output, c.v6)]; got != c.want {
			t.Errorf("output %v IPv6 %v: %d dropped, want %d", c.output, c.v6, got, c.want)
		}
	}
}

// TestNATOff: where the features are off nothing is translated.
func TestNATOff(t *testing.T) {
	r := newRig(t, func(i *Interface) {
		if i.Index == 1 {
			i.NATIn4, i.NATOut4 = false, false
		}
	})
	r.service(packet.ProtoUDP, "10.96.0.1:80", 1, nil, "10.0.2.2:8080")
	r.twice(step{1, udp("10.0.1.2:1000", "10.96.0.1:80"), "3: udp 10.0.0.1:49152>10.96.0.1:80 ttl 63"},
		step{2, udp("10.0.2.2:1000", "10.96.0.1:80"), "2: udp 10.0.0.1:49153>10.0.2.2:8080 ttl 63"})
}
