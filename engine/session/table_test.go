package session

import (
	"math/rand/v2"
	"sync"
	"testing"
)

func flow4(src, dst uint32, sport, dport uint16, proto uint8) *Flow {
	return &Flow{Addrs: [4]uint64{uint64(dst)<<32 | uint64(src)}, Src: sport, Dst: dport, Proto: proto}
}

func (f Flow) reversed() *Flow {
	f.Src, f.Dst = f.Dst, f.Src
	if f.IP6 {
		f.Addrs = [4]uint64{f.Addrs[2], f.Addrs[3], f.Addrs[0], f.Addrs[1]}
	} else {
		f.Addrs[0] = f.Addrs[0]<<32 | f.Addrs[0]>>32
	}
	return &f
}

// keys are those of a flow; the table's own seed comes when they are used.
func keys(f *Flow, index uint32, input bool) *Keys {
	k := &Keys{}
	k.set(f, index, input)
	return k
}

// see is Find.
func (t *Table) see(k *Keys) (Ref, bool) {
	k.hash = k.first.hash(t.seed)
	t.Warm(k)
	return t.Find(k)
}

// make is Add.
func (t *Table) make(k *Keys, now uint32) (Ref, Added) {
	k.hash = k.first.hash(t.seed)
	t.Warm(k)
	return t.Add(k, 0, now)
}

func (t *Table) must(tb testing.TB, k *Keys, now uint32) Ref {
	tb.Helper()
	r, added := t.make(k, now)
	if added != Made {
		tb.Fatalf("add: %v", added)
	}
	return r
}

// TestBothDirectionsAreOneSession, of that interface alone.
func TestBothDirectionsAreOneSession(t *testing.T) {
	six := &Flow{Addrs: [4]uint64{1, 2, 3, 4}, Src: 1000, Dst: 80, Proto: protoTCP, IP6: true}
	for _, f := range []*Flow{flow4(1, 2, 1000, 80, protoTCP), flow4(1, 2, 1000, 80, 17), flow4(1, 2, 0, 0, 47), six} {
		for _, input := range []bool{true, false} {
			table := New(100, 4)
			made := table.must(t, keys(f, 1, input), 1)
			for _, c := range []struct {
				what  string
				k     *Keys
				found bool
			}{
				{"again", keys(f, 1, input), true},
				{"the reply", keys(f.reversed(), 1, !input), true},
				{"another interface", keys(f, 2, input), false},
				{"the reply the wrong way", keys(f.reversed(), 1, input), false},
				{"itself the wrong way", keys(f, 1, !input), false},
			} {
				r, ok := table.see(c.k)
				if ok != c.found || ok && r != made {
					t.Errorf("%+v input %v: %s: found %v", f, input, c.what, ok)
				}
			}
		}
	}
}

