package worker

import (
	"github.com/millrace/millrace/engine/acl"
	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/session"
)

// judge is one packet before the access lists of an interface and direction.
type judge struct {
	w     *Worker
	at    uint8 // its place in the vector
	ifc   *Interface
	input bool
	rx    uint32 // that a drop is counted for
	size  uint32 // of the packet as the lists' node sees it, in bytes

	// What was found: the bits of the flow, the session or the rule.
	bits uint8
	ref  session.Ref
	rule uint32
	seen uint8
	lone bool // the verdict is not that of the whole flow

	g    glance
	keys session.Keys
}

// guard is the lists of a direction.
func (j *judge) guard(input bool) *Guard {
	if input {
		return j.ifc.In
	}
	return j.ifc.Out
}

func (j *judge) count(r Reason) {
	j.w.count.Errors[aclReason(r, j.input, j.g.flow.IP6)]++
}

// judge reports whether buf may pass, and drops it if not.
func (j *judge) judge(buf *packet.Buffer) bool {
	j.prepare(buf)
	return j.decide()
}

// prepare looks at buf.
func (j *judge) prepare(buf *packet.Buffer) {
	j.g.look(buf)
	j.lone = j.g.fragment
	j.bits = flowOut
	if j.input {
		j.bits = flowIn
	}
	j.w.batch.stateful.Sessions.Set(&j.keys, &j.g.flow, j.ifc.Index, j.input)
}

// decide reports whether the packet may pass, and drops it if not.
func (j *judge) decide() bool {
	j.count(aclCheck)
	t := j.w.batch.stateful.Sessions
	ref, found := t.Find(&j.keys)
	if found && t.Touch(ref, j.w.batch.clock, j.g.flags, j.input) {
		j.count(aclExist)
		if j.stands(ref) {
			j.take(ref)
			return true
		}
	}
	if found && t.Refused(ref) {
		switch j.answer(ref) {
		case answersRefused:
			j.w.drop(aclReason(aclDeny, j.input, j.g.flow.IP6), j.rx)
			return false
		case answersPermitted:
			if t.Touch(ref, j.w.batch.clock, j.g.flags, j.input) {
				j.take(ref)
				return true
			}
		}
	}
	return j.ask()
}

// answer is what a packet is to a session that is refused.
type answer uint8

const (
	answersNothing   answer = iota // the rules decide about it
	answersRefused                 // what it answers is still forbidden
	answersPermitted               // it is permitted again, and the session restored
)

// answer tells whether a packet answers what was forbidden, and so may not pass although
// the rules of its own direction may permit it. VPP asks those: an answer that was under
// way when its flow was forbidden makes a session for the other direction there, and the
// flow lives on.
func (j *judge) answer(ref session.Ref) answer {
	t := j.w.batch.stateful.Sessions
	made := t.Policy(ref)
	byInput := made&1 == 0
	g := j.guard(byInput)
	tcp := j.g.flow.Proto == packet.ProtoTCP
	const both = packet.TCPSyn | packet.TCPAck
	switch {
	case byInput == j.input || g == nil:
		return answersNothing
	case tcp && j.g.flags&both == packet.TCPSyn:
		return answersNothing // the other end begins anew
	case g.Policy&(1<<31-1) == made>>1 || tcp && g.TCPFlags:
		return answersRefused
	}
	k := j.g.reversed()
	if g.Chain.Match(&k).Action != acl.PermitReflect {
		return answersRefused
	}
	t.Restore(ref, g.Policy<<1|made&1, j.w.batch.clock)
	return answersPermitted
}

// take notes that the packet belongs to a session.
func (j *judge) take(ref session.Ref) {
	j.ref, j.seen = ref, j.g.flags&session.TCPFlags
	j.bits |= j.bits << 1
}

