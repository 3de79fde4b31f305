package worker

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/engine/acl"
	"github.com/millrace/millrace/engine/nat"
	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/session"
)

// natPlay plays random packets on a rig and in the model.
type natPlay struct {
	*rig
	r     *rand.Rand
	m     natModel
	sent  []natSent // that came out, to be answered
	text  []string  // what came out last
	came  []twoEnds
	count map[string]int
}

// natSent is a packet that came out by an interface.
type natSent struct {
	by    uint32
	proto uint8
	p     twoEnds
}

// TestNATAgainstModel plays random packets while services, policies and time change, with
// and without access lists, and compares what comes out.
func TestNATAgainstModel(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			p := &natPlay{r: rand.New(rand.NewPCG(seed, 1)), count: map[string]int{}}
			g := policy(t, 2, acl.PermitReflect)
			p.rig = newRig(t, func(i *Interface) {
				if seed%2 == 1 {
					i.In, i.Out, i.URPF4, i.URPF6 = g, g, FilterLoose, FilterLoose
				}
			})
			p.w.state.SetStateful(&Stateful{Sessions: session.New(session.DefaultMax, 4), Reclassify: true})
			p.m = natModel{sessions: map[natKey]*natSession{}, services: map[nat.Endpoint][]netip.AddrPort{}, policy: &p.nat.Tables.Policy, now: p.w.state.Clock(), shown: p.shown}
			for n := range 8000 {
				if n%50 == 0 {
					p.edit()
				}
				if err := p.step(); err != nil {
					for r, count := range p.w.count.Errors {
						if count > 0 {
							t.Logf("%v: %d", Names()[r], count)
						}
					}
					t.Fatalf("packet %d: %v", n, err)
				}
			}
			if 2*p.nat.Sessions.Count() != len(p.m.sessions) {
				t.Errorf("%d sessions, the model has %d entries", p.nat.Sessions.Count(), len(p.m.sessions))
			}
			for _, kind := range []string{"changed", "unchanged", "answer", "error", "too old"} {
				if p.count[kind] < 50 {
					t.Errorf("only %d times %s", p.count[kind], kind)
				}
			}
		})
	}
}

// edit changes something at random.
func (p *natPlay) edit() {
	switch p.r.IntN(4) {
	case 0:
		policy := p.nat.Tables.Policy
		policy.Pods = nat.Interfaces{}.With(inIf, p.r.IntN(8) > 0).With(outIf, p.r.IntN(4) > 0)
		policy.Include4, policy.Include6 = policy.Pods, policy.Pods
		policy.Source4 = netip.MustParseAddr([]string{"10.0.0.1", "10.0.0.1", "10.0.0.9"}[p.r.IntN(3)])
		p.nat.Tables = p.nat.Tables.WithPolicy(policy)
		p.m.policy = &p.nat.Tables.Policy
		p.publish()
	case 1:
		seconds := uint32(p.r.IntN(20))
		p.tick(seconds)
		p.m.tick(seconds)
	default:
		p.editService()
	}
}

func (p *natPlay) editService() {
	vip := p.vip()
	pool := []string{"10.0.1.2:8080", "10.0.2.2:8080", "10.0.2.3:8080", "192.0.2.1:8080"}
	if vip.Addr().Is6() {
		pool = []string{"[fd00:1::2]:8080", "[fd00:2::2]:8080", "[fd00:2::3]:8080", "[2001:db8::1]:8080"}
	}
	p.r.Shuffle(len(pool), func(i, j int) { pool[i], pool[j] = pool[j], pool[i] })
	pool = pool[:1+p.r.IntN(3)]
	proto := []uint8{packet.ProtoTCP, packet.ProtoUDP}[p.r.IntN(2)]
	at := nat.Endpoint{Addr: vip.Addr(), Port: vip.Port(), Protocol: proto}
	if p.r.IntN(6) == 0 {
		p.nat.Tables = p.nat.Tables.Without(at)
		delete(p.m.services, at)
		p.publish()
	} else {
		p.service(proto, vip.String(), uint32(p.r.IntN(4)), func(t *nat.Translation) { t.Maglev = p.r.IntN(2) == 0 }, pool...)
		p.m.services[at] = nil
		for _, b := range pool {
			p.m.services[at] = append(p.m.services[at], netip.MustParseAddrPort(b))
		}
	}
	p.m.policy = &p.nat.Tables.Policy
}

