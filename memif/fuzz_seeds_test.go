package memif_test

import "math/rand/v2"

// score writes tapes as a play reads them: a peer that mostly keeps to the protocol, and all
// calls in any order. What a fuzzer makes of them is up to it.
type score struct {
	*rand.Rand
	tape []byte
	rx   []int // rings of the receive queue, as poke counts them
	tx   int   // ring of the transmit queue
	// offers says that the peer fills in descriptors of the transmit queue too: a client.
	offers bool
	two    bool // there is a second region
	size   int  // of the receive queue's first ring
}

func (s *score) put(values ...int) {
	for _, v := range values {
		s.tape = append(s.tape, byte(v))
	}
}

// oneOf picks a value.
func (s *score) oneOf(values ...int) int { return values[s.IntN(len(values))] }

// rarely is true one time in n.
func (s *score) rarely(n int) bool { return s.IntN(n) == 0 }

// desc fills in the slot that is so far behind the peer's index.
func (s *score) desc(ring, ahead, flags, length int) {
	s.put(playNear, ring, ahead, flags)
	if s.two && s.rarely(3) {
		s.put(descSecond, length, descNear, s.IntN(64))
	} else {
		s.put(0, length, descFar, s.IntN(190))
	}
}

func (s *score) move(ring, n int) { s.put(playMove, ring, n) }

// frame is one of one to three slots, perhaps published in two steps.
func (s *score) frame() {
	ring, slots := s.rx[s.IntN(len(s.rx))], 1
	if s.rarely(3) {
		slots = 2 + s.IntN(2)
	}
	length := s.oneOf(1, 1, 2, 2, 2, 3, 4)
	if s.rarely(12) {
		length = s.oneOf(0, 5, 6, 7, 8, 9) // nothing, or more than there is
	}
	for k := range slots {
		flags := 0
		if k < slots-1 {
			flags = 1
		}
		s.desc(ring, k, flags, length)
	}
	if slots > 1 && s.rarely(3) {
		s.move(ring, slots-1)
		s.take()
		s.move(ring, 1)
		return
	}
	s.move(ring, slots)
}

// room offers some buffers, or takes some frames.
func (s *score) room() {
	n := 1 + s.IntN(4)
	if s.offers {
		for k := range n {
			length := s.oneOf(2, 2, 3, 4, 5)
			if s.rarely(60) {
				length = 0
			}
			s.desc(s.tx, k, 0, length)
		}
	}
	s.move(s.tx, n)
}

// take is a call of the receive queue.
func (s *score) take() {
	switch s.IntN(9) {
	case 8:
		s.put(playReceive, 1, 0, playWait)
	case 0, 1:
		n := s.IntN(4)
		s.put(playReceive, n)
		for range n {
			s.put(s.oneOf(0, 0, 0, 1, 2, 4))
		}
	case 2, 3:
		s.put(playBorrow, s.oneOf(1, 2, 3, 9))
	case 4:
		s.put(playRelease, s.oneOf(1, 2, 39))
	case 5:
		s.put(playWait)
	case 6:
		s.put(playArm)
	case 7:
		s.put(playSetMode, s.IntN(3))
	}
}

// give is a call of the transmit queue.
func (s *score) give() {
	n := 1 + s.IntN(3)
	switch s.IntN(3) {
	case 0:
		s.put(playSend, n)
		for range n {
			s.put(s.oneOf(0, 1, 2, 3, 4, 5, 6, 7, 8))
		}
	case 1:
		s.put(playReserve, n)
	case 2:
		s.put(playCommit, n)
		for k := range n {
			more := 1
			if k < n-1 && s.rarely(2) {
				more = 0
			}
			how := 3
			if s.rarely(4) {
				how = s.IntN(6)
			}
			s.put(how, more)
		}
	}
}

