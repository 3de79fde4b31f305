package nat

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/engine/packet"
)

// tuple makes one of addresses and ports.
func tuple(src, dst string) Tuple {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	t := Tuple{Ports: uint32(s.Port())<<16 | uint32(d.Port())}
	t.SetSource(s.Addr().AsSlice())
	t.SetDestination(d.Addr().AsSlice())
	return t
}

// service is a flow to a service, source the one of a flow that gets another source.
func service(proto uint8, src, vip, backend string) *Flow {
	f := &Flow{Key: SessionKey{Tuple: tuple(src, vip), Kind: uint32(proto)}, To: tuple(src, backend)}
	if netip.MustParseAddrPort(src).Addr().Is6() {
		f.Key.Kind |= KeyIP6
	}
	return f
}

func source(proto uint8, src, dst, from string) *Flow {
	f := &Flow{Key: SessionKey{Tuple: tuple(src, dst), Kind: uint32(proto) | KeyOutput}, To: tuple(from+":0", dst),
		OwnPort: true, Translation: NoTranslation}
	return f
}

func (s *Sessions) must(tb testing.TB, f *Flow, now uint32) Ref {
	tb.Helper()
	r, how := s.Add(f, now)
	if how != Made {
		tb.Fatalf("add %+v: %v", f, how)
	}
	return r
}

// get is Find as text: what the packet gets, or nothing.
func (s *Sessions) get(k SessionKey) string {
	var f Found
	if !s.Find(&k, &f) {
		return "-"
	}
	src, dst := f.To.ends(k.Kind&KeyIP6 != 0)
	if f.Back {
		return fmt.Sprint("back ", src, " ", dst)
	}
	return fmt.Sprint(src, " ", dst)
}

func key(kind uint32, src, dst string) SessionKey {
	return SessionKey{Tuple: tuple(src, dst), Kind: kind}
}

func TestSessionBothWays(t *testing.T) {
	s := NewSessions(100)
	s.must(t, service(packet.ProtoTCP, "10.0.1.2:1000", "10.96.0.1:80", "10.0.2.2:8080"), 1)
	s.must(t, service(packet.ProtoUDP, "[fd00:1::2]:1000", "[fd00:96::1]:80", "[fd00:2::2]:8080"), 1)
	oneWay := service(packet.ProtoUDP, "10.0.1.2:1000", "10.96.0.2:80", "10.0.2.2:8080")
	oneWay.OneWay = true
	s.must(t, oneWay, 1)
	const tcp, udp, out = uint32(packet.ProtoTCP), uint32(packet.ProtoUDP), KeyOutput
	for _, c := range []struct {
		k    SessionKey
		want string
	}{
		{key(tcp, "10.0.1.2:1000", "10.96.0.1:80"), "10.0.1.2:1000 10.0.2.2:8080"},
		{key(tcp|out, "10.0.2.2:8080", "10.0.1.2:1000"), "back 10.96.0.1:80 10.0.1.2:1000"},
		{key(tcp|out, "10.0.1.2:1000", "10.96.0.1:80"), "-"},
		{key(tcp, "10.0.2.2:8080", "10.0.1.2:1000"), "-"},
		{key(tcp, "10.0.1.2:1001", "10.96.0.1:80"), "-"},
		{key(uint32(packet.ProtoUDP), "10.0.1.2:1000", "10.96.0.1:80"), "-"},
		{key(udp|KeyIP6, "[fd00:1::2]:1000", "[fd00:96::1]:80"), "[fd00:1::2]:1000 [fd00:2::2]:8080"},
		{key(udp|KeyIP6|out, "[fd00:2::2]:8080", "[fd00:1::2]:1000"), "back [fd00:96::1]:80 [fd00:1::2]:1000"},
		{key(udp|KeyIP6|out, "[fd00:2::3]:8080", "[fd00:1::2]:1000"), "-"},
		{key(uint32(packet.ProtoUDP), "10.0.1.2:1000", "10.96.0.2:80"), "10.0.1.2:1000 10.0.2.2:8080"},
		{key(udp|out, "10.0.2.2:8080", "10.0.1.2:1000"), "-"},
	} {
		if got := s.get(c.k); got != c.want {
			t.Errorf("%+v: %s, want %s", c.k, got, c.want)
		}
	}
}

