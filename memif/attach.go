package memif

import (
	"context"
	"errors"
	"sync"
)

// Work is what a network function does with one receive and one transmit queue.
type Work func(ctx context.Context, rx *RxQueue, tx *TxQueue) error

// Attach is a Socket with one Interface, for network functions that need no more. It runs
// work once for each queue, at the same time; links come and go meanwhile. Where there are
// more queues one way than the other, work gets nil for those that are missing.
//
// It returns when all work has returned. When ctx ends, one work fails, or the listening
// socket breaks, then the context that work gets ends, and the queues answer ErrClosed.
// That ctx has ended is no error, nor what work returns for it: its error, or ErrClosed.
func Attach(ctx context.Context, at SocketConfig, c Config, work Work) error {
	socket, err := NewSocket(at)
	if err != nil {
		return err
	}
	port, err := socket.Add(c)
	if err != nil {
		return errors.Join(err, socket.Close())
	}
	ctx, end := context.WithCancel(ctx)
	errs := make(chan error, 1+max(len(port.rx), len(port.tx)))
	var all sync.WaitGroup
	all.Go(func() {
		defer end()
		errs <- socket.Run(ctx)
	})
	var working sync.WaitGroup
	for n := range max(len(port.rx), len(port.tx)) {
		working.Go(func() {
			err := port.work(ctx, n, work)
			if err != nil {
				end()
			}
			errs <- err
		})
	}
	working.Wait()
	end()
	all.Wait()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	return errors.Join(err, port.Close())
}

func (i *Interface) work(ctx context.Context, n int, work Work) error {
	var rx *RxQueue
	var tx *TxQueue
	if n < len(i.rx) {
		rx = i.rx[n]
	}
	if n < len(i.tx) {
		tx = i.tx[n]
	}
	err := work(ctx, rx, tx)
	if over := ctx.Err(); over != nil && (errors.Is(err, over) || errors.Is(err, ErrClosed)) {
		return nil
	}
	return err
}
