// Router forwards IPv4 and IPv6 packets between two memifs in ip mode, 0 and 1, by static
// routes: each says what lies behind a link, and the longest prefix wins. Packets that have
// no route, would go back where they came from, or are at the end of their life are dropped.
//
//	router --socket0 @millrace/memif0 --route0 10.0.0.0/24 --socket1 @millrace/memif1 --route1 0.0.0.0/0
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/netip"
	"os/signal"
	"syscall"

	"github.com/millrace/millrace/memif"
	"github.com/millrace/millrace/memif/examples/link"
	"golang.org/x/sync/errgroup"
)

func main() {
	var r router
	var at [2]*memif.SocketConfig
	var config [2]*memif.Config
	for n := range r {
		at[n], config[n] = link.Flags(fmt.Sprint(n), memif.IP)
		flag.Func(fmt.Sprint("route", n), "`prefix` behind this link; may be given again", func(s string) error {
			prefix, err := netip.ParsePrefix(s)
			r[n] = append(r[n], prefix)
			return err
		})
	}
	link.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, at, config, r); err != nil {
		log.Fatal(err)
	}
}

// run has two links: what memif.Attach does for one is done here by hand.
func run(ctx context.Context, at [2]*memif.SocketConfig, config [2]*memif.Config, r router) error {
	config[0].TxQueues, config[1].TxQueues = config[1].RxQueues, config[0].RxQueues
	group, working := errgroup.WithContext(ctx)
	var ports [2]*memif.Interface
	for n := range ports {
		socket, err := memif.NewSocket(*at[n])
		if err == nil {
			ports[n], err = socket.Add(*config[n])
			group.Go(func() error { return socket.Run(working) })
		}
		if err != nil {
			group.Go(func() error { return err })
			return group.Wait()
		}
	}
	for n := range ports {
		for q := range ports[n].Config().RxQueues {
			group.Go(func() error { return r.forward(working, 1-n, ports[n].RxQueue(q), ports[1-n].TxQueue(q)) })
		}
	}
	err := group.Wait()
	if ctx.Err() != nil {
		err = nil
	}
	return errors.Join(err, ports[0].Close(), ports[1].Close())
}

// forward moves packets to a link.
func (r router) forward(ctx context.Context, to int, rx *memif.RxQueue, tx *memif.TxQueue) error {
	packets, out, dropped := make([][]byte, 64), make([][]byte, 0, 64), 0
	for i := range packets {
		packets[i] = make([]byte, memif.DefaultMaxFrame)
	}
	defer func() { log.Printf("to %d: received %+v, sent %+v, dropped %d", to, rx.Stats(), tx.Stats(), dropped) }()
	for {
		if err := rx.Wait(ctx); err != nil {
			return err
		}
		n, err := rx.Receive(packets)
		if err != nil {
			return err
		}
		out = out[:0]
		for _, p := range packets[:n] {
			if r.link(hop(p)) == to {
				out = append(out, p)
			}
		}
		sent, err := tx.Send(out)
		if err != nil {
			return err
		}
		dropped += n - sent
	}
}
