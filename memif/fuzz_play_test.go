package memif_test

import (
	"bytes"
	"errors"

	"github.com/millrace/millrace/memif"
)

// The calls of a play. Each does one thing on the queue and on the model.

func (p *play) receive() {
	n := p.tape.n(20)
	caps := make([]int, n)
	for len(p.bufs) < n {
		p.bufs = append(p.bufs, make([]byte, 1<<16))
	}
	bufs := make([][]byte, n)
	for i := range caps {
		caps[i] = []int{1 << 16, 64, 1, 0, 100}[p.tape.n(5)]
		bufs[i] = p.bufs[i][:0:caps[i]]
	}
	got, err := p.rig.RxQueue(0).Receive(bufs)
	if len(p.m.rx.lent) > 0 {
		e, ok := errors.AsType[*memif.Error](err)
		if got != 0 || !p.m.rx.broken && n > 0 && (!ok || e.Kind != memif.BadConfig) {
			p.t.Fatalf("receive with views out: %d, %v", got, err)
		}
		return
	}
	want := p.m.receive(caps)
	if err != nil || got != len(want) {
		p.t.Fatalf("received %d frames, %v; want %d", got, err, len(want))
	}
	for i, f := range want {
		if !bytes.Equal(bufs[i], f) {
			p.t.Fatalf("frame %d: %d bytes; want %d, or they differ", i, len(bufs[i]), len(f))
		}
	}
}

func (p *play) borrow() {
	n := p.tape.n(40)
	views := p.scratch[:n]
	got, err := p.rig.RxQueue(0).Borrow(views)
	want := p.m.borrow(n)
	if err != nil || got != len(want) {
		p.t.Fatalf("borrowed %d views, %v; want %d", got, err, len(want))
	}
	p.views, p.expect = append(p.views, views[:got]...), append(p.expect, want...)
}

func (p *play) release() {
	n := p.tape.n(40)
	p.rig.RxQueue(0).Release(n)
	p.m.release(n)
	n = min(n, len(p.views))
	p.views, p.expect = p.views[n:], p.expect[n:]
}

func (p *play) send() {
	frames := make([][]byte, p.tape.n(20))
	for i := range frames {
		frames[i] = p.frame(i)
	}
	got, err := p.rig.TxQueue(0).Send(frames)
	if want := p.m.send(frames); got != want || err != nil {
		p.t.Fatalf("sent %d frames, %v; want %d", got, err, want)
	}
}

// frame is one to send. Some are what a peer might have sent itself, to be written over its
// descriptors and indices.
func (p *play) frame(i int) []byte {
	sizes := []int{64, 1, 0, 65, 200, 1000, 3000, p.m.most, p.m.most + 1}
	n := p.tape.n(len(sizes) + 2)
	if n < len(sizes) {
		return frame(uint64(i), sizes[n])
	}
	slots := rawRing{make([]byte, 128+16*16), 16}
	for d, k := p.desc(), 0; k < 16; k++ {
		slots.setDesc(k, d)
	}
	return slots.mem[128:][:[]int{64, 200}[n-len(sizes)]]
}

func (p *play) reserve() {
	n := p.tape.n(40)
	views := make([]memif.View, n)
	got, err := p.rig.TxQueue(0).Reserve(views)
	want := p.m.reserve(n)
	if err != nil || got != len(want) {
		p.t.Fatalf("reserved %d views, %v; want %d", got, err, len(want))
	}
	for i, b := range want {
		if len(views[i].Bytes) != len(b) || views[i].More {
			p.t.Fatalf("room %d of %d bytes, more %t; want %d", i, len(views[i].Bytes), views[i].More, len(b))
		}
	}
	p.rooms, p.places = views[:got], want
}

// commit fills some of what was reserved last, in our view and in the model, and commits it,
// also when it is sent or forgotten by then.
func (p *play) commit() {
	n := min(p.tape.n(40), len(p.rooms))
	views, want, spaces := make([]memif.View, n), make([]modelView, n), make([]int, n)
	for i := range n {
		room, place := p.rooms[i].Bytes, p.places[i]
		spaces[i] = len(place)
		k := min(len(room)+1, []int{len(room), 1, 0, 64, 200, 1 << 30}[p.tape.n(6)])
		if k > len(room) { // more than there is room for
			room, place = make([]byte, k), make([]byte, k)
		}
		more := p.tape.n(4) == 0
		fill := frame(uint64(i), k)
		copy(room, fill)
		copy(place, fill)
		views[i], want[i] = memif.View{Bytes: room[:k], More: more}, modelView{place[:k], more}
	}
	got, err := p.rig.TxQueue(0).Commit(views)
	did, ok := p.m.commit(want, spaces)
	e, bad := errors.AsType[*memif.Error](err)
	if got != did || ok != (err == nil) || bad && e.Kind != memif.BadConfig {
		p.t.Fatalf("committed %d views, %v; want %d, and no error: %t", got, err, did, ok)
	}
}

// wait checks that nobody waits while there is a frame, nor is woken by what is known.
func (p *play) wait() {
	err := p.rig.RxQueue(0).Wait(p.ctx)
	if !p.m.link() {
		return
	}
	if ready, idle := p.m.ready(); err != nil && ready || err == nil && idle {
		p.t.Fatalf("wait: %v; want to be woken %t, to sleep %t\n%s", err, ready, idle, p.trace)
	}
}

func (p *play) arm() {
	if err := p.rig.RxQueue(0).Arm(); err != nil {
		p.t.Fatal(err)
	}
	if !p.m.rx.polling && p.m.link() && p.m.rx.masked {
		p.m.mask(false)
	}
}

func (p *play) setMode() {
	mode := memif.RxMode(p.tape.n(3))
	p.rig.RxQueue(0).SetRxMode(mode)
	p.m.rx.polling = mode == memif.Polling
	if p.m.rx.adopted && !p.m.rx.broken && p.m.rx.polling != p.m.rx.masked {
		p.m.mask(p.m.rx.polling)
	}
}
