package memif_test

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/memif"
)

// BenchmarkFrames moves frames from one thread to another; its time is that of one frame.
func BenchmarkFrames(b *testing.B) {
	for _, size := range []int{64, 1500} {
		for _, batch := range []int{32, 256} {
			for _, up := range []bool{true, false} {
				way := map[bool]string{true: "client-server", false: "server-client"}[up]
				b.Run(fmt.Sprintf("size=%d/batch=%d/%s", size, batch, way), func(b *testing.B) {
					p := join(b, memif.Config{RxMode: memif.Polling}, memif.Config{RxMode: memif.Polling})
					if up {
						benchFrames(b, p.client.TxQueue(0), p.server.RxQueue(0), size, batch)
					} else {
						benchFrames(b, p.server.TxQueue(0), p.client.RxQueue(0), size, batch)
					}
				})
			}
		}
	}
}

func benchFrames(b *testing.B, tx *memif.TxQueue, rx *memif.RxQueue, size, batch int) {
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		frames := buffers(batch, size)
		for !stop.Load() {
			if n, err := tx.Send(frames); err != nil || n == 0 {
				continue
			}
		}
	}()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	bufs := buffers(batch, 2048)
	b.SetBytes(int64(size))
	for got := 0; got < b.N; {
		n, err := rx.Receive(bufs)
		if err != nil {
			b.Fatal(err)
		}
		got += n
	}
	b.StopTimer()
	stop.Store(true)
	<-done
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mframes/s")
}

// BenchmarkOneCore sends and receives on one thread: what the library costs without the
// traffic between two caches.
func BenchmarkOneCore(b *testing.B) {
	for _, size := range []int{64, 1500} {
		for _, batch := range []int{32, 256} {
			b.Run(fmt.Sprintf("size=%d/batch=%d", size, batch), func(b *testing.B) {
				p := join(b, memif.Config{RxMode: memif.Polling}, memif.Config{RxMode: memif.Polling})
				tx, rx := p.client.TxQueue(0), p.server.RxQueue(0)
				frames, bufs := buffers(batch, size), buffers(batch, 2048)
				b.SetBytes(int64(size))
				for got := 0; got < b.N; got += batch {
					if n, err := tx.Send(frames); n != batch || err != nil {
						b.Fatal(n, err)
					}
					if n, err := rx.Receive(bufs); n != batch || err != nil {
						b.Fatal(n, err)
					}
				}
			})
		}
	}
}