// TestSessionSourcePorts: flows of one protocol have different ports, which come back with
// the end of the session.
func TestSessionSourcePorts(t *testing.T) {
	s := NewSessions(MaxPorts + 100)
	flow := func(i int) *Flow {
		return source(packet.ProtoUDP, fmt.Sprintf("10.0.%d.%d:1000", i>>8, i&255), "192.0.2.1:53", "10.0.0.1")
	}
	seen := map[uint32]bool{}
	var first Ref
	for i := range MaxPorts {
		f := flow(i)
		r := s.must(t, f, 1)
		if i == 0 {
			first = r
		}
		if seen[f.To.Ports>>16] {
			t.Fatalf("flow %d: port %d again", i, f.To.Ports>>16)
		}
		seen[f.To.Ports>>16] = true
	}
	if _, how := s.Add(flow(MaxPorts), 1); how != NoPorts {
		t.Errorf("one more: %v", how)
	}
	s.must(t, source(packet.ProtoTCP, "10.0.0.0:1000", "192.0.2.1:53", "10.0.0.1"), 1)
	if used := s.PortsUsed(packet.ProtoUDP); used != MaxPorts {
		t.Errorf("%d ports in use", used)
	}
	s.End(first)
	s.End(first)
	if used := s.PortsUsed(packet.ProtoUDP); used != MaxPorts-1 {
		t.Errorf("%d ports in use after one was given back", used)
	}
	f := flow(MaxPorts)
	s.must(t, f, 1)
	if got := s.get(key(uint32(packet.ProtoUDP), "192.0.2.1:53", fmt.Sprint("10.0.0.1:", f.To.Ports>>16))); got != "back 192.0.2.1:53 10.0.64.0:1000" &&
		got != "back 192.0.2.1:53 10.0.63.255:1000" {
		t.Errorf("answer to the last: %s", got)
	}
	s.Clear()
	if used := s.PortsUsed(packet.ProtoUDP); used != 0 || s.Count() != 0 {
		t.Errorf("after all ended %d ports are in use, %d sessions live", used, s.Count())
	}
}

// TestSessionClash: two services with one backend, of one port of a client.
func TestSessionClash(t *testing.T) {
	s := NewSessions(100)
	first := s.must(t, service(packet.ProtoUDP, "10.0.1.2:1000", "10.96.0.1:80", "10.0.2.2:8080"), 1)
	second := service(packet.ProtoUDP, "10.0.1.2:1000", "10.96.0.2:80", "10.0.2.2:8080")
	if r, how := s.Add(second, 2); how != Clash || r != first {
		t.Fatalf("another service: %v", how)
	}
	second.OwnPort = true
	r := s.must(t, second, 2)
	if got, want := s.get(key(uint32(packet.ProtoUDP)|KeyOutput, "10.0.2.2:8080", "10.0.1.2:49152")), "back 10.96.0.2:80 10.0.1.2:1000"; got != want {
		t.Errorf("answer to another source port: %s, want %s", got, want)
	}
	if again, how := s.Add(second, 2); how != Exists || again != r {
		t.Errorf("the same again: %v", how)
	}
	if used := s.PortsUsed(packet.ProtoUDP); used != 1 {
		t.Errorf("%d ports in use", used)
	}
	third := service(packet.ProtoUDP, "10.0.1.2:1000", "10.96.0.3:80", "10.0.2.2:8080")
	s.must(t, third, 100)
	if got := s.get(key(uint32(packet.ProtoUDP), "10.0.1.2:1000", "10.96.0.1:80")); got != "-" {
		t.Errorf("a session that was over is still there: %s", got)
	}
}

