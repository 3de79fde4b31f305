package vnet

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/millrace/millrace/engine/acl"
	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/engine/port/pipe"
	"github.com/millrace/millrace/engine/session"
)

// aclRule matches UDP between two prefixes, to the given ports.
func aclRule(action acl.Action, src, dst string, first, last uint16) acl.Rule {
	return acl.Rule{Action: action, Src: netip.MustParsePrefix(src), Dst: netip.MustParsePrefix(dst), Protocol: 17,
		SrcPorts: acl.AnyPorts(), DstPorts: acl.Ports{First: first, Last: last}}
}

// anything matches all packets of both families.
func anything(action acl.Action) []acl.Rule {
	return []acl.Rule{
		{Action: action, Src: netip.MustParsePrefix("0.0.0.0/0"), Dst: netip.MustParsePrefix("0.0.0.0/0")},
		{Action: action, Src: netip.MustParsePrefix("::/0"), Dst: netip.MustParsePrefix("::/0")},
	}
}

func (r *rig) acl(rules ...acl.Rule) uint32 {
	r.Helper()
	i, err := r.p.ReplaceACL(NoIndex, "test", rules)
	r.must(err)
	return i
}

// lists puts lists on an interface.
func (e *end) lists(in, out []uint32) {
	e.Helper()
	e.must(e.p.SetACLLists(e.index, in, out))
}

// passes sends a packet from e to to; twice, since the second time the flow is known.
func (e *end) passes(to *end, d pkt) {
	e.Helper()
	for range 2 {
		e.send(e.frame(d))
		to.next()
	}
}

func (e *end) blocked(to *end, d pkt) {
	e.Helper()
	for range 2 {
		e.send(e.frame(d))
		to.quiet(e)
	}
}

func reply(d pkt) pkt {
	d.src, d.dst, d.sport, d.dport = d.dst, d.src, d.dport, d.sport
	return d
}

// guarded is two links, with flows of both families between them.
func guarded(t *testing.T, workers int) (r *rig, a, b *end, flows []pkt) {
	r = newRig(t, workers)
	a, b = r.tun("10.0.0.1/24", "fd00:a::1/64"), r.tun("10.0.1.1/24", "fd00:b::1/64")
	return r, a, b, []pkt{
		{src: "10.0.0.2", dst: "10.0.1.2", sport: 1000, dport: 80},
		{src: "fd00:a::2", dst: "fd00:b::2", sport: 1000, dport: 80},
	}
}

func TestFirstMatchDecides(t *testing.T) {
	r, a, b, flows := guarded(t, 1)
	deny := r.acl(aclRule(acl.Deny, "10.0.0.0/24", "0.0.0.0/0", 80, 80), aclRule(acl.Permit, "10.0.0.0/24", "0.0.0.0/0", 0, 65535))
	permit := r.acl(anything(acl.Permit)...)
	empty := r.acl()
	other := flows[0]
	other.dport = 81
	for _, in := range []bool{true, false} {
		set := func(lists ...uint32) {
			if in {
				a.lists(lists, nil)
			} else {
				b.lists(nil, lists)
			}
		}
		set(deny, permit)
		a.blocked(b, flows[0])
		a.passes(b, other)
		a.passes(b, flows[1])
		set(permit, deny)
		a.passes(b, flows[0])
		set(deny)
		a.passes(b, other)
		a.blocked(b, flows[1]) // no rule of its family
		set(empty)
		a.blocked(b, other)
		set(empty, permit)
		a.passes(b, other)
		set()
		a.passes(b, flows[0])
		a.passes(b, flows[1])
		if in {
			a.lists(nil, nil)
		}
	}
	b.passes(a, reply(flows[0]))
	r.wantCount("ACL deny packets", 2*(2+2+2))
}

