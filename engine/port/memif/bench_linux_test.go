package memif

import (
	"fmt"
	"testing"

	"github.com/millrace/millrace/engine/packet"
)

// BenchmarkOneCore moves packets by both ends of a link on one thread; its time is that of
// one packet, sent and received.
func BenchmarkOneCore(b *testing.B) {
	for _, size := range []int{64, 1500} {
		for _, batch := range []int{32, 256} {
			b.Run(fmt.Sprintf("size=%d/batch=%d", size, batch), func(b *testing.B) {
				server, client := join(b, Config{}, Config{})
				server.SetPolling(0, true)
				out, in := buffers(b, batch), buffers(b, packet.BatchSize)
				for i, p := range out {
					fill(p, uint64(i), size)
				}
				b.SetBytes(int64(size))
				for got := 0; got < b.N; {
					if n, err := client.Transmit(0, out); err != nil || n != batch {
						b.Fatal(n, err)
					}
					n, err := server.Receive(0, in)
					if err != nil || n != batch {
						b.Fatal(n, err)
					}
					got += n
				}
			})
		}
	}
}

// BenchmarkEmpty is one look at a ring that is empty.
func BenchmarkEmpty(b *testing.B) {
	for _, polling := range []bool{true, false} {
		b.Run(fmt.Sprintf("polling=%t", polling), func(b *testing.B) {
			server, _ := join(b, Config{}, Config{})
			server.SetPolling(0, polling)
			in := buffers(b, packet.BatchSize)
			for b.Loop() {
				if n, err := server.Receive(0, in); n != 0 || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}