// TestICMP: only queries let something back in, and only their answer.
func TestICMP(t *testing.T) {
	icmp := func(typ, code uint16) *Flow { return flow4(1, 2, typ, code, protoICMP) }
	icmp6 := func(typ, code uint16) *Flow {
		return &Flow{Addrs: [4]uint64{1, 2, 3, 4}, Src: typ, Dst: code, Proto: protoICMPv6, IP6: true}
	}
	back := func(f *Flow) *Flow {
		r := f.reversed()
		r.Src, r.Dst = f.Src, f.Dst
		return r
	}
	for _, c := range []struct {
		what       string
		made, next *Flow
		same       bool // next goes the same way as made
		found      bool
	}{
		{"echo and its answer", icmp(8, 0), back(icmp(0, 0)), false, true},
		{"echo and another echo", icmp(8, 0), icmp(8, 0), true, true},
		{"echo from the other side", icmp(8, 0), back(icmp(8, 0)), false, false},
		{"an answer that goes along", icmp(8, 0), icmp(0, 0), true, false},
		{"another code", icmp(8, 0), back(icmp(0, 1)), false, false},
		{"timestamp", icmp(13, 0), back(icmp(14, 0)), false, true},
		{"an answer alone", icmp(0, 0), icmp(0, 0), true, true},
		{"a query to an answer alone", icmp(0, 0), back(icmp(8, 0)), false, false},
		{"unreachable", icmp(3, 4), icmp(3, 4), true, true},
		{"unreachable back", icmp(3, 4), back(icmp(3, 4)), false, false},
		{"v6 echo", icmp6(128, 0), back(icmp6(129, 0)), false, true},
		{"v6 echo from the other side", icmp6(128, 0), back(icmp6(128, 0)), false, false},
		{"v6 too big", icmp6(2, 0), icmp6(2, 0), true, true},
		{"v6 too big back", icmp6(2, 0), back(icmp6(2, 0)), false, false},
	} {
		for _, input := range []bool{true, false} {
			table := New(100, 4)
			table.must(t, keys(c.made, 1, input), 1)
			if _, ok := table.see(keys(c.next, 1, input == c.same)); ok != c.found {
				t.Errorf("%s, input %v: found %v", c.what, input, ok)
			}
		}
	}
	later := icmp(8, 0)
	later.Later = true
	table := New(100, 4)
	table.must(t, keys(later, 1, true), 1)
	if _, ok := table.see(keys(back(icmp(0, 0)), 1, false)); ok {
		t.Error("a later fragment of ICMP let an answer in")
	}
}

func TestTimeouts(t *testing.T) {
	table := New(100, 4)
	table.SetTimeout(UDPIdle, 10)
	table.SetTimeout(TCPIdle, 100)
	table.SetTimeout(TCPTransient, 20)
	udp := table.must(t, keys(flow4(1, 2, 3, 4, 17), 1, true), 1000)
	tcp := table.must(t, keys(flow4(1, 2, 3, 4, 6), 1, true), 1000)
	open := table.must(t, keys(flow4(1, 2, 3, 5, 6), 1, true), 1000)
	table.Touch(tcp, 1000, tcpSYN, true)
	table.Touch(open, 1000, tcpSYN, true)
	table.Touch(open, 1000, tcpSYN|tcpACK, false)
	table.Touch(open, 1000, tcpACK, true)
	alive := func() (n int) {
		table.Sweep(0, 0)
		for range table.All(1000) {
			n++
		}
		return n
	}
	for _, step := range []struct {
		now  uint32
		want int
	}{{1010, 3}, {1011, 2}, {1020, 2}, {1021, 1}, {1100, 1}, {1101, 0}} {
		table.Sweep(step.now, 1<<20)
		if got := alive(); got != step.want || table.Count() != got {
			t.Errorf("at %d: %d sessions, %d counted, want %d", step.now, got, table.Count(), step.want)
		}
	}
	if table.Touch(udp, 1100, 0, true) {
		t.Error("a session that has timed out is there")
	}
	// A connection that one end closes is transient again, and a packet keeps it.
	open = table.must(t, keys(flow4(1, 2, 3, 5, 6), 1, true), 2000)
	table.Touch(open, 2000, tcpSYN|tcpACK, true)
	table.Touch(open, 2000, tcpSYN|tcpACK, false)
	table.Touch(open, 2015, tcpFIN|tcpACK, false)
	table.Sweep(2035, 1<<20)
	if !table.Touch(open, 2034, 0, true) {
		t.Error("a packet did not keep the session")
	}
	table.Sweep(2055, 1<<20)
	if table.Touch(open, 2054, 0, true) || table.Count() != 0 {
		t.Error("a closed connection lives on")
	}
}