func (p *natPlay) pick(all ...string) netip.AddrPort {
	return netip.MustParseAddrPort(all[p.r.IntN(len(all))])
}

func (p *natPlay) vip() netip.AddrPort {
	return p.pick("10.96.0.1:80", "10.96.0.2:80", "10.0.0.1:30000", "[fd00:96::1]:80", "[fd00:96::2]:80")
}

// packet is a random packet and the interface that it comes in by.
func (p *natPlay) packet() (uint32, wire) {
	w := wire{ttl: 64, data: p.r.IntN(40), proto: []uint8{packet.ProtoTCP, packet.ProtoUDP, packet.ProtoUDP, packet.ProtoICMP}[p.r.IntN(4)]}
	if n := len(p.sent); n > 0 && p.r.IntN(2) == 0 {
		s := p.sent[p.r.IntN(n)]
		w.proto, w.src, w.dst = s.proto, s.p[1], s.p[0]
		p.kind(&w, 0)
		return s.by, w
	}
	by := uint32(1 + p.r.IntN(3))
	ends := [4][2][]string{
		1: {{"10.0.1.2", "10.0.1.3"}, {"[fd00:1::2]"}}, 2: {{"10.0.2.2"}, {"[fd00:2::2]"}}, 3: {{"192.0.2.1"}, {"[2001:db8::1]"}},
	}
	six := p.r.IntN(3) / 2
	from := ends[by][six]
	w.src = netip.MustParseAddrPort(fmt.Sprintf("%s:%d", from[p.r.IntN(len(from))], 1000+p.r.IntN(6)))
	for w.dst = p.vip(); w.dst.Addr().Is4() != (six == 0); {
		w.dst = p.vip()
	}
	if p.r.IntN(3) == 0 || w.proto == packet.ProtoICMP {
		to := ends[1+p.r.IntN(3)][six]
		w.dst = netip.MustParseAddrPort(fmt.Sprintf("%s:%d", to[p.r.IntN(len(to))], 8080+p.r.IntN(2)))
	}
	p.kind(&w, 8)
	return by, w
}

// kind fills in what hangs on the protocol.
func (p *natPlay) kind(w *wire, echo uint8) {
	six := w.src.Addr().Is6()
	switch w.proto {
	case packet.ProtoTCP:
		const syn, ack, fin, rst = packet.TCPSyn, packet.TCPAck, packet.TCPFin, packet.TCPRst
		w.flags = []uint8{syn, syn | ack, ack, ack, fin | ack, rst}[p.r.IntN(6)]
		w.pending = p.r.IntN(3) == 0
		if w.pending && p.r.IntN(3) == 0 {
			w.gso, w.data = 1000, 3000
		}
	case packet.ProtoUDP:
		w.bare = !six && p.r.IntN(4) == 0
		w.pending = !w.bare && p.r.IntN(4) == 0
	default:
		w.proto, w.echo = packet.ProtoICMP, echo
		if six {
			w.proto, w.echo = packet.ProtoICMPv6, 129-echo/8
		}
		w.dst = withPort(w.dst, w.src.Port())
	}
	if p.r.IntN(20) == 0 && w.gso == 0 {
		w.ttl = 1
	}
}

// step plays a packet, or an error about one that came out.
func (p *natPlay) step() error {
	if n := len(p.sent); n > 0 && p.r.IntN(10) == 0 {
		return p.stepError(p.sent[p.r.IntN(n)])
	}
	by, w := p.packet()
	if w.ttl <= 1 && p.m.chooses(&w) {
		w.ttl = 64 // else a flow would begin to a backend that nobody sees
	}
	sent := describe(w.buffer().Bytes())
	p.play(int(by), w)
	var saw *twoEnds
	if len(p.came) > 0 && w.ttl > 1 {
		saw = &p.came[0]
	}
	before := p.m.begun
	to, want, err := p.m.way(by, w, saw)
	if err == nil && to != 0 {
		err = p.compare(want.text(to, w), w.gso > 0)
	} else if err == nil && route(want[1].Addr()) != 0 {
		p.count["too old"]++
		_, _, told := p.m.tell(netip.MustParseAddr("10.0.0.1"), w.proto, want, true)
		w.src, w.dst, w.ttl = told[0], told[1], 1
		err = p.compareError(by, 255, "", &w)
	}
	if err != nil {
		return fmt.Errorf("%d: %s: %w", by, sent, err)
	}
	if to != 0 {
		p.learn(by, w, to, want, p.m.begun != before)
	}
	return nil
}

