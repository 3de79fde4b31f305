package memif_test

import (
	"errors"
	"testing"

	"github.com/millrace/millrace/memif"
	"golang.org/x/sys/unix"
)

// stage is what plays need of the process, made once: interfaces, and memory between guards.
type stage struct {
	regions [][]byte // a server's
	rigs    map[shape]*memif.Rig
	mem     map[shape][]byte // a client's
	mapped  [][]byte
}

// stageRings is the part of a server's first region where rings can be: up to 128 slots at
// up to 255*16.
const stageRings = 8192

// shape is what plays vary of a Config.
type shape struct{ maxFrame, rxQueues, ring, buffer int }

func newStage(f *testing.F) *stage {
	s := &stage{rigs: map[shape]*memif.Rig{}, mem: map[shape][]byte{}}
	f.Cleanup(func() {
		for _, b := range s.mapped {
			if err := unix.Munmap(b); err != nil {
				f.Error(err)
			}
		}
		for _, r := range s.rigs {
			if err := r.Free(); err != nil {
				f.Error(err)
			}
		}
	})
	s.regions = [][]byte{s.guarded(f, 2*stageRings), s.guarded(f, 4096)}
	return s
}

// guarded is memory of n bytes, whole pages, between pages that nobody may touch: a byte
// read or written outside ends the process.
func (s *stage) guarded(tb testing.TB, n int) []byte {
	const page = 4096
	whole, err := unix.Mmap(-1, 0, n+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANON)
	if err != nil {
		tb.Fatal(err)
	}
	s.mapped = append(s.mapped, whole)
	if err := errors.Join(unix.Mprotect(whole[:page], unix.PROT_NONE), unix.Mprotect(whole[page+n:], unix.PROT_NONE)); err != nil {
		tb.Fatal(err)
	}
	return whole[page:][:n:n]
}

func (s *stage) rig(tb testing.TB, c shape) *memif.Rig {
	r, ok := s.rigs[c]
	if !ok {
		var err error
		r, err = memif.NewRig(memif.Config{MaxFrame: c.maxFrame, RxQueues: c.rxQueues, RingSize: c.ring, BufferSize: c.buffer})
		if err != nil {
			tb.Fatal(err)
		}
		s.rigs[c] = r
	}
	return r
}

// serverPlay is a program against a server: its first bytes say where a hostile client has
// put its rings.
func (s *stage) serverPlay(t *testing.T, tape *tape) {
	kind := tape.byte()
	c := shape{maxFrame: []int{64, 200, 5000, 20000}[kind&3]}
	rig := s.rig(t, c)
	m := &model{guarded: kind&4 != 0, most: c.maxFrame}
	mem := s.regions[:1+kind>>3&1]
	place := func() *modelRing {
		r := &modelRing{Place: memif.Place{Log2: 1 + tape.byte()%7, Offset: uint32(tape.byte()) * 16, Region: int(tape.byte()) & 1}}
		if r.Region >= len(mem) || int(r.Offset)+r.bytes() > len(mem[r.Region]) {
			r.Region = 0
		}
		return r
	}
	for range 1 + kind>>4&1 {
		m.up = append(m.up, place())
	}
	if kind>>5&3 > 0 {
		m.down = append(m.down, place())
	}
	p := newPlay(t, tape, rig, mem, m)
	places := func(rings []*modelRing) (list []memif.Place) {
		for _, r := range rings {
			clear(mem[r.Region][r.Offset:][:r.bytes()])
			list = append(list, r.Place)
		}
		return list
	}
	rig.Serve(mem, places(m.up), places(m.down), m.guarded)
	p.begin()
	p.run()
}

// bytes is how much memory a ring takes.
func (r *modelRing) bytes() int { return 128 + 16*r.size() }

// clientPlay is a program against a client.
func (s *stage) clientPlay(t *testing.T, tape *tape) {
	kind := tape.byte()
	c := shape{[]int{64, 200, 5000, 20000}[kind&3], 1 + int(kind>>7), 2 << (kind >> 3 & 3), []int{64, 100, 1000, 2048}[kind>>5&3]}
	rig := s.rig(t, c)
	mem, ok := s.mem[c]
	if !ok {
		mem = s.guarded(t, (rig.ClientBytes()+4095)&^4095)
		s.mem[c] = mem
	}
	m := &model{client: true, guarded: kind&4 != 0, most: c.maxFrame}
	p := newPlay(t, tape, rig, [][]byte{mem}, m)
	up, down := rig.Join(mem, m.guarded)
	m.up, m.down = clientRings(t, c, mem, up), clientRings(t, c, mem, down[:1])
	p.begin()
	p.run()
}

// clientRings reads off the descriptors where a client's buffers are.
func clientRings(t *testing.T, c shape, mem []byte, places []memif.Place) (list []*modelRing) {
	for _, place := range places {
		raw := rawRing{mem[place.Offset:], c.ring}
		first, second := raw.desc(0), raw.desc(1)
		r := &modelRing{Place: place, first: int(first.offset), stride: int(second.offset - first.offset), length: int(first.length)}
		for i := range c.ring {
			want := rawDesc{length: uint32(c.buffer), offset: uint32(r.first + i*r.stride)}
			if got := raw.desc(i); got != want || r.stride < r.length || int(want.offset)+r.length > len(mem) {
				t.Fatalf("descriptor %d is %+v; want %+v", i, got, want)
			}
		}
		list = append(list, r)
	}
	return list
}

// FuzzServerMemory has a client write what it likes to indices, flags, descriptors and
// buffers, in rings that it puts where it likes, between the calls of a server. What comes
// out must be the bytes that stood in the regions, and what is written only what belongs
// there, as the model says.
func FuzzServerMemory(f *testing.F) {
	s := newStage(f)
	for _, seed := range serverSeeds() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) { s.serverPlay(t, &tape{b}) })
}

// FuzzClientMemory is the same with a server that writes to the memory of a client.
func FuzzClientMemory(f *testing.F) {
	s := newStage(f)
	for _, seed := range clientSeeds() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) { s.clientPlay(t, &tape{b}) })
}
