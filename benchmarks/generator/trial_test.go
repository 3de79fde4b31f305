package generator

import (
	"context"
	"encoding/binary"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/millrace/millrace/memif"
)

// linked is a generator on one end of a link of this process, and the link's other end.
type linked struct {
	g    *Generator
	rx   *memif.RxQueue
	tx   *memif.TxQueue
	in   [][]byte
	keep [][]byte
}

// link joins a generator to a device with rings that hold what a busy machine delays.
func link(t *testing.T, batch int) *linked {
	t.Helper()
	address := filepath.Join(t.TempDir(), "memif.sock")
	var ends [2]*memif.Interface
	for i, role := range []memif.Role{memif.Server, memif.Client} {
		s, err := memif.NewSocket(memif.SocketConfig{Role: role, Address: address, Retry: 20 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		if ends[i], err = s.Add(memif.Config{RingSize: 8192 * i, RxMode: memif.Polling}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if err := ends[i].Close(); err != nil {
				t.Error(err)
			}
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, e := range ends {
		if err := e.WaitUp(ctx); err != nil {
			t.Fatal(err)
		}
	}
	g, err := New(Config{Tx: []*memif.TxQueue{ends[1].TxQueue(0)}, Rx: []*memif.RxQueue{ends[1].RxQueue(0)}, Core: -1, Size: 64, Batch: batch, Header: DefaultHeader()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return &linked{g: g, rx: ends[0].RxQueue(0), tx: ends[0].TxQueue(0), in: buffers(64, MaxFrame), keep: make([][]byte, 0, 64)}
}

// device sends back once what is there, without the frames whose sequence number drop is
// true for, and says how many came.
func (l *linked) device(drop func(sequence uint32) bool) (int, error) {
	n, err := l.rx.Receive(l.in)
	if err != nil {
		return n, err
	}
	l.keep = l.keep[:0]
	for _, f := range l.in[:n] {
		if !drop(binary.LittleEndian.Uint32(f[sequenceAt:])) {
			l.keep = append(l.keep, f)
		}
	}
	for left := l.keep; len(left) > 0; {
		sent, err := l.tx.Send(left)
		if err != nil {
			return n, err
		}
		if left = left[sent:]; sent == 0 {
			runtime.Gosched()
		}
	}
	return n, nil
}

// reflect runs a device until the test ends.
func (l *linked) reflect(t *testing.T, drop func(uint32) bool) {
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			n, err := l.device(drop)
			if err != nil {
				done <- err
				return
			}
			if n == 0 {
				runtime.Gosched()
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// trial runs one whose frames the device all took: on a machine that is held up longer than
// the ring lasts, it is made again.
func (l *linked) trial(t *testing.T, rate float64) Tally {
	t.Helper()
	for range 10 {
		from := l.g.clock.Now() + 20e6
		tally, err := l.g.Trial(Trial{Rate: rate, From: from, To: from + 200e6, Drain: 200 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		if tally.Sent == tally.Offered && tally.Offered > 0 {
			return tally
		}
	}
	t.Fatal("no trial of 10 had room in the ring for all frames")
	return Tally{}
}

// TestTrialCountsLoss: the trial reports exactly what the device dropped, not what it
// dropped before the trial began.
func TestTrialCountsLoss(t *testing.T) {
	for _, every := range []uint32{0, 1, 7, 1000} {
		l := link(t, 32)
		l.reflect(t, func(sequence uint32) bool { return every > 0 && sequence%every == 0 })
		got := l.trial(t, 20_000)
		dropped := uint64(0)
		if every > 0 {
			dropped = (got.Offered + uint64(every) - 1) / uint64(every)
		}
		if got.Lost() != dropped || got.Received != got.Offered-dropped {
			t.Errorf("a device that drops each %d: %d of %d lost, want %d", every, got.Lost(), got.Offered, dropped)
		}
		if want := float64(dropped) / float64(got.Offered); got.Loss() != want {
			t.Errorf("loss ratio %v, want %v", got.Loss(), want)
		}
		if got.Histogram.Count() != got.Received || got.Disorder != 0 {
			t.Errorf("%d latencies of %d frames, %d out of order", got.Histogram.Count(), got.Received, got.Disorder)
		}
		if due := uint64(20_000 * got.Took.Seconds()); got.Offered+got.Late > due || got.Offered+got.Late+32*(catchUp+1) < due {
			t.Errorf("%d offered and %d late in %s, want %d", got.Offered, got.Late, got.Took, due)
		}
	}
}

// TestTrialCountsTwice: a device that sends frames twice is told by their order.
func TestTrialCountsTwice(t *testing.T) {
	l := link(t, 32)
	f := l.g.flight(1)
	f.start(l.g.clock.Now())
	frame := l.g.out.frames[0]
	now := f.begin + 10
	put := func(sequence uint32, stamp int64) {
		binary.LittleEndian.PutUint32(frame[sequenceAt:], sequence)
		binary.LittleEndian.PutUint64(frame[stampAt:], uint64(stamp))
		f.take(frame, now)
	}
	for _, sequence := range []uint32{0, 1, 1, 4, 2} {
		put(sequence, f.begin)
	}
	put(5, f.begin-1) // of before
	put(5, now+1)     // of nobody
	f.take(frame[:20], now)
	if f.Received != 5 || f.Disorder != 2 {
		t.Errorf("received %d, %d out of order; want 5, 2", f.Received, f.Disorder)
	}
}

// TestFullRingLoses: what the device has no room for is offered and lost.
func TestFullRingLoses(t *testing.T) {
	l := link(t, 64) // and nobody reflects
	from := l.g.clock.Now() + 1e6
	got, err := l.g.Trial(Trial{Rate: 2e6, From: from, To: from + 100e6, Drain: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if got.Sent > 8192 || got.Offered <= got.Sent || got.Lost() != got.Offered || got.Loss() != 1 {
		t.Errorf("%+v: want a ring that is full and all lost", got)
	}
}

func TestTrialRefuses(t *testing.T) {
	l := link(t, 64)
	for _, bad := range []Trial{{Rate: 0, From: 1, To: 2}, {Rate: -1, From: 1, To: 2}, {Rate: 2e9, From: 1, To: 2}, {Rate: 1, From: 2, To: 2}, {Rate: 1, From: 1, To: 2, Drain: -1}} {
		if _, err := l.g.Trial(bad); err == nil {
			t.Errorf("%+v is no error", bad)
		}
	}
}

// TestPace: whatever the times at which it is asked, what is offered and late adds up to
// the rate, and no more is due at a time than allowed.
func TestPace(t *testing.T) {
	p := pace{perNS: 0.01, slack: 100} // 10 M frames/s
	var offered, late uint64
	for i, now := range []int64{0, 50, 100, 150, 1000, 100_000, 100_001, 100_010, 110_000} {
		n, l := p.due(now, 32)
		offered, late = offered+uint64(n), late+l
		if want := []int{0, 0, 1, 0, 9, 32, 32, 32, 32}[i]; n != want {
			t.Errorf("at %d: %d frames, want %d", now, n, want)
		}
	}
	if offered+late+100 < 1100 || offered+late > 1100 || late == 0 {
		t.Errorf("%d offered, %d late of 1100", offered, late)
	}
}

// TestStepAllocatesNothing covers sending, stamping, receiving and recording.
func TestStepAllocatesNothing(t *testing.T) {
	l := link(t, 64)
	f := l.g.flight(5e6)
	f.start(l.g.clock.Now())
	keep := func(uint32) bool { return false }
	n := testing.AllocsPerRun(2000, func() {
		if err := l.g.step(f, l.g.clock.Now()); err != nil {
			t.Fatal(err)
		}
		if _, err := l.device(keep); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 || f.Received == 0 {
		t.Errorf("%v allocations per step, %d frames received", n, f.Received)
	}
}
