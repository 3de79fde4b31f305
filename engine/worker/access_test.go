package worker

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/engine/acl"
	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/engine/session"
)

// policy is n rules about prefixes and ports that the test's flows do not meet, and last
// one for every packet of both families.
func policy(tb testing.TB, n int, last acl.Action) *Guard {
	tb.Helper()
	r := rand.New(rand.NewPCG(5, 6))
	var rules []acl.Rule
	for range max(0, n-2) {
		peer := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(r.Uint32()), byte(r.Uint32())}), 24+r.IntN(9)).Masked()
		first := uint16(r.Uint32N(60000))
		rules = append(rules, acl.Rule{Action: acl.PermitReflect, Src: netip.MustParsePrefix("0.0.0.0/0"), Dst: peer, Protocol: packet.ProtoUDP,
			SrcPorts: acl.AnyPorts(), DstPorts: acl.Ports{First: first, Last: first + uint16(r.Uint32N(100))}})
	}
	for _, all := range []string{"0.0.0.0/0", "::/0"} {
		rules = append(rules, acl.Rule{Action: last, Src: netip.MustParsePrefix(all), Dst: netip.MustParsePrefix(all)})
	}
	return guardOf(tb, rules...)
}

func guardOf(tb testing.TB, rules ...acl.Rule) *Guard {
	tb.Helper()
	list, err := acl.New(rules)
	if err != nil {
		tb.Fatal(err)
	}
	rows := [][]Combined{make([]Combined, len(rules)+1), make([]Combined, len(rules)+1)}
	flags := slices.ContainsFunc(rules, func(r acl.Rule) bool { return r.TCPMask|r.TCPValue != 0 })
	return &Guard{Chain: acl.Join(list), Rows: [][][]Combined{rows}, TCPFlags: flags}
}

// guardedWorker is a testWorker whose links both have lists, in both directions, after a
// strict source check as pods have it.
func guardedWorker(tb testing.TB, link port.Link, g *Guard, count bool) (*Worker, *feed, *feed) {
	tb.Helper()
	w, in, out := testWorker(tb, 1, link, func(i *Interface) {
		i.URPF4, i.URPF6 = FilterStrict, FilterStrict
		i.In, i.Out = g, g
	})
	w.state.SetStateful(&Stateful{Sessions: session.New(session.DefaultMax, 4), Reclassify: true, CountRules: count})
	return w, in, out
}

// makeTCP makes Ethernet packets of flows4 segments of connections under way.
func makeTCP(pkts [][]byte) {
	for _, p := range pkts {
		ip := packet.IPv4(p[packet.EthLen:])
		ip[9] = packet.ProtoTCP
		ip[packet.IPv4Len+12], ip[packet.IPv4Len+13] = 5<<4, packet.TCPAck
		ip.UpdateHeaderChecksum()
	}
}

func TestJudgingDoesNotAllocate(t *testing.T) {
	tcp := flows4(500, port.Ethernet)
	makeTCP(tcp)
	flags := acl.Rule{Action: acl.Permit, Src: netip.MustParsePrefix("0.0.0.0/0"), Dst: netip.MustParsePrefix("0.0.0.0/0"), Protocol: 6,
		SrcPorts: acl.AnyPorts(), DstPorts: acl.AnyPorts(), TCPMask: 2}
	for _, tt := range []struct {
		name string
		link port.Link
		pkts [][]byte
		g    *Guard
	}{
		{"reflect", port.Ethernet, flows4(1000, port.Ethernet), policy(t, 100, acl.PermitReflect)},
		{"permit", port.IP, flows4(1000, port.IP), policy(t, 100, acl.Permit)},
		{"deny", port.IP, flows4(1000, port.IP), policy(t, 100, acl.Deny)},
		{"IPv6", port.IP, flows6(1000), policy(t, 100, acl.PermitReflect)},
		{"TCP", port.Ethernet, tcp, policy(t, 100, acl.PermitReflect)},
		{"TCP flags", port.Ethernet, tcp, guardOf(t, flags)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, in, out := guardedWorker(t, tt.link, tt.g, true)
			in.pkts = tt.pkts
			q := &Queue{Interface: inIf, Port: in}
			w.serve(q)
			n := uint32(0)
			if allocs := testing.AllocsPerRun(100, func() {
				w.serve(q)
				switch n++; n % 8 {
				case 3: // first packets again
					w.state.stateful.Load().Sessions.Clear(inIf)
					w.state.Bump()
				case 5: // sessions are refreshed
					w.state.clock.Add(1)
				case 7:
					w.state.Bump()
				}
			}); allocs != 0 {
				t.Errorf("%v allocations per batch", allocs)
			}
			if denies := tt.name == "deny"; denies != (out.sent == 0) {
				t.Errorf("%d packets were sent", out.sent)
			}
		})
	}
}