func TestSessionTimeouts(t *testing.T) {
	const syn, ack, fin, rst = packet.TCPSyn, packet.TCPAck, packet.TCPFin, packet.TCPRst
	for _, c := range []struct {
		what  string
		proto uint8
		flags []uint8
		want  uint32
	}{
		{"UDP", packet.ProtoUDP, []uint8{0, 0}, 30},
		{"echo", packet.ProtoICMP, []uint8{0, 0}, 30},
		{"SYN", packet.ProtoTCP, []uint8{syn}, 30},
		{"ACK alone", packet.ProtoTCP, []uint8{syn, ack}, 30},
		{"open", packet.ProtoTCP, []uint8{syn, syn | ack, ack}, 3600},
		{"closed", packet.ProtoTCP, []uint8{syn, syn | ack, ack, fin | ack}, 5},
		{"reset", packet.ProtoTCP, []uint8{syn, rst | ack}, 5},
		{"closed, and what follows", packet.ProtoTCP, []uint8{syn | ack, fin | ack, ack, syn}, 5},
		{"opened again", packet.ProtoTCP, []uint8{syn | ack, fin | ack, syn, syn | ack}, 3600},
	} {
		s := NewSessions(100)
		r := s.must(t, service(c.proto, "10.0.1.2:1000", "10.96.0.1:80", "10.0.2.2:8080"), 1)
		for _, flags := range c.flags {
			if !s.Touch(r, 7, flags) {
				t.Fatalf("%s: not there", c.what)
			}
		}
		s.Sweep(7+c.want, 1000)
		if s.Count() != 1 {
			t.Errorf("%s: ended early", c.what)
		}
		s.Sweep(8+c.want, 1000)
		if s.Count() != 0 || s.Touch(r, 9, 0) {
			t.Errorf("%s: still there after %d seconds", c.what, 1+c.want)
		}
	}
}

func TestSessionsFull(t *testing.T) {
	s := NewSessions(10)
	flow := func(i int, proto uint8) *Flow {
		return service(proto, fmt.Sprintf("10.0.1.2:%d", 1000+i), "10.96.0.1:80", "10.0.2.2:8080")
	}
	var refs []Ref
	for i := range 10 {
		refs = append(refs, s.must(t, flow(i, packet.ProtoUDP), 1))
	}
	if _, how := s.Add(flow(10, packet.ProtoUDP), 20); how != Full {
		t.Errorf("one more: %v", how)
	}
	for i, r := range refs {
		if i != 3 {
			s.Touch(r, 25, 0)
		}
	}
	made := false
	for range stripes { // it looks at some at a time
		_, how := s.Add(flow(10, packet.ProtoUDP), 40)
		made = made || how == Made
	}
	if !made || s.Count() != 10 {
		t.Errorf("no room although one was over; %d sessions", s.Count())
	}
}

