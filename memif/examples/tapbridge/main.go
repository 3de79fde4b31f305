// Tapbridge joins a memif and a TAP device (in ip mode: a TUN device), which it makes and
// sets up: the kernel, and whatever runs on it, is then at the other end of the link. Each
// queue is one of the device's, which goes with the process. What finds no room is dropped.
//
//	tapbridge --socket @millrace/memif0 --tap net1 --address 10.0.0.2/24
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/millrace/millrace/memif"
	"github.com/millrace/millrace/memif/examples/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
)

func main() {
	at, config := link.Flags("")
	name, mtu := flag.String("tap", "net1", "`name` of the device"), flag.Int("mtu", 1500, "of the device, in `bytes`")
	address := flag.String("address", "", "`prefix` for the device, such as 10.0.0.2/24 (default none)")
	link.Parse()
	kind := map[memif.Mode]netlink.TuntapMode{memif.Ethernet: netlink.TUNTAP_MODE_TAP, memif.IP: netlink.TUNTAP_MODE_TUN}[config.Mode]
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := memif.Attach(ctx, *at, *config, func(ctx context.Context, rx *memif.RxQueue, tx *memif.TxQueue) error {
		tap := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: *name}, Mode: kind, Queues: 1, NonPersist: true}
		if err := netlink.LinkAdd(tap); err != nil {
			return err
		}
		if err := setUp(tap, *mtu, *address); err != nil {
			return errors.Join(err, tap.Fds[0].Close())
		}
		return bridge(ctx, tap.Fds[0], rx, tx)
	})
	if err != nil {
		log.Fatalf("device %s, mtu %d, address %q: %v", *name, *mtu, *address, err)
	}
}

func setUp(device netlink.Link, mtu int, address string) error {
	if address != "" {
		prefix, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		if err := netlink.AddrReplace(device, prefix); err != nil {
			return err
		}
	}
	return errors.Join(netlink.LinkSetMTU(device, mtu), netlink.LinkSetUp(device))
}

// bridge moves frames both ways until ctx ends or the device is deleted.
func bridge(ctx context.Context, tap *os.File, rx *memif.RxQueue, tx *memif.TxQueue) error {
	refused, noRoom := 0, 0
	defer func() {
		log.Printf("received %+v, refused %d; sent %+v, no room for %d", rx.Stats(), refused, tx.Stats(), noRoom)
	}()
	group, ctx := errgroup.WithContext(ctx)
	context.AfterFunc(ctx, func() { _ = tap.Close() }) // ends Read
	group.Go(func() error {
		frame := make([]byte, memif.DefaultMaxFrame)
		for {
			n, err := tap.Read(frame)
			if err != nil {
				return errors.Join(ctx.Err(), err)
			}
			sent, err := tx.Send([][]byte{frame[:n]})
			if err != nil {
				return err
			}
			noRoom += 1 - sent
		}
	})
	group.Go(func() error {
		frames := [][]byte{make([]byte, memif.DefaultMaxFrame)}
		for {
			if err := rx.Wait(ctx); err != nil {
				return err
			}
			n, err := rx.Receive(frames)
			if err != nil {
				return err
			}
			for _, f := range frames[:n] {
				if _, err := tap.Write(f); err != nil && ctx.Err() == nil {
					refused++ // the device is down, or this is no frame
				}
			}
		}
	})
	return group.Wait()
}
