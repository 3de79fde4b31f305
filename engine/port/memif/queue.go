package memif

import (
	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/memif"
)

// rxQueue is a receive queue with the slices that its calls hand to the library.
type rxQueue struct {
	inner   *memif.RxQueue
	frames  [packet.BatchSize][]byte
	want    int // how many buffers are made ready at once
	polling bool
}

// firstWant is how many packets an idle queue is asked for: making buffers ready costs more
// than finding the ring empty.
const firstWant = 16

// receive fills bufs. Unless the queue is polled, it asks for a signal before it returns
// with less: the descriptor stays readable only while there is something.
func (r *rxQueue) receive(bufs []*packet.Buffer, open bool) (int, error) {
	total := 0
	for open && total < len(bufs) {
		want := min(r.want, len(bufs)-total)
		n, err := r.take(bufs[total : total+want])
		total += n
		if err != nil {
			return total, err
		}
		if n < want {
			r.want = max(firstWant, min(2*total, packet.BatchSize))
			break
		}
		r.want = min(2*r.want, packet.BatchSize)
	}
	if total == len(bufs) || r.polling {
		return total, nil
	}
	return total, r.inner.Arm()
}

func (r *rxQueue) take(bufs []*packet.Buffer) (int, error) {
	frames := r.frames[:len(bufs)]
	for i, b := range bufs {
		b.Reset(packet.Headroom)
		space := b.Space()
		frames[i] = space[:len(space):len(space)]
	}
	n, err := r.inner.Receive(frames)
	for i, b := range bufs[:n] {
		b.SetLen(len(frames[i]))
	}
	return n, err
}

func (r *rxQueue) setPolling(on bool) {
	r.polling = on
	mode := memif.Interrupt
	if on {
		mode = memif.Polling
	}
	r.inner.SetRxMode(mode)
}

// txQueue is a transmit queue, likewise.
type txQueue struct {
	inner  *memif.TxQueue
	frames [packet.BatchSize][]byte
}

func (t *txQueue) transmit(bufs []*packet.Buffer) (int, error) {
	total := 0
	for total < len(bufs) {
		some := bufs[total:min(total+packet.BatchSize, len(bufs))]
		for i, b := range some {
			t.frames[i] = b.Bytes()
		}
		n, err := t.inner.Send(t.frames[:len(some)])
		total += n
		if err != nil || n < len(some) {
			return total, err
		}
	}
	return total, nil
}
