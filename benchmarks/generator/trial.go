package generator

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/benchmarks/histogram"
)

// Trial is frames that are sent at a rate.
type Trial struct {
	Rate     float64       // frames/s
	From, To int64         // when they are sent, in ns of the machine's monotonic clock
	Drain    time.Duration // how long after To the last may still come back
}

// Tally is what became of the frames of one trial. Frames are told from those of other
// trials, and of the time before From, by their stamp.
type Tally struct {
	Offered  uint64 // frames that were due and offered to the device
	Sent     uint64 // those that the device took: what found its ring full is lost
	Received uint64 // those that came back
	// Late is frames that the generator itself did not get to: its thread was held up for
	// longer than it may catch up with at once. They were not offered.
	Late      uint64
	Disorder  uint64        // frames that came back after one that was sent later, or twice
	Took      time.Duration // from From to To, as it really was
	Mallocs   uint64        // of the whole process, in the trial and around its edges
	Histogram *histogram.Histogram
}

// Lost is offered frames that did not come back.
func (t Tally) Lost() uint64 { return t.Offered - min(t.Received, t.Offered) }

// Loss is the share of the offered frames that was lost, 0 to 1.
func (t Tally) Loss() float64 {
	if t.Offered == 0 {
		return 0
	}
	return float64(t.Lost()) / float64(t.Offered)
}

// Rate is what was really offered, in frames/s.
func (t Tally) Rate() float64 { return float64(t.Offered) / t.Took.Seconds() }

// catchUp is how many batches the generator sends at once, at most, when it was held up.
// More would be a burst that no device is asked to carry.
const catchUp = 4

// pace says how many frames are due.
type pace struct {
	perNS float64
	begin int64
	done  uint64 // frames that were offered or are late
	slack uint64 // frames that may be due at a time
}

// due is how many frames to offer now, at most most, and how many it is too late for.
func (p *pace) due(now int64, most int) (n int, late uint64) {
	total := uint64(float64(now-p.begin) * p.perNS)
	if total <= p.done {
		return 0, 0
	}
	owed := total - p.done
	if owed > p.slack {
		late = owed - p.slack
		owed = p.slack
	}
	n = min(int(owed), most)
	p.done += late + uint64(n)
	return n, late
}

// flight is a trial under way.
type flight struct {
	Tally
	pace
	queue    int    // of Tx, that the next burst goes to
	expected uint32 // sequence number after the highest that came back
}

// Trial sends frames at a rate and takes in what comes back, on the generator's thread. It
// sends at that rate already before From, and that does not count. A device that is slower
// loses frames; that is no error.
func (g *Generator) Trial(t Trial) (Tally, error) {
	switch {
	case !(t.Rate > 0 && t.Rate <= 1e9):
		return Tally{}, fmt.Errorf("run trial: %v frames/s: want more than 0 to 1e9", t.Rate)
	case t.From >= t.To || t.Drain < 0:
		return Tally{}, errors.New("run trial: it ends before it begins")
	case len(g.config.Tx) == 0 || len(g.config.Rx) == 0:
		return Tally{}, errors.New("run trial: it needs queues to send to and to receive from")
	}
	f := g.flight(t.Rate)
	before := mallocs()
	err := g.do(func() error { return g.trial(t, f) })
	f.Mallocs = mallocs() - before
	return f.Tally, err
}

func (g *Generator) flight(rate float64) *flight {
	return &flight{
		Tally: Tally{Histogram: new(histogram.Histogram)},
		pace:  pace{perNS: rate / 1e9, begin: g.clock.Now(), slack: uint64(catchUp * g.config.Batch)},
	}
}

func (g *Generator) trial(t Trial, f *flight) error {
	now := g.clock.Now()
	for ; now < t.From; now = g.clock.Now() {
		if err := g.step(f, now); err != nil {
			return err
		}
	}
	f.start(now)
	for ; now < t.To; now = g.clock.Now() {
		if err := g.step(f, now); err != nil {
			return err
		}
	}
	_, late := f.due(now, 0) // what a hold-up at the very end left
	f.Late += late
	f.Took = time.Duration(now - f.begin)
	for end := now + int64(t.Drain); now < end && f.Received < f.Sent; now = g.clock.Now() {
		if err := g.collect(f); err != nil {
			return err
		}
	}
	return nil
}

// start forgets what was before.
func (f *flight) start(now int64) {
	f.Histogram.Reset()
	f.Tally = Tally{Histogram: f.Histogram}
	f.begin, f.done, f.expected = now, 0, 0
}

// step sends what is due and takes in what is there.
func (g *Generator) step(f *flight, now int64) error {
	n, late := f.due(now, len(g.out.frames))
	f.Late += late
	if n > 0 {
		if err := g.burst(f, now, n); err != nil {
			return err
		}
	}
	return g.collect(f)
}

// burst offers n frames to one queue. What it has no room for is not offered again.
func (g *Generator) burst(f *flight, now int64, n int) error {
	frames := g.out.frames[:n]
	g.flows.aim(g.out, n)
	for i, frame := range frames {
		binary.LittleEndian.PutUint32(frame[sequenceAt:], uint32(f.Offered)+uint32(i))
		binary.LittleEndian.PutUint64(frame[stampAt:], uint64(now))
	}
	sent, err := g.config.Tx[f.queue].Send(frames)
	if err != nil {
		return fmt.Errorf("send frames: %w", err)
	}
	if f.queue++; f.queue == len(g.config.Tx) {
		f.queue = 0
	}
	g.flows.next(sent)
	f.Offered += uint64(n)
	f.Sent += uint64(sent)
	return nil
}

// collect takes in a batch of each queue.
func (g *Generator) collect(f *flight) error {
	for _, q := range g.config.Rx {
		n, err := q.Receive(g.in)
		if err != nil {
			return fmt.Errorf("receive frames: %w", err)
		}
		if n == 0 {
			continue
		}
		now := g.clock.Now()
		for _, frame := range g.in[:n] {
			f.take(frame, now)
		}
	}
	return nil
}

// take counts a frame that came back, if it is one of this trial.
func (f *flight) take(frame []byte, now int64) {
	if !ours(frame) {
		return
	}
	stamp := int64(binary.LittleEndian.Uint64(frame[stampAt:]))
	if stamp < f.begin || stamp > now {
		return
	}
	f.Received++
	f.Histogram.Record(now - stamp)
	sequence := binary.LittleEndian.Uint32(frame[sequenceAt:])
	if int32(sequence-f.expected) < 0 {
		f.Disorder++
		return
	}
	f.expected = sequence + 1
}