// The reply comes in at another worker than the packet it answers.
func TestReflection(t *testing.T) {
	r, a, b, flows := guarded(t, 2)
	reflect, deny := r.acl(anything(acl.PermitReflect)...), r.acl(anything(acl.Deny)...)
	flows = append(flows, pkt{src: "10.0.0.2", dst: "10.0.1.2", sport: 9, icmp: true}, pkt{src: "fd00:a::2", dst: "fd00:b::2", sport: 9, icmp: true})
	for _, d := range flows {
		a.lists([]uint32{reflect}, []uint32{deny})
		b.lists([]uint32{deny}, []uint32{reflect})
		if !d.icmp {
			b.blocked(a, reply(d))
		}
		a.passes(b, d)
		if !d.icmp {
			b.passes(a, reply(d))
			other := reply(d)
			other.dport++
			b.blocked(a, other)
		}
		b.blocked(a, pkt{src: d.dst, dst: d.src, sport: 9, icmp: true})
		// Other lists end the sessions of their interface.
		a.lists([]uint32{reflect}, []uint32{deny, r.acl()})
		b.lists([]uint32{deny}, []uint32{reflect, r.acl()})
		if !d.icmp {
			b.blocked(a, reply(d))
		}
	}
}

// A list that is replaced leaves sessions alone, unless they are to be judged again: then
// a flow that is forbidden now stops with its next packet, whichever way that goes.
func TestReplacedUnderALiveSession(t *testing.T) {
	r, a, b, flows := guarded(t, 2)
	list, deny := r.acl(anything(acl.PermitReflect)...), r.acl(anything(acl.Deny)...)
	replace := func(action acl.Action) {
		_, err := r.p.ReplaceACL(list, "test", anything(action))
		r.must(err)
	}
	for _, d := range flows {
		replace(acl.PermitReflect)
		a.lists([]uint32{list}, []uint32{deny})
		a.passes(b, d)
		replace(acl.Deny)
		a.passes(b, d)
		b.passes(a, reply(d))
		r.must(r.p.SetReclassify(true))
		a.passes(b, d) // changed before anybody wanted to know
		b.passes(a, reply(d))
		replace(acl.PermitReflect)
		a.passes(b, d)
		b.passes(a, reply(d))
		replace(acl.Deny)
		b.blocked(a, reply(d)) // the answer is the first to come
		a.blocked(b, d)
		replace(acl.PermitReflect)
		a.passes(b, d)
		replace(acl.Permit)
		a.passes(b, d)
		b.blocked(a, reply(d))
		replace(acl.PermitReflect)
		a.passes(b, d)
		// The same lists in another order, and others that allow the same.
		a.lists([]uint32{r.acl(anything(acl.PermitReflect)...), list}, []uint32{deny})
		b.passes(a, reply(d))
		a.lists(nil, []uint32{deny})
		b.passes(a, reply(d)) // as in VPP: what is not judged cannot be judged again
		a.lists(nil, nil)
		a.lists(nil, []uint32{deny})
		b.blocked(a, reply(d))
		r.must(r.p.SetReclassify(false))
		a.lists(nil, nil)
	}
}

// A session lives as long as packets come, also those that only the flow cache sees.
func TestSessionsAgeAndAreRefreshed(t *testing.T) {
	r, a, b, flows := guarded(t, 1)
	a.lists([]uint32{r.acl(anything(acl.PermitReflect)...)}, []uint32{r.acl(anything(acl.Deny)...)})
	r.must(r.p.SetSessionTimeout(session.UDPIdle, 100))
	at := time.Now()
	pass := func(d time.Duration) {
		at = at.Add(d)
		r.p.state.Advance(at)
		r.p.sweepSessions()
	}
	pass(time.Hour) // the housekeeper's own clock stays behind
	r.p.mu.Lock()
	r.p.now = func() time.Time { return at }
	r.p.mu.Unlock()
	d := flows[0]
	for range 5 {
		a.passes(b, d)
		pass(90 * time.Second)
	}
	b.passes(a, reply(d))
	pass(90 * time.Second)
	b.passes(a, reply(d))
	if s := r.p.Sessions(); s.Adds != 1 || s.Dels != 0 || s.Live != 1 {
		t.Errorf("%+v", s)
	}
	pass(102 * time.Second)
	b.blocked(a, reply(d))
	a.passes(b, d)
	b.passes(a, reply(d))
	if s := r.p.Sessions(); s.Adds != 2 || s.Dels != 1 {
		t.Errorf("%+v", s)
	}
	r.must(r.p.ClearSessions())
	b.blocked(a, reply(d))
}

