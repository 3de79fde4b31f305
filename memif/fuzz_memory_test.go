package memif_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/millrace/millrace/memif"
)

// tape is the fuzzer's bytes, read one by one; zeros follow.
type tape struct{ b []byte }

func (p *tape) byte() (v byte) {
	if len(p.b) > 0 {
		v, p.b = p.b[0], p.b[1:]
	}
	return v
}

func (p *tape) n(most int) int { return int(p.byte()) % most }

// play is one program: what the peer writes, and what we call, one after the other. After
// each call it compares what came out, and all memory, with the model.
type play struct {
	t    *testing.T
	tape *tape
	rig  *memif.Rig
	mem  [][]byte
	m    *model

	views   []memif.View // that are borrowed
	expect  []modelView  // what the model says of them
	rooms   []memif.View // that are reserved
	places  [][]byte     // theirs in the model
	start   [2]memif.QueueStats
	ctx     context.Context
	bufs    [][]byte
	scratch []memif.View
	trace   []byte
}

func newPlay(t *testing.T, tape *tape, rig *memif.Rig, mem [][]byte, m *model) *play {
	for i, b := range mem {
		for k := range b {
			b[k] = byte(k*7 + k>>8 + i)
		}
	}
	p := &play{t: t, tape: tape, rig: rig, mem: mem, m: m, scratch: make([]memif.View, 40)}
	p.start = [2]memif.QueueStats{rig.RxQueue(0).Stats(), rig.TxQueue(0).Stats()}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p.ctx = ctx
	return p
}

// begin takes the memory as the model's.
func (p *play) begin() {
	for _, b := range p.mem {
		p.m.mem = append(p.m.mem, slices.Clone(b))
	}
	p.m.rx.rings, p.m.tx.ring = p.m.up, nil
	tx := p.m.down
	if p.m.client {
		p.m.rx.rings, tx = p.m.down, p.m.up
	}
	if len(tx) > 0 {
		p.m.tx.ring = tx[0]
	}
}

// Operations of a tape: calls, then what the peer does.
const (
	playReceive = iota
	playBorrow
	playRelease
	playSend
	playReserve
	playCommit
	playWait
	playArm
	playSetMode
	playHead
	playJump  // moves the peer's index
	playMove  // no further than it may
	playTail  // as head
	playFlags // of the ring
	playDesc
	playNear // a descriptor by its distance from the peer's index
	playByte = 18
	playOps  = 20
)

// run plays the tape to its end, at most so many steps. Whatever happens, it leaves the
// queues as it found them: the next play must not suffer.
func (p *play) run() {
	defer func() {
		if err := p.rig.Down(); err != nil {
			p.t.Error(err)
		}
	}()
	calls := []func(){p.receive, p.borrow, p.release, p.send, p.reserve, p.commit, p.wait, p.arm, p.setMode}
	for range 300 {
		if len(p.tape.b) == 0 {
			break
		}
		if op := p.tape.n(playOps); op < len(calls) {
			before := len(p.tape.b)
			calls[op]()
			p.trace = fmt.Appendf(p.trace, "%d(%d bytes): model ended %t,%t, link ended %t, %d views\n", op, before-len(p.tape.b), p.m.rx.broken, p.m.tx.broken, p.rig.Err != nil, len(p.views))
			p.compare(op)
		} else {
			p.poke(op)
		}
	}
	p.finish()
}

// finish compares the counters, and whether the link has ended.
func (p *play) finish() {
	rx, tx := p.rig.RxQueue(0).Stats(), p.rig.TxQueue(0).Stats()
	got := [8]uint64{rx.Frames - p.start[0].Frames, rx.Bytes - p.start[0].Bytes, rx.Invalid - p.start[0].Invalid, rx.TooLong - p.start[0].TooLong,
		tx.Frames - p.start[1].Frames, tx.Bytes - p.start[1].Bytes, tx.Invalid - p.start[1].Invalid, tx.TooLong - p.start[1].TooLong}
	r, x := &p.m.rx, &p.m.tx
	want := [8]uint64{uint64(r.frames), uint64(r.bytes), uint64(r.invalid), uint64(r.tooLong),
		uint64(x.frames), uint64(x.bytes), uint64(x.invalid), uint64(x.tooLong)}
	if got != want {
		p.t.Errorf("counters of received and sent frames, bytes, invalid, too long: %d; want %d", got, want)
	}
	if ended := p.m.rx.broken || p.m.tx.broken; ended != (p.rig.Err != nil) {
		p.t.Errorf("link ended by %v; want an end: %t\n%s", p.rig.Err, ended, p.trace)
	}
	if e, ok := errors.AsType[*memif.Error](p.rig.Err); ok && e.Kind != memif.Corrupt {
		p.t.Errorf("link ended by %v; want kind %v", e, memif.Corrupt)
	}
}