// TestFull: a transient session makes room, the oldest first; others do not.
func TestFull(t *testing.T) {
	table := New(64, 4)
	for n := range uint32(64) {
		table.must(t, keys(flow4(n, 2, 3, 4, 17), 1, true), 1)
	}
	if _, added := table.make(keys(flow4(99, 2, 3, 4, 17), 1, true), 1); added != Full {
		t.Errorf("beyond the limit: %v", added)
	}
	table.Sweep(2+DefaultUDPIdle, 1<<20)
	if table.Count() != 0 {
		t.Fatalf("%d sessions left", table.Count())
	}
	now := uint32(1000)
	for n := range uint32(2000) {
		if _, added := table.make(keys(flow4(n, 2, 3, 4, 6), 1, true), now); added == Full && table.Count() < 64 {
			t.Fatalf("session %d: full at %d", n, table.Count())
		}
	}
	if adds, dels := table.Totals(); int(adds-dels) != table.Count() || table.Count() > 64 || dels < 100 {
		t.Errorf("made %d, ended %d, %d there", adds, dels, table.Count())
	}
	table.SetMax(10)
	if _, added := table.make(keys(flow4(5000, 2, 3, 4, 6), 1, true), now); added == Made && table.Count() > 64 {
		t.Errorf("%d sessions", table.Count())
	}
}

func TestClear(t *testing.T) {
	table := New(100, 4)
	one := table.must(t, keys(flow4(1, 2, 3, 4, 17), 1, true), 1)
	two := table.must(t, keys(flow4(1, 2, 3, 4, 17), 2, true), 1)
	table.Clear(1)
	if _, ok := table.see(keys(flow4(1, 2, 3, 4, 17), 1, true)); ok || table.Touch(one, 1, 0, true) {
		t.Error("a cleared session is there")
	}
	if !table.Touch(two, 1, 0, true) {
		t.Error("a session of another interface is gone")
	}
	again := table.must(t, keys(flow4(1, 2, 3, 4, 17), 1, true), 1)
	if again == one || table.Count() != 2 {
		t.Errorf("made again: %v after %v, %d sessions", again, one, table.Count())
	}
	table.Clear(1)
	table.Sweep(1, 1<<20)
	if table.Count() != 1 {
		t.Errorf("%d sessions after the sweep", table.Count())
	}
	table.ClearAll()
	table.Clear(77)
	if _, ok := table.see(keys(flow4(1, 2, 3, 4, 17), 2, true)); ok {
		t.Error("a session outlives the end of all")
	}
	if _, added := table.make(keys(flow4(1, 2, 3, 4, 17), 77, true), 1); added != Full {
		t.Errorf("a session of no interface: %v", added)
	}
}

// TestRefuse: a session that is refused takes no packets and keeps its place, ages as one
// that is not open, and goes on when the same end is let through again.
func TestRefuse(t *testing.T) {
	table := New(10, 4)
	k := keys(flow4(1, 2, 1000, 80, protoTCP), 1, true)
	k.hash = k.first.hash(table.seed)
	r, _ := table.Add(k, 2, 1)
	table.Touch(r, 1, tcpSYN|tcpACK, true)
	table.Touch(r, 1, tcpSYN|tcpACK, false)
	table.Refuse(r, 4)
	if !table.Refused(r) || table.Touch(r, 2, 0, true) || table.Policy(r) != 4 {
		t.Error("a refused session takes packets, or forgot who refused it")
	}
	if found, ok := table.Find(k); !ok || found != r {
		t.Error("a refused session is not found")
	}
	if adds, dels := table.Totals(); adds != 1 || dels != 1 {
		t.Errorf("%d sessions were made and %d ended", adds, dels)
	}
	if class := table.records[r.place].class(); class != TCPTransient {
		t.Errorf("a refused session has class %d", class)
	}
	if again, added := table.Add(k, 6, 3); again != r || added != Made || table.Refused(r) || table.Policy(r) != 6 {
		t.Errorf("it does not go on: %v %v", again, added)
	}
	if class := table.records[r.place].class(); class != TCPIdle {
		t.Errorf("a restored session has class %d", class)
	}
	table.Refuse(r, 8)
	if other, added := table.Add(k, 9, 3); other == r || added != Made || table.Refused(other) {
		t.Errorf("the other end's is no new one: %v %v", other, added)
	}
	table.Refuse(r, 10)
	if r, _ = table.Find(k); table.Refused(r) {
		t.Error("the end of a session refused the next one in its place")
	}
	table.Refuse(r, 8)
	if table.Restore(r, 10, 4); table.Refused(r) || !table.Touch(r, 5, 0, true) {
		t.Error("a restored session takes no packets")
	}
}