// stepError plays "port unreachable" about a packet that came out, by whom it was for or
// somebody on the way.
func (p *natPlay) stepError(s natSent) error {
	inner := wire{proto: s.proto, src: s.p[0], dst: s.p[1], ttl: 60, data: 10}
	p.kind(&inner, 8)
	inner.ttl, inner.gso, inner.pending, inner.data = 60, 0, false, 10
	from := s.p[1].Addr()
	if p.r.IntN(2) == 0 {
		from = from.Next().Next().Next().Next()
	}
	sent := about(from.String(), s.p[0].Addr().String(), inner)
	p.play(int(s.by), sent)
	src, dst, told := p.m.tell(from, s.proto, s.p, false)
	to := route(dst)
	if to == 0 {
		return nil
	}
	p.count["error"]++
	inner.src, inner.dst = told[0], told[1]
	if err := p.compareError(to, 63, fmt.Sprintf("%v>%v", src, dst), &inner); err != nil {
		return fmt.Errorf("%d: %s: %w", s.by, describe(sent.buffer().Bytes()), err)
	}
	return nil
}

// text is w, with other ends, as it goes out.
func (p twoEnds) text(by uint32, w wire) string {
	w.src, w.dst, w.ttl, w.gso, w.pending = p[0], p[1], w.ttl-1, 0, false
	return fmt.Sprintf("%d: %s", by, describe(w.buffer().Bytes()))
}

// compare compares what came out, as one packet or as several like it.
func (p *natPlay) compare(want string, several bool) error {
	if len(p.text) == 0 || len(p.text) > 1 && !several {
		return fmt.Errorf("came out %q, want %q", p.text, want)
	}
	for _, got := range p.text {
		if got != want {
			return fmt.Errorf("came out %q, want %q", got, want)
		}
	}
	return nil
}

// compareError is compare for an error about inner. Few of the node's own are sent in a
// short time.
func (p *natPlay) compareError(by uint32, ttl int, ends string, inner *wire) error {
	if len(p.text) == 0 && ttl == 255 {
		return nil
	}
	about := "[" + strings.TrimSuffix(describe(inner.buffer().Bytes()), " bad checksum") + "]"
	if len(p.text) != 1 || !strings.HasPrefix(p.text[0], fmt.Sprintf("%d: icmp ", by)) || !strings.Contains(p.text[0], ends) ||
		!strings.HasSuffix(p.text[0], fmt.Sprintf("ttl %d %s", ttl, about)) {
		return fmt.Errorf("came out %q, want an error %s with ttl %d by %d about %s", p.text, ends, ttl, by, about)
	}
	return nil
}

// learn remembers what came out. Where a flow began, others that nobody translated before
// are looked for with the next second.
func (p *natPlay) learn(by uint32, w wire, to uint32, now twoEnds, began bool) {
	switch {
	case now == twoEnds{w.src, w.dst}:
		p.count["unchanged"]++
	case by != to && p.m.sessions[natKey{true, w.proto, now[0], now[1]}] == nil:
		p.count["changed"]++
	default:
		p.count["answer"]++
	}
	p.sent = append(p.sent, natSent{to, w.proto, now})
	if len(p.sent) > 100 {
		p.sent = slices.Delete(p.sent, 0, 50)
	}
	if began {
		p.tick(1)
		p.m.tick(1)
	}
}

// shown is the source port that a flow which comes in has got.
func (p *natPlay) shown(proto uint8, ends twoEnds) uint16 {
	for i := range p.nat.Sessions.All(p.w.state.Clock()) {
		if i.Proto == proto && !i.Output && !i.Back && i.Src == ends[0] && i.Dst == ends[1] {
			return i.NewSrc.Port()
		}
	}
	return 0
}

// play has the rig play a packet, and looks at what came out.
func (p *natPlay) play(by int, w wire) {
	p.text, p.came = p.rig.play(by, w), nil
	for _, raw := range p.raw {
		var l nat.Look
		if l.Look(raw, 0); l.Known && !l.Error {
			src, dst := endsOf(&l.Key.Tuple, l.Key.Kind&nat.KeyIP6 != 0)
			p.came = append(p.came, twoEnds{src, dst})
		}
	}
}