func (p *play) compare(op int) {
	for i, b := range p.mem {
		if !bytes.Equal(b, p.m.mem[i]) {
			at := 0
			for b[at] == p.m.mem[i][at] {
				at++
			}
			p.t.Fatalf("after call %d region %d holds %#x at %d; want %#x\n%s", op, i, b[at], at, p.m.mem[i][at], p.trace)
		}
	}
	for i, v := range p.views {
		if want := p.expect[i]; !bytes.Equal(v.Bytes, want.bytes) || v.More != want.more {
			p.t.Fatalf("after call %d view %d shows %d bytes, more %t; want %d, %t, or they differ", op, i, len(v.Bytes), v.More, len(want.bytes), want.more)
		}
	}
}

// poke writes what a peer could, to both memories.
func (p *play) poke(op int) {
	both := func(f func(mem [][]byte)) { f(p.mem); f(p.m.mem) }
	rings := append(p.m.up[:len(p.m.up):len(p.m.up)], p.m.down...)
	if op >= playByte || len(rings) == 0 {
		region, at, v := p.tape.n(len(p.mem)), p.tape.n(256)|p.tape.n(256)<<8, p.tape.byte()
		at %= len(p.mem[region])
		both(func(mem [][]byte) { mem[region][at] = v })
		return
	}
	r := rings[p.tape.n(len(rings))]
	var v uint16
	var slot int
	var d rawDesc
	switch op {
	case playHead:
		v = uint16(p.tape.byte()) | uint16(p.tape.byte())<<8
	case playMove:
		v = min(uint16(p.tape.byte()), p.m.leave(r))
	case playJump, playTail, playFlags:
		v = uint16(int8(p.tape.byte()))
	default:
		slot = p.tape.n(r.size())
		if op != playDesc {
			slot += int(p.m.index(r))
		}
		d = p.desc()
	}
	both(func(mem [][]byte) {
		raw := rawRing{mem[r.Region][r.Offset:], r.size()}
		switch op {
		case playHead:
			raw.setHead(v)
		case playJump, playMove:
			if p.m.client {
				raw.setTail(raw.tail() + v)
			} else {
				raw.setHead(raw.head() + v)
			}
		case playTail:
			raw.setTail(v)
		case playFlags:
			raw.setFlags(v)
		default:
			raw.setDesc(slot, d)
		}
	})
}

// leave is how far the peer may move its index.
func (m *model) leave(r *modelRing) uint16 {
	ahead := m.raw(r).head() - m.raw(r).tail()
	if !m.client {
		ahead = uint16(r.size()) - ahead
	}
	return min(ahead, uint16(r.size()))
}

// desc is a descriptor, likely one that is nearly right.
func (p *play) desc() rawDesc {
	size := uint32(len(p.mem[0]))
	d := rawDesc{flags: uint16(p.tape.byte()), region: []uint16{0, 0, 0, 0, 0, 1, 2, 65535}[p.tape.n(8)]}
	lengths := []uint32{0, 1, 64, 65, 200, 2048, size, size + 1, 1 << 31, 1<<32 - 1, 1 << 16}
	if i := p.tape.n(len(lengths) + 1); i < len(lengths) {
		d.length = lengths[i]
	} else {
		d.length = uint32(p.tape.byte())
	}
	offsets := []uint32{0, size - d.length, size - d.length + 1, size, -d.length, 1<<32 - 1}
	switch i := p.tape.n(len(offsets) + 2); i {
	case descNear:
		d.offset = uint32(p.tape.byte()) * 16
	case descFar:
		d.offset = stageRings + uint32(p.tape.byte())*32
	default:
		d.offset = offsets[i]
	}
	return d
}

// How desc reads an offset, among the rings or behind them, and the second region.
const (
	descNear   = 6
	descFar    = 7
	descSecond = 5
)