// ask has the rules decide.
func (j *judge) ask() bool {
	g := j.guard(j.input)
	v := g.Chain.Match(&j.g.key)
	j.matched(g, v)
	switch v.Action {
	case acl.Deny:
		j.w.drop(aclReason(aclDeny, j.input, j.g.flow.IP6), j.rx)
		return false
	case acl.PermitReflect:
		return j.reflect(g)
	case acl.Permit:
		j.count(aclPermit)
	}
	j.lone = j.lone || g.TCPFlags && j.g.flow.Proto == packet.ProtoTCP
	if j.w.batch.stateful.CountRules {
		j.rule = uint32(v.List)<<24 | uint32(v.Rule)
		j.bits |= flowCounts
	}
	return true
}

// reflect makes the session of a packet that a rule lets through.
func (j *judge) reflect(g *Guard) bool {
	t, now := j.w.batch.stateful.Sessions, j.w.batch.clock
	ref, added := t.Add(&j.keys, j.policy(g), now)
	switch added {
	case session.Full:
		j.w.drop(aclReason(aclFull, j.input, j.g.flow.IP6), j.rx)
		return false
	case session.Made:
		j.count(aclNew)
	}
	t.Touch(ref, now, j.g.flags, j.input)
	j.take(ref)
	return true
}

// policy is what a session notes of who let it through.
func (j *judge) policy(g *Guard) uint32 {
	if j.input {
		return g.Policy << 1
	}
	return g.Policy<<1 | 1
}

// stands reports whether a session still holds. Where sessions are judged again, one that
// was made by lists that have changed since must pass the lists of now: its packets as
// such, an answer by the packet that it answers. If it does not, it is refused.
func (j *judge) stands(ref session.Ref) bool {
	if !j.w.batch.stateful.Reclassify {
		return true
	}
	t := j.w.batch.stateful.Sessions
	made := t.Policy(ref)
	byInput := made&1 == 0
	g := j.guard(byInput)
	if g == nil || g.Policy&(1<<31-1) == made>>1 {
		return true
	}
	if byInput == j.input {
		return j.again(ref, g)
	}
	if g.TCPFlags && j.g.flow.Proto == packet.ProtoTCP {
		return true // the flags of what is answered are not known: as VPP, until it comes
	}
	k := j.g.reversed()
	if g.Chain.Match(&k).Action != acl.PermitReflect {
		t.Refuse(ref, g.Policy<<1|made&1)
		return false
	}
	t.SetPolicy(ref, &j.keys, g.Policy<<1|made&1)
	return true
}

// again judges a session by one of the packets that it was made for. VPP makes another
// session then, which knows nothing of the connection; here the old one goes on.
func (j *judge) again(ref session.Ref, g *Guard) bool {
	t := j.w.batch.stateful.Sessions
	v := g.Chain.Match(&j.g.key)
	if v.Action != acl.PermitReflect {
		t.Refuse(ref, j.policy(g))
		return false
	}
	j.matched(g, v)
	j.count(aclNew)
	t.SetPolicy(ref, &j.keys, j.policy(g))
	return true
}

// matched counts a packet for its rule.
func (j *judge) matched(g *Guard, v acl.Verdict) {
	if v.List >= 0 && j.w.batch.stateful.CountRules {
		g.add(j.w, uint32(v.List), uint32(v.Rule), j.size)
	}
}

// add counts a packet for a rule.
func (g *Guard) add(w *Worker, list, rule, size uint32) {
	if uint64(list) >= uint64(len(g.Rows)) {
		return
	}
	if rows := g.Rows[list]; w.cfg.Index+1 < len(rows) {
		if row := rows[w.cfg.Index+1]; uint64(rule) < uint64(len(row)) {
			row[rule].add(1, uint64(size))
		}
	}
}