// TestEstablishedFlowsAskNobody: what the flow cache knows needs neither rules nor the
// table of sessions, until the clock moves.
func TestEstablishedFlowsAskNobody(t *testing.T) {
	w, in, out := guardedWorker(t, port.IP, policy(t, 10, acl.PermitReflect), false)
	in.pkts = flows4(packet.BatchSize, port.IP)
	q := &Queue{Interface: inIf, Port: in}
	w.serve(q)
	table := w.state.stateful.Load().Sessions
	if adds, _ := table.Totals(); adds != 2*packet.BatchSize {
		t.Fatalf("%d sessions of %d flows and two interfaces", adds, packet.BatchSize)
	}
	table.ClearAll() // unknown to the workers: the generation is the old one
	w.serve(q)
	if adds, _ := table.Totals(); adds != 2*packet.BatchSize || out.sent != 2*packet.BatchSize {
		t.Errorf("%d sessions, %d packets sent: somebody asked", adds, out.sent)
	}
	w.state.clock.Add(1)
	w.serve(q)
	if adds, _ := table.Totals(); adds != 4*packet.BatchSize || out.sent != 3*packet.BatchSize {
		t.Errorf("%d sessions, %d packets sent: nobody noticed that the sessions are gone", adds, out.sent)
	}
	exist := w.count.Errors[aclReason(aclExist, true, false)] + w.count.Errors[aclReason(aclExist, false, false)]
	check := w.count.Errors[aclReason(aclCheck, true, false)] + w.count.Errors[aclReason(aclCheck, false, false)]
	if exist != 2*packet.BatchSize || check != 6*packet.BatchSize {
		t.Errorf("%d packets of sessions, %d checked", exist, check)
	}
}

// fresh makes each packet that a feed gives the first of a flow.
type fresh struct {
	*feed
	n uint32
}

func (f *fresh) Receive(q int, bufs []*packet.Buffer) (int, error) {
	n, err := f.feed.Receive(q, bufs)
	for _, b := range bufs[:n] {
		p := b.Bytes()
		binary.BigEndian.PutUint32(p[len(p)-26:], f.n) // the ports
		f.n++
	}
	return n, err
}

// side is one of two workers that a benchmark compares.
type side struct {
	w     *Worker
	q     *Queue
	times []time.Duration
}

func newSide(b *testing.B, g *Guard, flows int, first, tcp bool) *side {
	w, in, _ := guardedWorker(b, port.Ethernet, g, false)
	if in.pkts = flows4(flows, port.Ethernet); tcp {
		makeTCP(in.pkts)
	}
	s := &side{w: w, q: &Queue{Interface: inIf, Port: in}}
	if first {
		s.q.Port = &fresh{feed: in}
	}
	s.run(flows/packet.BatchSize + 1)
	s.times = s.times[:0]
	return s
}

func (s *side) run(batches int) {
	from := time.Now()
	for range batches {
		s.w.serve(s.q)
	}
	s.times = append(s.times, time.Since(from)/time.Duration(batches))
}

// perPacket is the median of a packet's times, in ns: others use this machine, too.
func (s *side) perPacket() float64 {
	slices.Sort(s.times)
	return float64(s.times[len(s.times)/2].Nanoseconds()) / packet.BatchSize
}

// BenchmarkPolicy forwards flows of 60 bytes between Ethernets with a strict source check,
// without lists and with lists of 10 to 10,000 rules on both interfaces in both directions,
// turn by turn: "more" is the second's time over the first's.
func BenchmarkPolicy(b *testing.B) {
	const turn = 2 // batches: short, since others take the processor in between
	run := func(name string, rules, flows int, first, tcp bool) {
		b.Run(name, func(b *testing.B) {
			without, with := newSide(b, nil, flows, first, tcp), newSide(b, policy(b, rules, acl.PermitReflect), flows, first, tcp)
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if n%2 == 0 { // whoever comes second finds the machine warm
					without.run(turn)
					with.run(turn)
				} else {
					with.run(turn)
					without.run(turn)
				}
				if first && n%128 == 127 {
					b.StopTimer()
					t := with.w.state.stateful.Load().Sessions
					t.ClearAll()
					t.Sweep(1, 1<<30)
					b.StartTimer()
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(without.perPacket(), "ns/packet-without")
			b.ReportMetric(with.perPacket(), "ns/packet-with")
			b.ReportMetric(with.perPacket()/without.perPacket(), "more")
		})
	}
	for _, flows := range []int{1000, 100000} {
		for _, rules := range []int{10, 1000, 10000} {
			run(fmt.Sprintf("established/flows=%d/rules=%d", flows, rules), rules, flows, false, false)
		}
		run(fmt.Sprintf("established/tcp/flows=%d/rules=1000", flows), 1000, flows, false, true)
	}
	for _, rules := range []int{10, 1000, 10000} {
		run(fmt.Sprintf("first/rules=%d", rules), rules, 1000, true, false)
	}
}