// Rules count the packets that they decide about, not those of sessions, from when they are
// asked to.
func TestRulesCount(t *testing.T) {
	r, a, b, flows := guarded(t, 1)
	list := r.acl(aclRule(acl.Deny, "0.0.0.0/0", "0.0.0.0/0", 81, 81), aclRule(acl.Permit, "0.0.0.0/0", "0.0.0.0/0", 0, 65535))
	reflect := r.acl(anything(acl.PermitReflect)...)
	a.lists([]uint32{list}, nil)
	b.lists(nil, []uint32{reflect})
	count := func(list uint32, rule int) (packets, bytes uint64) {
		r.p.barrier()
		r.p.mu.Lock()
		defer r.p.mu.Unlock()
		for _, row := range r.p.access.lists[list].rows {
			packets += row[rule].Packets
			bytes += row[rule].Bytes
		}
		return packets, bytes
	}
	want := func(list uint32, rule int, packets uint64) {
		t.Helper()
		if n, bytes := count(list, rule); n != packets || bytes != packets*uint64(len(a.frame(flows[0]))) {
			t.Errorf("rule %d of list %d counts %d packets, %d bytes, want %d", rule, list, n, bytes, packets)
		}
	}
	a.passes(b, flows[0])
	want(list, 1, 0) // not yet asked for
	r.must(r.p.SetCountRules(true))
	for range 3 {
		a.passes(b, flows[0])
	}
	denied := flows[0]
	denied.dport = 81
	a.blocked(b, denied)
	want(list, 1, 6)
	want(list, 0, 2)
	want(reflect, 0, 0) // made its session before
	other := flows[0]
	other.sport++
	a.passes(b, other)
	want(list, 1, 8)
	want(reflect, 0, 1) // the first packet of each flow
	_, err := r.p.ReplaceACL(list, "again", anything(acl.Permit))
	r.must(err)
	want(list, 0, 0)
	r.wantCount("existing session packets", 1+6+1)
	r.wantCount("new sessions added", 2)
}

// What the engine sends itself goes by the lists of the interface it leaves by; ARP and
// neighbour discovery do not.
func TestOurOwnPacketsAreJudged(t *testing.T) {
	r, a, b, flows := guarded(t, 1)
	deny, echo := r.acl(anything(acl.Deny)...), r.acl(anything(acl.PermitReflect)...)
	ping := pkt{src: "10.0.0.2", dst: "10.0.0.1", sport: 1, icmp: true}
	a.lists(nil, []uint32{deny})
	a.blocked(a, ping)
	a.lists([]uint32{echo}, []uint32{deny})
	a.passes(a, ping)
	late := flows[0]
	late.ttl = 1
	a.blocked(a, late) // "time exceeded" is no answer to a session
	a.lists([]uint32{deny}, nil)
	a.blocked(a, ping)
	a.lists(nil, nil)
	b.lists(nil, []uint32{deny})
	a.passes(a, late) // too late for the lists of where it would go
	r.wantCount("ACL deny packets", 2+2+2)
}

func TestDeletedInterfaceForgetsItsLists(t *testing.T) {
	r, a, b, flows := guarded(t, 1)
	list := r.acl(anything(acl.PermitReflect)...)
	deny := r.acl(anything(acl.Deny)...)
	b.lists([]uint32{deny}, []uint32{list})
	a.passes(b, flows[0])
	r.must(r.p.DeleteInterface(b.index))
	r.must(r.p.DeleteACL(list))
	c := r.tun("10.0.1.1/24")
	if c.index != b.index {
		t.Fatalf("the new interface has index %d, not %d", c.index, b.index)
	}
	a.passes(c, flows[0])
	c.passes(a, reply(flows[0]))
	c.lists([]uint32{deny}, nil)
	c.blocked(a, reply(flows[0]))
}