// lie is what breaks the protocol.
func (s *score) lie() {
	ring := s.IntN(3)
	switch s.IntN(7) {
	case 0:
		s.put(playJump, ring, s.IntN(256))
	case 5:
		s.put(playJump, s.rx[0], -1-s.IntN(4), playBorrow, 9)
	case 6:
		s.endless()
	case 1:
		s.put(playHead, ring, s.IntN(256), s.IntN(256))
	case 2:
		s.put(playFlags, ring, s.IntN(4))
	case 3:
		s.put(playDesc, ring, s.IntN(256), s.IntN(4), s.IntN(8), s.IntN(12), s.IntN(8), s.IntN(256))
	case 4:
		s.put(playByte, s.IntN(2), s.IntN(256), s.IntN(64), s.IntN(256))
	}
}

// endless fills a ring with one frame.
func (s *score) endless() {
	for range 3 {
		s.put(playBorrow, 39, playRelease, 39)
	}
	for k := range s.size {
		s.desc(s.rx[0], k, 1, 1)
	}
	s.move(s.rx[0], s.size)
	s.put(s.oneOf(playBorrow, playReceive), 1, 0)
}

// play is a whole one of so many actions.
func (s *score) play(actions int) []byte {
	for range actions {
		switch n := s.IntN(100); {
		case n < 30:
			s.frame()
		case n < 40:
			s.room()
		case n < 75:
			s.take()
		case n < 98:
			s.give()
		default:
			s.lie()
		}
	}
	return s.tape
}

func serverSeeds() (list [][]byte) {
	r := rand.New(rand.NewPCG(3, 7))
	for n := range 300 {
		kind := n&0x1f | 0x20
		log2 := r.IntN(7)
		s := &score{Rand: r, rx: []int{0}, tx: 1, offers: true, two: kind>>3&1 > 0, size: 2 << log2}
		s.put(kind, log2, 0, 0)
		if kind>>4&1 > 0 {
			s.rx, s.tx = []int{0, 1}, 2
			s.put(r.IntN(7), 136, kind>>3&r.IntN(2))
		}
		s.put(r.IntN(7), 255, 0)
		list = append(list, s.play(70))
	}
	return append(list, fullCopies(), overIndex(), overLengths())
}

// overlaid begins with a transmit ring of 8 at 0 whose first buffer, of 64 bytes, lies at
// 16 times near: in the ring itself.
func overlaid(near, length int) *score {
	const most5000, transmits = 2, 0x20
	s := &score{Rand: rand.New(rand.NewPCG(1, 1)), tx: 1}
	s.put(most5000|transmits, 2, 136, 0, 2, 0, 0)
	s.put(playNear, s.tx, 0, 0, 0, 2, descNear, near)
	for k := 1; k < 8; k++ {
		s.desc(s.tx, k, 0, length)
	}
	s.move(s.tx, 4)
	return s
}

// overIndex sends a frame over the index, so that it goes back to 1, and one that takes all
// slots and looks for more.
func overIndex() []byte {
	s := overlaid(0, 2)
	s.put(playSend, 2, 9, 0, 0, 10, 0, 4)
	return s.tape
}

// overLengths sends a frame whose first piece makes the next buffers 1 byte long.
func overLengths() []byte {
	s := overlaid(9, 5)
	s.put(playSend, 1, 10, 0, 0, 1, descFar, 0)
	return s.tape
}

// fullCopies borrows more from memory that may fault than is copied at a time: 16 frames
// that are as long as the region fill it.
func fullCopies() []byte {
	const whole, longest, guarded = 6, 3, 4
	s := &score{}
	s.put(longest|guarded, 6, 0, 0)
	for k := range 20 {
		s.put(playDesc, 0, k, 0, 0, whole, 0)
	}
	s.move(0, 20)
	for range 2 {
		s.put(playBorrow, 39, playWait, playBorrow, 39, playWait, playRelease, 39, playWait, playBorrow, 39, playRelease, 1)
	}
	return s.tape
}

func clientSeeds() (list [][]byte) {
	r := rand.New(rand.NewPCG(5, 11))
	for n := range 256 {
		s := &score{Rand: r, rx: []int{1}, size: 2 << (n >> 3 & 3)}
		s.put(n)
		list = append(list, s.play(70))
	}
	return list
}
