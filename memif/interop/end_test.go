package interop

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/memif"
)

// end is our end of a memif: the library, in this process.
type end struct {
	*memif.Interface
	stop func() error // a second call does nothing
}

func newEnd(role memif.Role, address string, c memif.Config) (*end, error) {
	s, err := memif.NewSocket(memif.SocketConfig{Role: role, Address: address, Retry: 50 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	i, err := s.Add(c)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return &end{i, sync.OnceValue(func() error {
		cancel()
		return errors.Join(<-done, i.Close())
	})}, nil
}

func startEnd(t testing.TB, role memif.Role, address string, c memif.Config) *end {
	t.Helper()
	e, err := newEnd(role, address, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.stop(); err != nil {
			t.Errorf("end our side: %v", err)
		}
	})
	return e
}

func (e *end) up(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := e.WaitUp(ctx); err != nil {
		t.Fatalf("wait for link: %v (%+v)", err, e.Status())
	}
}

// down waits until the link is over.
func (e *end) down(t testing.TB) {
	t.Helper()
	for until := time.Now().Add(patience); e.Status().Up; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("the link outlives its peer: %v", e.Status())
		}
	}
}

// frame is one of n bytes that tells its queue and number and is random otherwise.
func frame(queue, number, n int) []byte {
	r := rand.New(rand.NewPCG(uint64(queue), uint64(number)))
	f := make([]byte, n)
	for i := range f {
		f[i] = byte(r.Uint32())
	}
	f[0] &^= 1 // to one station
	binary.BigEndian.PutUint16(f[12:], 0x88b5)
	binary.BigEndian.PutUint32(f[14:], uint32(queue))
	binary.BigEndian.PutUint32(f[18:], uint32(number))
	return f
}

// echo sends count frames by a queue and checks that each comes back whole, in order, by
// the same queue. A few are on their way at a time.
func (e *end) echo(ctx context.Context, queue, count, size int) error {
	const window = 32
	tx, rx := e.TxQueue(queue), e.RxQueue(queue)
	bufs := make([][]byte, window)
	for i := range bufs {
		bufs[i] = make([]byte, 16<<10)
	}
	ctx, cancel := context.WithTimeout(ctx, patience/2)
	defer cancel()
	for sent, got := 0, 0; got < count; {
		var batch [][]byte
		for n := sent; n < min(count, got+window); n++ {
			batch = append(batch, frame(queue, n, size))
		}
		n, err := tx.Send(batch)
		if err != nil {
			return err
		}
		sent += n
		// A DPDK client offers its first buffers a while after the link is up.
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		err = rx.Wait(short)
		cancel()
		if ctx.Err() != nil {
			return fmt.Errorf("frame %d of %d by queue %d did not come back, %d sent; link %v", got, count, queue, sent, e.Status())
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		if n, err = rx.Receive(bufs); err != nil {
			return err
		}
		for _, b := range bufs[:n] {
			if want := frame(queue, got, size); !bytes.Equal(b, want) {
				return fmt.Errorf("frame %d of queue %d: came back as %d bytes that differ from those sent (%d)", got, queue, len(b), len(want))
			}
			got++
		}
	}
	return nil
}