// TestSessionsAll: VPP's two entries, as real VPP dumps them (case cnat-k8s-outside).
func TestSessionsAll(t *testing.T) {
	s := NewSessions(10)
	echo := source(packet.ProtoICMP, "10.0.1.2:1", "10.0.2.2:1", "10.0.2.9")
	s.must(t, echo, 1)
	s.must(t, service(packet.ProtoUDP, "[fd00::1]:1000", "[fd00:96::1]:80", "[fd00::2]:8080"), 1)
	var got []string
	for i := range s.All(3) {
		got = append(got, fmt.Sprintf("%d %v>%v new %v out=%v back=%v idle=%d of %d", i.Proto, i.Src, i.Dst, i.NewDst, i.Output, i.Back, i.Idle, i.Lifetime))
	}
	slices.Sort(got)
	want := []string{
		"1 10.0.1.2:1>10.0.2.2:1 new 10.0.2.2:49152 out=true back=false idle=2 of 30",
		"1 10.0.2.2:49152>10.0.2.9:49152 new 10.0.1.2:1 out=false back=true idle=2 of 30",
		"17 [fd00::1]:1000>[fd00:96::1]:80 new [fd00::2]:8080 out=false back=false idle=2 of 30",
		"17 [fd00::2]:8080>[fd00::1]:1000 new [fd00::1]:1000 out=true back=true idle=2 of 30",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestSessionsModel: random adding, ending and sweeping against a map.
func TestSessionsModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	s := NewSessions(4096)
	type live struct {
		f    Flow
		ref  Ref
		seen uint32
	}
	model := map[SessionKey]*live{}
	now := uint32(1)
	for range 100000 {
		src := fmt.Sprintf("10.0.%d.%d:%d", r.IntN(4), r.IntN(8), 1000+r.IntN(8))
		f := service(packet.ProtoUDP, src, fmt.Sprintf("10.96.0.%d:80", r.IntN(4)), fmt.Sprintf("10.0.9.%d:8080", r.IntN(3)))
		if r.IntN(4) == 0 {
			f = source(packet.ProtoUDP, src, "192.0.2.1:53", "10.0.0.1")
		}
		old := model[f.Key]
		switch x := r.IntN(100); {
		case x < 40:
			ref, how := s.Add(f, now)
			switch {
			case how == Made && old == nil:
				model[f.Key], model[f.answers()] = &live{*f, ref, now}, &live{*f, ref, now}
			case how == Made, how == Exists && old == nil, how == Full, how == NoPorts:
				t.Fatalf("add %+v: %v, in the model %+v", f, how, old)
			case how == Clash && model[f.answers()] == nil:
				t.Fatalf("add %+v: no clash in the model", f)
			}
		case x < 60 && old != nil:
			s.End(old.ref)
			delete(model, old.f.answers())
			delete(model, old.f.Key)
		case x < 61 && r.IntN(10) == 0:
			now += uint32(r.IntN(20))
			s.Sweep(now, 1<<20)
			for k, l := range model {
				if now-l.seen > IdleTimeout {
					delete(model, k)
				}
			}
		default:
			want := "-"
			if old != nil {
				src, dst := old.f.To.ends(false)
				want = fmt.Sprint(src, " ", dst)
				s.Touch(old.ref, now, 0)
				old.seen, model[old.f.answers()].seen = now, now
			}
			if got := s.get(f.Key); got != want {
				t.Fatalf("find %+v: %s, want %s", f.Key, got, want)
			}
		}
	}
	if 2*s.Count() != len(model) {
		t.Errorf("%d sessions, %d entries in the model", s.Count(), len(model))
	}
}

// TestSessionsConcurrently: whatever happens meanwhile, what is found is of the packet.
func TestSessionsConcurrently(t *testing.T) {
	s := NewSessions(1000)
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), 1))
			for i := range 20000 {
				port := 1000 + r.IntN(50)
				f := service(packet.ProtoUDP, fmt.Sprintf("10.0.1.2:%d", port), "10.96.0.1:80", fmt.Sprintf("10.0.2.2:%d", 2*port))
				if r.IntN(2) == 0 {
					f = source(packet.ProtoUDP, fmt.Sprintf("10.0.1.2:%d", port), fmt.Sprintf("10.0.3.2:%d", 2*port), "10.0.0.1")
				}
				var found Found
				switch ok := s.Find(&f.Key, &found); {
				case !ok:
					s.Add(f, uint32(i/1000))
				case found.To.Ports&0xffff != uint32(2*port):
					t.Errorf("port %d got %d", port, found.To.Ports&0xffff)
				case r.IntN(3) == 0:
					s.End(found.Ref)
				default:
					s.Touch(found.Ref, uint32(i/1000), 0)
				}
				if i%100 == 0 {
					s.Sweep(uint32(i/1000), 100)
					for range s.All(uint32(i / 1000)) {
					}
				}
			}
		})
	}
	wg.Wait()
	s.Clear()
	for i := range s.buckets {
		for j := range s.buckets[i] {
			if s.buckets[i][j].Load() != 0 {
				t.Fatal("an entry without a session")
			}
		}
	}
	if s.Count() != 0 || s.PortsUsed(packet.ProtoUDP) != 0 {
		t.Errorf("%d sessions and %d ports left", s.Count(), s.PortsUsed(packet.ProtoUDP))
	}
}

func TestSessionsDoNotAllocate(t *testing.T) {
	s := NewSessions(1000)
	f := source(packet.ProtoUDP, "10.0.1.2:1000", "10.0.3.2:53", "10.0.0.1")
	var found Found
	if n := testing.AllocsPerRun(1000, func() {
		r, _ := s.Add(f, 1)
		s.Find(&f.Key, &found)
		s.Touch(r, 2, 0)
		s.End(r)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkSessions(b *testing.B) {
	s := NewSessions(1 << 17)
	flows := make([]Flow, 1<<16)
	for i := range flows {
		flows[i] = *service(packet.ProtoUDP, fmt.Sprintf("10.0.1.2:%d", i), "10.96.0.1:80", "10.0.2.2:8080")
	}
	b.Run("add-end", func(b *testing.B) {
		i := 0
		for b.Loop() {
			r, _ := s.Add(&flows[i&(len(flows)-1)], 1)
			s.End(r)
			i++
		}
	})
	for i := range flows {
		s.Add(&flows[i], 1)
	}
	b.Run("find", func(b *testing.B) {
		var found Found
		i := 0
		for b.Loop() {
			if !s.Find(&flows[i&(len(flows)-1)].Key, &found) {
				b.Fatal("not there")
			}
			i += 7919
		}
	})
}
