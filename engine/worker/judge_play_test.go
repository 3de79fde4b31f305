package worker

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/millrace/millrace/engine/acl"
	"github.com/millrace/millrace/engine/fib"
	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/engine/session"
)

// recorder is a port that notes the ids of what it is sent.
type recorder struct {
	feed
	ids []uint16
}

func (r *recorder) Transmit(_ int, bufs []*packet.Buffer) (int, error) {
	for _, b := range bufs {
		p := b.L3Bytes()
		if p[0]>>4 == 4 {
			r.ids = append(r.ids, packet.IPv4(p).ID())
		} else {
			r.ids = append(r.ids, uint16(p[2])<<8|uint16(p[3])) // of the flow label
		}
	}
	return len(bufs), nil
}

// bytes is the packet.
func (p modelPacket) bytes() []byte {
	up := make([]byte, 24)
	switch p.proto {
	case 1, 58:
		up[0], up[1] = byte(p.sport), byte(p.dport)
	case 6, 17:
		binary.BigEndian.PutUint16(up, p.sport)
		binary.BigEndian.PutUint16(up[2:], p.dport)
		if p.proto == 6 {
			up[12], up[13] = 5<<4, p.flags
		}
	}
	if p.src.Is4() {
		b := append(make([]byte, packet.IPv4Len), up...)
		h := packet.MakeIPv4(b, p.src.As4(), p.dst.As4(), p.proto, 64)
		h.SetID(p.id)
		if p.later {
			binary.BigEndian.PutUint16(b[6:], 100)
		} else if p.first {
			binary.BigEndian.PutUint16(b[6:], 0x2000)
		}
		h.UpdateHeaderChecksum()
		return b
	}
	next, extra := p.proto, []byte(nil)
	if p.later {
		next, extra = packet.ProtoFragment, []byte{p.proto, 0, 100 >> 5, 100 << 3 & 0xf8, 0, 0, 0, 1}
	} else if p.first {
		next, extra = packet.ProtoFragment, []byte{p.proto, 0, 0, 1, 0, 0, 0, 1}
	}
	b := append(make([]byte, packet.IPv6Len), append(extra, up...)...)
	packet.MakeIPv6(b, p.src.As16(), p.dst.As16(), next, 64)
	binary.BigEndian.PutUint16(b[2:], p.id)
	return b
}

func randomPacket(r *rand.Rand, from int, six bool) modelPacket {
	host := func(i int) netip.Addr {
		if six {
			return netip.AddrFrom16([16]byte{0: 0xfd, 7: byte(i), 15: byte(1 + r.IntN(2))})
		}
		return netip.AddrFrom4([4]byte{10, 0, byte(i), byte(1 + r.IntN(2))})
	}
	p := modelPacket{src: host(from), dst: host(3 - from), proto: []uint8{6, 17, 1, 47}[r.IntN(4)]}
	if six && p.proto == 1 {
		p.proto = 58
	}
	switch p.proto {
	case 1:
		p.sport, p.dport = []uint16{8, 0, 3}[r.IntN(3)], uint16(r.IntN(2))
	case 58:
		p.sport, p.dport = []uint16{128, 129, 1}[r.IntN(3)], uint16(r.IntN(2))
	case 6, 17:
		p.sport, p.dport = uint16(10+r.IntN(2)), uint16(10+r.IntN(2))
		if r.IntN(2) == 0 {
			p.sport, p.dport = 10, 10
		}
		if p.proto == 6 {
			p.flags = []uint8{2, 0x12, 0x10, 0x11, 4}[r.IntN(5)]
		}
	}
	switch r.IntN(10) {
	case 0:
		p.later, p.sport, p.dport, p.flags = true, 0, 0, 0
	case 1:
		p.first = true
	}
	return p
}

func randomRules(r *rand.Rand) []acl.Rule {
	rules := []acl.Rule{}
	for range r.IntN(7) {
		six := r.IntN(2) == 0
		some := func() netip.Prefix {
			if six {
				return []netip.Prefix{netip.MustParsePrefix("::/0"), netip.MustParsePrefix("fd00:0:0:1::/64"), netip.MustParsePrefix("fd00:0:0:2::1/128")}[r.IntN(3)]
			}
			return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("10.0.1.0/24"), netip.MustParsePrefix("10.0.2.1/32")}[r.IntN(3)]
		}
		rule := acl.Rule{Action: acl.Action(r.IntN(3)), Src: some(), Dst: some(), SrcPorts: acl.AnyPorts(), DstPorts: acl.AnyPorts()}
		rule.Protocol = []uint8{0, 0, 6, 17, 1, 58}[r.IntN(6)]
		if r.IntN(2) == 0 {
			rule.DstPorts = acl.Ports{First: 0, Last: uint16(10 * r.IntN(2))}
		}
		if echo := map[uint8]uint16{1: 8, 58: 128}[rule.Protocol]; echo != 0 && r.IntN(2) == 0 {
			rule.SrcPorts = acl.Ports{First: echo, Last: echo}
		}
		if r.IntN(5) == 0 {
			rule.Protocol, rule.TCPMask, rule.TCPValue = 6, 0x12, 0x02
		}
		rules = append(rules, rule)
	}
	if r.IntN(2) == 0 {
		for _, all := range []string{"0.0.0.0/0", "::/0"} {
			rules = append(rules, acl.Rule{Action: acl.Action(1 + r.IntN(2)), Src: netip.MustParsePrefix(all), Dst: netip.MustParsePrefix(all)})
		}
	}
	return rules
}