func TestDelete(t *testing.T) {
	table := New(100, 4)
	k := keys(flow4(1, 2, 3, 4, 17), 1, true)
	r := table.must(t, k, 1)
	table.Delete(r)
	table.Delete(r)
	if _, ok := table.see(k); ok || table.Count() != 0 || table.Touch(r, 1, 0, true) {
		t.Errorf("deleted and there; %d sessions", table.Count())
	}
	if r := (Ref{}); table.Touch(r, 1, 0, true) {
		t.Error("no session is there")
	}
}

// TestModel compares the table with a map over random edits.
func TestModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	table := New(5000, 4)
	model := map[Key]Ref{}
	for n := range 200000 {
		f := flow4(rnd.Uint32N(40), 2, uint16(rnd.UintN(40)), 80, []uint8{6, 17}[rnd.IntN(2)])
		k := keys(f, 1, rnd.IntN(2) == 0)
		want, there := model[k.first]
		got, ok := table.see(k)
		if ok != there || got != want && ok {
			t.Fatalf("step %d: found %v, want %v", n, ok, there)
		}
		switch {
		case !there:
			model[k.first] = table.must(t, k, uint32(n/100))
		case rnd.IntN(3) == 0:
			table.Delete(got)
			delete(model, k.first)
		}
		if table.Count() != len(model) {
			t.Fatalf("step %d: %d sessions, want %d", n, table.Count(), len(model))
		}
	}
}

// TestManyThreads: whatever others do, what is found is what was asked for.
func TestManyThreads(t *testing.T) {
	table := New(4000, 4)
	table.SetTimeout(UDPIdle, 3)
	var wait sync.WaitGroup
	for g := range 4 {
		wait.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 3))
			for n := range 30000 {
				now := uint32(n / 1000)
				f := flow4(rnd.Uint32N(2000), 2, 3, 4, 17)
				k := keys(f, 1+rnd.Uint32N(2), true)
				r, ok := table.see(k)
				if !ok {
					r, _ = table.make(k, now)
				}
				if table.Touch(r, now, 0, true) && rnd.IntN(8) == 0 {
					table.Delete(r)
				}
				if g == 0 && n%500 == 0 {
					table.Sweep(now, 1<<20)
					table.Clear(1)
				}
			}
		})
	}
	wait.Wait()
	n := 0
	for range table.All(30) {
		n++
	}
	table.Sweep(1<<20, 1<<20)
	if adds, dels := table.Totals(); table.Count() != 0 || adds != dels {
		t.Errorf("%d sessions left of %d made and %d ended, %d were seen", table.Count(), adds, dels, n)
	}
}

func TestNothingAllocates(t *testing.T) {
	table := New(1000, 4)
	k, n := &Keys{}, uint32(0)
	if allocs := testing.AllocsPerRun(2000, func() {
		n++
		f := Flow{Addrs: [4]uint64{uint64(n)}, Src: 3, Dst: 4, Proto: 6}
		k.set(&f, 1, true)
		r, ok := table.see(k)
		if !ok {
			r, _ = table.make(k, n)
		}
		table.Touch(r, n, tcpSYN, true)
		if n%3 == 0 {
			table.Delete(r)
		}
		table.Sweep(n, 16)
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkFind(b *testing.B) {
	for _, n := range []uint32{1000, 100000} {
		table := New(DefaultMax, 4)
		all := make([]Keys, n)
		for i := range n {
			all[i].set(flow4(i*7919, 2, uint16(i), 80, 6), 1, true)
			table.must(b, &all[i], 1)
		}
		b.Run(map[uint32]string{1000: "1k", 100000: "100k"}[n], func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if _, ok := table.see(&all[uint32(i)*2654435761%n]); !ok {
					b.Fatal("a session is missing")
				}
			}
		})
	}
}
