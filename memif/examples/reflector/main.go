// Reflector sends every frame back to where it came from, with its MAC addresses swapped
// (in ip mode: as it is): the far end of a measurement, and the shortest network function.
// It never waits for room: what does not fit is dropped and counted.
//
//	reflector --socket @millrace/memif0 --queues 2
package main

import (
	"context"
	"log"
	"os/signal"
	"syscall"

	"github.com/millrace/millrace/memif"
	"github.com/millrace/millrace/memif/examples/link"
)

func main() {
	at, config := link.Flags("")
	link.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := memif.Attach(ctx, *at, *config, func(ctx context.Context, rx *memif.RxQueue, tx *memif.TxQueue) error {
		return reflect(ctx, rx, tx, config.Mode)
	})
	if err != nil {
		log.Fatal(err)
	}
}

// reflect serves one queue until ctx, or the interface, ends.
func reflect(ctx context.Context, rx *memif.RxQueue, tx *memif.TxQueue, mode memif.Mode) error {
	frames, noRoom := make([][]byte, 64), 0
	for i := range frames {
		frames[i] = make([]byte, memif.DefaultMaxFrame)
	}
	defer func() { log.Printf("received %+v, sent %+v, no room for %d", rx.Stats(), tx.Stats(), noRoom) }()
	for {
		if err := rx.Wait(ctx); err != nil {
			return err
		}
		n, err := rx.Receive(frames)
		if err != nil {
			return err
		}
		for _, f := range frames[:n] {
			if mode == memif.Ethernet && len(f) >= 12 {
				to, from := [6]byte(f), [6]byte(f[6:])
				copy(f, from[:])
				copy(f[6:], to[:])
			}
		}
		sent, err := tx.Send(frames[:n])
		if err != nil {
			return err
		}
		noRoom += n - sent
	}
}