// TestJudgeAgainstModel plays random packets between two guarded links, while lists and
// time change, and compares each packet's fate.
func TestJudgeAgainstModel(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { playModel(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

type modelRig struct {
	w     *Worker
	ports [3]*recorder
	ifs   []*Interface
	table *session.Table
	model *model
}

func playModel(t *testing.T, r *rand.Rand) {
	g := newModelRig(t)
	id := uint16(0)
	for step := range 600 {
		g.change(t, r)
		from := 1 + r.IntN(2)
		var batch []modelPacket
		want := map[uint16]bool{}
		for range 1 + r.IntN(8) {
			p := randomPacket(r, from, r.IntN(3) == 0)
			for range 1 + r.IntN(2) { // often twice in a row
				id++
				p.id = id
				batch = append(batch, p)
				want[id] = g.model.passes(from, true, p) && g.model.passes(3-from, false, p)
			}
		}
		got := g.send(from, batch)
		for _, p := range batch {
			if got[p.id] != want[p.id] {
				t.Fatalf("step %d: %+v from %d: passes %v, want %v\nlists %v\npolicies %v reclassify %v now %d", step, p, from, got[p.id], want[p.id],
					g.model.rules, g.model.policy, g.model.reclassify, g.model.now)
			}
		}
		if adds, dels := g.table.Totals(); uint64(g.model.live()) != adds-dels {
			t.Fatalf("step %d: %d sessions, want %d", step, adds-dels, g.model.live())
		}
	}
	check := uint64(0)
	for _, v6 := range []bool{false, true} {
		check += g.w.count.Errors[aclReason(aclCheck, true, v6)] + g.w.count.Errors[aclReason(aclCheck, false, v6)]
	}
	if check != uint64(g.model.judged) {
		t.Errorf("%d packets checked, want %d", check, g.model.judged)
	}
}

// change edits something now and then.
func (g *modelRig) change(t *testing.T, r *rand.Rand) {
	m := g.model
	switch i, d := 1+r.IntN(2), r.IntN(2); r.IntN(20) {
	case 0, 1: // other rules
		if m.rules[i][d] = randomRules(r); r.IntN(6) == 0 {
			m.rules[i][d] = nil
		}
		if m.reclassify {
			m.policy[i][d]++
		}
		g.publish(t)
	case 2:
		m.reclassify = !m.reclassify
		g.publish(t)
	case 3: // time passes
		m.now += []uint32{1, 5, 15, 40}[r.IntN(4)]
		g.w.state.clock.Store(m.now)
		g.table.Sweep(m.now, 1<<20)
		m.expire(10, 100, 30)
	case 4:
		g.table.Clear(uint32(i))
		g.table.Sweep(m.now, 1<<20)
		for k := range m.sessions {
			if k.iface == i {
				delete(m.sessions, k)
			}
		}
		g.w.state.Bump()
	}
}

// publish makes the worker see the model's lists.
func (g *modelRig) publish(t *testing.T) {
	m := g.model
	g.w.state.SetStateful(&Stateful{Sessions: g.table, Reclassify: m.reclassify})
	ifs := []*Interface{nil}
	for i := 1; i <= 2; i++ {
		c := *g.ifs[i]
		c.In, c.Out = nil, nil
		for d, at := range [2]**Guard{&c.In, &c.Out} {
			if m.rules[i][d] != nil {
				*at = guardOf(t, m.rules[i][d]...)
				(*at).Policy = uint32(m.policy[i][d])
			}
		}
		ifs = append(ifs, &c)
	}
	g.w.state.SetInterfaces(ifs)
	g.w.state.Bump()
}

func (g *modelRig) send(from int, batch []modelPacket) map[uint16]bool {
	in, out := g.ports[from], g.ports[3-from]
	in.pkts, in.at, in.per, out.ids = nil, 0, len(batch), nil
	for _, p := range batch {
		in.pkts = append(in.pkts, p.bytes())
	}
	g.w.serve(&Queue{Interface: uint32(from), Port: in})
	got := map[uint16]bool{}
	for _, id := range out.ids {
		got[id] = true
	}
	return got
}

func newModelRig(t *testing.T) *modelRig {
	t.Helper()
	w, _, _ := testWorker(t, 1, port.IP, nil)
	g := &modelRig{w: w, table: session.New(10000, 4), model: &model{now: 1, sessions: map[modelKey]*modelSession{}}}
	g.table.SetTimeout(session.UDPIdle, 10)
	g.table.SetTimeout(session.TCPIdle, 100)
	g.table.SetTimeout(session.TCPTransient, 30)
	g.ifs = w.state.interfaces.Load().list
	trie, hash := g.ifs[1].Table4.Trie, g.ifs[1].Table6.Hash
	for i := uint32(1); i <= 2; i++ {
		g.ports[i] = &recorder{feed: feed{link: port.IP}}
		c := *g.ifs[i]
		c.Port = g.ports[i]
		g.ifs[i] = &c
		adj := 10 + i
		w.state.SetAdjacency(adj, &Adjacency{Kind: KindRewrite, Interface: i, MTU: 9000})
		w.state.SetRoute(adj, &Route{Balance: fib.NewBalance([]fib.Weighted{{Target: adj, Weight: 1}}), RPF: []uint32{i}})
		w.state.SetLeaf(4+i, adj)
		trie.Insert(10<<24|i<<8, 24, 4+i)
		hash.Insert([16]byte{0: 0xfd, 7: byte(i)}, 64, 4+i)
	}
	g.publish(t)
	return g
}