// Unlike VPP, the engine sees the ports of SCTP.
func TestSCTPHasPorts(t *testing.T) {
	r, a, b, flows := guarded(t, 1)
	rules := []acl.Rule{aclRule(acl.PermitReflect, "0.0.0.0/0", "0.0.0.0/0", 80, 80), aclRule(acl.PermitReflect, "::/0", "::/0", 80, 80)}
	for i := range rules {
		rules[i].Protocol = 132
	}
	a.lists([]uint32{r.acl(rules...)}, []uint32{r.acl()})
	for _, d := range flows {
		d.sctp = true
		other := d
		other.dport = 81
		a.blocked(b, other)
		a.passes(b, d)
		b.passes(a, reply(d))
		b.blocked(a, reply(other))
	}
}

// A GSO packet is judged once, whole, also where it is cut on its way out; and what the
// engine cuts to the path is judged before.
func TestBigPacketsAreJudgedWhole(t *testing.T) {
	r := newRig(t, 1)
	caps := port.Capabilities{Checksum: true, TSO4: true}
	a := r.link(pipe.Config{Link: port.IP, Capabilities: caps}, "10.0.0.1/24")
	b := r.link(pipe.Config{Link: port.IP}, "10.0.1.1/24")
	tcp := aclRule(acl.PermitReflect, "10.0.0.0/24", "10.0.1.0/24", 80, 80)
	tcp.Protocol = 6
	udp := []acl.Rule{aclRule(acl.Deny, "0.0.0.0/0", "0.0.0.0/0", 81, 81), aclRule(acl.PermitReflect, "0.0.0.0/0", "0.0.0.0/0", 0, 65535)}
	list := r.acl(append([]acl.Rule{tcp}, udp...)...)
	a.lists([]uint32{list}, nil)
	b.lists(nil, []uint32{list})
	gso := func(dport byte) *packet.Buffer {
		p := packet.FromBytes(make([]byte, 40+8000))
		packet.MakeIPv4(p.Bytes(), [4]byte{10, 0, 0, 2}, [4]byte{10, 0, 1, 2}, packet.ProtoTCP, 64)
		p.Bytes()[20+3], p.Bytes()[20+12], p.Bytes()[20+13] = dport, 5<<4, packet.TCPAck
		p.L4 = 20
		if why := packet.LeaveChecksum(p); why != packet.OK {
			t.Fatal(why)
		}
		p.Offload.GSO, p.Offload.GSOSize, p.Offload.HeaderLen = packet.GSOTCPv4, 1400, 40
		return p
	}
	for range 3 {
		a.sendBuffer(gso(80))
		for sum := 0; sum < 8000; {
			sum += int(b.next().ip4().Length) - 40
		}
	}
	a.sendBuffer(gso(82))
	b.quiet(a)
	r.wantCount("checked packets", 3*2+1)
	r.wantCount("new sessions added", 2)
	r.must(r.p.SetMTU(b.index, [4]uint32{1280}))
	a.send(a.frame(pkt{src: "10.0.0.2", dst: "10.0.1.2", sport: 1, dport: 82, size: 2000}))
	for range 2 {
		b.recv()
	}
	r.wantCount("new sessions added", 4)
}

// noRoom is a segment that is full.
type noRoom struct{}

func (noRoom) AllotRules(uint32, int) ([][]Combined, error) { return nil, errors.New("full") }
func (noRoom) ReclaimRules()                                {}

func TestListsWithoutRoomForCountersWork(t *testing.T) {
	r, a, b, flows := guarded(t, 1)
	r.p.mu.Lock()
	r.p.access.counters = noRoom{}
	r.p.mu.Unlock()
	r.must(r.p.SetCountRules(true))
	list := r.acl(anything(acl.Deny)...)
	a.lists([]uint32{list}, nil)
	a.blocked(b, flows[0])
	_, err := r.p.ReplaceACL(list, "", anything(acl.Permit))
	r.must(err)
	a.passes(b, flows[0])
}
