package worker

import (
	"time"

	"github.com/millrace/millrace/engine/packet"
)

// ICMP errors: the offending packet is turned into the error about itself and looked up
// like a packet of our own. A bucket per worker bounds their rate.

const (
	// icmpRate and icmpBurst bound the ICMP errors of one worker.
	icmpRate  = 1000 // a second
	icmpBurst = 200
	// resolveInterval is the least time between two requests for one address.
	resolveInterval = time.Second
)

// limits holds the rate limits of a worker.
type limits struct {
	tokens float64
	filled time.Time
	asked  [1024]asked
}

// asked is the last request for an address; colliding addresses displace each other.
type asked struct {
	key  uint64
	when time.Time
}

// mayError takes a token for one ICMP error.
func (w *Worker) mayError() bool {
	l, now := &w.limits, w.time()
	if l.filled.IsZero() {
		l.tokens = icmpBurst
	} else if d := now.Sub(l.filled); d > 0 {
		l.tokens = min(icmpBurst, l.tokens+d.Seconds()*icmpRate)
	}
	l.filled = now
	if l.tokens < 1 {
		return false
	}
	l.tokens--
	return true
}

// mayAsk reports whether a request for the address with this hash is due.
func (w *Worker) mayAsk(key uint64) bool {
	now := w.time()
	a := &w.limits.asked[key%uint64(len(w.limits.asked))]
	if a.key == key && now.Sub(a.when) < resolveInterval {
		return false
	}
	a.key, a.when = key, now
	return true
}

// answerable reports whether an ICMP error about buf may be sent at all: not about our own
// packets, nor about link-layer broadcasts (RFC 1122 3.2.2).
func (w *Worker) answerable(buf *packet.Buffer) bool {
	if w.isOwn(buf) {
		return false
	}
	return buf.L3 == 0 || buf.Bytes()[0]&1 == 0
}

// error4 drops buf for reason why and answers with an ICMP error when it may.
func (w *Worker) error4(buf *packet.Buffer, why, sent Reason, e packet.ICMPError) {
	rx := buf.RxInterface
	w.drop(why, rx)
	if !w.answerable(buf) {
		return
	}
	src, ok := w.batch.ifs[rx].Source4(packet.IPv4(buf.L3Bytes()).SrcUint32())
	if !ok || !w.mayError() {
		w.count.Errors[ICMP4Throttled]++
		return
	}
	if packet.MakeICMPv4Error(buf, src, e) != packet.OK {
		return
	}
	w.count.Errors[sent]++
	w.respond(buf, rx)
}

func (w *Worker) error6(buf *packet.Buffer, why, sent Reason, e packet.ICMPError) {
	rx := buf.RxInterface
	w.drop(why, rx)
	if !w.answerable(buf) && e.Type != packet.ICMPv6PacketTooBig {
		return
	}
	src, ok := w.batch.ifs[rx].Source6(packet.IPv6(buf.L3Bytes()).Src())
	if !ok || !w.mayError() {
		w.count.Errors[ICMP6Throttled]++
		return
	}
	if packet.MakeICMPv6Error(buf, src, e) != packet.OK {
		return
	}
	w.count.Errors[sent]++
	w.respond(buf, rx)
}

// respond sends buf, which has become a packet of our own.
func (w *Worker) respond(buf *packet.Buffer, rx uint32) {
	buf.Meta[metaOwn] = ownBit
	w.originate(buf, rx)
}

func (w *Worker) timeExceeded4(buf *packet.Buffer) {
	w.error4(buf, IP4TTL, ICMP4TimeExceeded, packet.ICMPError{Type: packet.ICMPv4TimeExceeded, Code: packet.ICMPTTLInTransit})
}

func (w *Worker) timeExceeded6(buf *packet.Buffer) {
	w.error6(buf, IP6HopLimit, ICMP6TimeExceeded, packet.ICMPError{Type: packet.ICMPv6TimeExceeded, Code: packet.ICMPTTLInTransit})
}

func (w *Worker) fragNeeded4(buf *packet.Buffer, mtu int) {
	w.error4(buf, IP4MTU, ICMP4Unreachable,
		packet.ICMPError{Type: packet.ICMPv4Unreachable, Code: packet.ICMPv4FragNeeded, Info: uint32(mtu)})
}

func (w *Worker) tooBig6(buf *packet.Buffer, mtu int) {
	w.error6(buf, IP6MTU, ICMP6TooBig, packet.ICMPError{Type: packet.ICMPv6PacketTooBig, Info: uint32(mtu)})
}

// unreachable answers with "destination unreachable"; why6 stands after why4.
func (w *Worker) unreachable(buf *packet.Buffer, why4 Reason, code4, code6 uint8) {
	if buf.L3Bytes()[0]>>4 == 4 {
		w.error4(buf, why4, ICMP4Unreachable, packet.ICMPError{Type: packet.ICMPv4Unreachable, Code: code4})
		return
	}
	w.error6(buf, why4+1, ICMP6Unreachable, packet.ICMPError{Type: packet.ICMPv6Unreachable, Code: code6})
}
