package memif

import (
	"fmt"
	"sync/atomic"
)

// QueueStats counts what one queue did since its Interface was made, over all links.
type QueueStats struct {
	Frames  uint64 // moved whole
	Bytes   uint64 // of those frames
	Invalid uint64 // received: a descriptor was empty or pointed outside its region; dropped
	TooLong uint64 // longer than the caller's buffer, than MaxFrame, or than the ring; dropped
	Signals uint64 // sent: eventfd writes. Received: times Wait slept
}

// counters are a queue's: one writer, any readers.
type counters struct {
	frames, bytes, invalid, tooLong, signals atomic.Uint64
}

func (c *counters) read() QueueStats {
	return QueueStats{
		Frames: c.frames.Load(), Bytes: c.bytes.Load(), Invalid: c.invalid.Load(),
		TooLong: c.tooLong.Load(), Signals: c.signals.Load(),
	}
}

// Status is the link of an Interface at one moment.
type Status struct {
	Up         bool
	PeerName   string // as the peer's process calls itself
	PeerIfName string // as the peer calls its interface
	// RxRings and TxRings are the rings of the link; RingSize the descriptors of the first.
	RxRings, TxRings, RingSize int
	Regions                    int
	Links                      uint64 // how many links there have been, this one included
	// Err is why the last link ended, or why none comes to be; nil while none was tried.
	// While Up it is that of the link before.
	Err error
}

// String is one line for a log: what the link is, or why there is none.
func (s Status) String() string {
	switch {
	case s.Up:
		return fmt.Sprintf("up: peer %q, interface %q, %d receive and %d transmit rings of %d descriptors",
			s.PeerName, s.PeerIfName, s.RxRings, s.TxRings, s.RingSize)
	case s.Err != nil:
		return "down: " + s.Err.Error()
	}
	return "down"
}