// renew looks closer at a packet of a flow that access lists let pass before, or address
// translation has looked at, and reports whether that holds still: not when one of its
// sessions has ended, or one has begun.
func (w *Worker) renew(v *vector, i int, s *flowState) bool {
	b := &w.batch
	bits := uint8(s.adj)
	flags := uint8(0)
	if bits&flowTCP != 0 {
		flags = tcpFlags(v.buf[i])
	}
	if s.stamp != uint16(b.clock) || flags&^uint8(s.leaf) != 0 || bits&flowCounts != 0 {
		if !w.renewSlow(v, i, s, flags) {
			return false
		}
	}
	if v.head[i] == nil {
		if bits&flowOut != 0 || bits&flowWatch != 0 && w.isSent(s) {
			v.buf[i].Meta[metaOwn] |= judgedBit
		}
		if v.key[i].f&keyV6 != 0 {
			b.judged6 += lanes(uint32(bits))
		}
	}
	return true
}

// isSent reports whether packets of a flow are sent, rather than for us.
func (w *Worker) isSent(s *flowState) bool {
	a := w.state.adjs.Load(s.adj >> flowBits)
	return a != nil && a.Kind == KindRewrite
}

// tcpFlags are those that sessions take note of.
func tcpFlags(buf *packet.Buffer) uint8 {
	if p := buf.L4Bytes(); buf.L4 != 0 && len(p) >= packet.TCPLen {
		return packet.TCP(p).Flags() & session.TCPFlags
	}
	return 0
}

// renewSlow is renew once a second, for new TCP flags, and where rules count.
func (w *Worker) renewSlow(v *vector, i int, s *flowState, flags uint8) bool {
	b := &w.batch
	p := b.flows.passOf(&v.key[i], v.hash[i], s)
	bits, t := uint8(s.adj), b.stateful.Sessions
	if bits&flowInSession != 0 && !t.Touch(p.in, b.clock, flags, true) ||
		bits&flowOutSession != 0 && !t.Touch(p.out, b.clock, flags, false) ||
		bits&(flowNAT|flowWatch) != 0 && !w.renewNAT(v, i, s, flags) {
		s.generation--
		return false
	}
	s.stamp = uint16(b.clock)
	s.note(flags)
	if bits&flowCounts == 0 {
		return true
	}
	if bits&(flowIn|flowInSession) == flowIn && b.iface.In != nil {
		b.iface.In.add(w, p.inRule>>24, p.inRule&(1<<24-1), v.size[i])
	}
	if bits&(flowOut|flowOutSession) == flowOut {
		if a := w.state.adjs.Load(s.adj >> flowBits); a != nil {
			if out := b.interfaceAt(a.Interface); out != nil && out.Out != nil {
				out.Out.add(w, p.outRule>>24, p.outRule&(1<<24-1), v.size[i]+uint32(a.HeaderLen))
			}
		}
	}
	return true
}

// note takes TCP flags for such that the flow's sessions know of. Those that open or close
// a connection never are where addresses are translated: one that is opened anew from the
// same port is the same session.
func (s *flowState) note(flags uint8) {
	if s.adj&flowNAT != 0 {
		flags &= packet.TCPAck
	}
	s.leaf |= uint32(flags)
}

// lanes spreads the four lowest bits of a flow over the 16-bit lanes of a word, so that a
// sum over a batch counts each of them.
func lanes(bits uint32) uint64 {
	return uint64(bits&15) * (1 | 1<<15 | 1<<30 | 1<<45) & (1 | 1<<16 | 1<<32 | 1<<48)
}

// countJudged counts the packets that the flow cache let pass for the lists that had
// judged their flows.
func (w *Worker) countJudged(all uint64) {
	six := w.batch.judged6
	w.batch.judged6 = 0
	for _, c := range [2]struct {
		lanes uint64
		v6    bool
	}{{all - six, false}, {six, true}} {
		w.countLanes(uint16(c.lanes), uint16(c.lanes>>16), true, c.v6)
		w.countLanes(uint16(c.lanes>>32), uint16(c.lanes>>48), false, c.v6)
	}
}

func (w *Worker) countLanes(checked, sessions uint16, input, v6 bool) {
	w.count.Errors[aclReason(aclCheck, input, v6)] += uint64(checked)
	w.count.Errors[aclReason(aclExist, input, v6)] += uint64(sessions)
	w.count.Errors[aclReason(aclPermit, input, v6)] += uint64(checked - sessions)
}
