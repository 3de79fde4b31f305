package memif_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/memif"
)

// pair is two interfaces of this process that are joined by a link.
type pair struct{ server, client *memif.Interface }

// run runs a socket until the test ends.
func run(t testing.TB, s *memif.Socket) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func newSocket(t testing.TB, role memif.Role, address string) *memif.Socket {
	t.Helper()
	s, err := memif.NewSocket(memif.SocketConfig{Role: role, Address: address, Retry: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func add(t testing.TB, s *memif.Socket, c memif.Config) *memif.Interface {
	t.Helper()
	i, err := s.Add(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	})
	return i
}

func waitUp(t testing.TB, list ...*memif.Interface) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, i := range list {
		if err := i.WaitUp(ctx); err != nil {
			t.Fatalf("wait for link: %v (%+v)", err, i.Status())
		}
	}
}

func join(t testing.TB, server, client memif.Config) pair {
	t.Helper()
	address := filepath.Join(t.TempDir(), "memif.sock")
	a, b := newSocket(t, memif.Server, address), newSocket(t, memif.Client, address)
	p := pair{add(t, a, server), add(t, b, client)}
	run(t, a)
	run(t, b)
	waitUp(t, p.server, p.client)
	return p
}

// TestServerComesLate: a client that looks once an hour at most finds a server that was
// not there yet when it began.
func TestServerComesLate(t *testing.T) {
	address := filepath.Join(t.TempDir(), "memif.sock")
	late, err := memif.NewSocket(memif.SocketConfig{Role: memif.Client, Address: address, Retry: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	client := add(t, late, memif.Config{})
	run(t, late)
	for client.Status().Err == nil { // it has looked, and found nobody
		time.Sleep(time.Millisecond)
	}
	s := newSocket(t, memif.Server, address)
	server := add(t, s, memif.Config{})
	run(t, s)
	waitUp(t, server, client)
}

// frame is a frame of n bytes whose every byte follows from seed.
func frame(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func buffers(n, size int) [][]byte {
	list := make([][]byte, n)
	for i := range list {
		list[i] = make([]byte, size)
	}
	return list
}

// receive waits until want frames have come.
func receive(t testing.TB, q *memif.RxQueue, want int) [][]byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var got [][]byte
	for len(got) < want {
		if err := q.Wait(ctx); err != nil {
			t.Fatalf("wait for frame %d of %d: %v", len(got), want, err)
		}
		bufs := buffers(7, 1<<17)
		n, err := q.Receive(bufs)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, bufs[:n]...)
	}
	return got
}

// TestFrames sends random frames of all sizes both ways over rings of all sizes.
func TestFrames(t *testing.T) {
	for _, c := range []memif.Config{
		{},
		{RingSize: 2, BufferSize: 64, MaxFrame: 128},
		{RingSize: 4, BufferSize: 2048},
		{RingSize: 64, BufferSize: 2048},
		{RingSize: 1 << 15, BufferSize: 64},
		{Mode: memif.IP, RxMode: memif.Polling},
		{Mode: memif.IP, RxMode: memif.Adaptive},
	} {
		t.Run(fmt.Sprintf("ring=%d,buffer=%d,%s", c.RingSize, c.BufferSize, c.Mode), func(t *testing.T) {
			p := join(t, memif.Config{Mode: c.Mode, RxMode: c.RxMode, MaxFrame: c.MaxFrame}, c)
			longest := min(p.client.Config().MaxFrame, p.client.Config().RingSize*p.client.Config().BufferSize)
			for _, way := range []struct {
				tx *memif.TxQueue
				rx *memif.RxQueue
			}{{p.client.TxQueue(0), p.server.RxQueue(0)}, {p.server.TxQueue(0), p.client.RxQueue(0)}} {
				var sent [][]byte
				for i := range 300 {
					n := 1 + rand.IntN(longest)
					if i%3 != 0 {
						n = 1 + rand.IntN(min(longest, 200))
					}
					sent = append(sent, frame(uint64(i), n))
				}
				errs := make(chan error, 1)
				go func() { errs <- sendAll(way.tx, sent) }()
				for i, got := range receive(t, way.rx, len(sent)) {
					if !bytes.Equal(got, sent[i]) {
						t.Fatalf("frame %d: %d bytes came, %d were sent, or they differ", i, len(got), len(sent[i]))
					}
				}
				if err := <-errs; err != nil {
					t.Fatal(err)
				}
				if s := way.rx.Stats(); s.Frames != uint64(len(sent)) || s.Invalid != 0 || s.TooLong != 0 {
					t.Errorf("received: %+v", s)
				}
			}
		})
	}
}

func sendAll(q *memif.TxQueue, frames [][]byte) error {
	for len(frames) > 0 {
		n, err := q.Send(frames[:min(len(frames), 5)])
		if err != nil {
			return err
		}
		frames = frames[n:]
		if n == 0 {
			time.Sleep(50 * time.Microsecond)
		}
	}
	return nil
}

// TestViews does the same as TestFrames without copies.
func TestViews(t *testing.T) {
	p := join(t, memif.Config{}, memif.Config{RingSize: 64, BufferSize: 256})
	for _, way := range []struct {
		tx *memif.TxQueue
		rx *memif.RxQueue
	}{{p.client.TxQueue(0), p.server.RxQueue(0)}, {p.server.TxQueue(0), p.client.RxQueue(0)}} {
		views := make([]memif.View, 16)
		for round := range 200 {
			sent := frame(uint64(round), 1+rand.IntN(1000))
			n, err := way.tx.Reserve(views)
			if err != nil || n < 4 {
				t.Fatalf("reserve: %d, %v", n, err)
			}
			used, rest := 0, sent
			for ; len(rest) > 0; used++ {
				k := copy(views[used].Bytes, rest)
				rest = rest[k:]
				views[used].Bytes, views[used].More = views[used].Bytes[:k], len(rest) > 0
			}
			if n, err := way.tx.Commit(views[:used]); n != used || err != nil {
				t.Fatalf("commit: %d, %v", n, err)
			}
			if err := way.rx.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			n, err = way.rx.Borrow(views)
			if err != nil || n != used {
				t.Fatalf("borrow: %d views, %v; want %d", n, err, used)
			}
			var got []byte
			for i, v := range views[:n] {
				got = append(got, v.Bytes...)
				if v.More != (i < n-1) {
					t.Errorf("view %d of %d: more is %t", i, n, v.More)
				}
			}
			way.rx.Release(n)
			if !bytes.Equal(got, sent) {
				t.Fatalf("round %d: %d bytes came, %d were sent, or they differ", round, len(got), len(sent))
			}
		}
	}
}

// TestReconnect ends each side in turn; the queues of the other side find the new link.
func TestReconnect(t *testing.T) {
	for _, stays := range []memif.Role{memif.Server, memif.Client} {
		t.Run(stays.String()+" stays", func(t *testing.T) { reconnect(t, stays) })
	}
}

func reconnect(t *testing.T, stays memif.Role) {
	address := filepath.Join(t.TempDir(), "memif.sock")
	s := newSocket(t, stays, address)
	stay := add(t, s, memif.Config{})
	run(t, s)
	for round := range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		o := newSocket(t, 1-stays, address)
		other := add(t, o, memif.Config{})
		done := make(chan error, 1)
		go func() { done <- o.Run(ctx) }()
		waitUp(t, stay, other)
		sent := frame(uint64(round), 700)
		if n, err := stay.TxQueue(0).Send([][]byte{sent}); n != 1 || err != nil {
			// A server may send once the client has offered buffers.
			if err := sendAll(stay.TxQueue(0), [][]byte{sent}); err != nil {
				t.Fatal(err)
			}
		}
		if got := receive(t, other.RxQueue(0), 1); !bytes.Equal(got[0], sent) {
			t.Fatal("frame differs")
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if n, err := other.RxQueue(0).Receive(buffers(1, 100)); n != 0 || err != memif.ErrClosed {
			t.Errorf("receive after the end: %d, %v; want ErrClosed", n, err)
		}
		for end := time.Now().Add(10 * time.Second); stay.Status().Up && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		if st := stay.Status(); st.Up || st.Links != uint64(round+1) || st.Err == nil {
			t.Fatalf("status after the peer's end: %+v", st)
		}
	}
}
