// Capture writes what it receives to a pcapng file, for Wireshark or tcpdump -r. It reads
// frames where they lie in the shared memory, and sends nothing.
//
//	capture --socket @millrace/memif0 --write frames.pcapng
//	capture --role server --socket /tmp/memif.sock --write - | tshark -r -
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/millrace/millrace/memif"
	"github.com/millrace/millrace/memif/examples/link"
)

func main() {
	at, config := link.Flags("")
	path := flag.String("write", "-", "`file` to write; - is standard output")
	link.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *at, *config, *path); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, at memif.SocketConfig, config memif.Config, path string) (err error) {
	out := os.Stdout
	if path != "-" {
		if out, err = os.Create(path); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, out.Close()) }()
	}
	kind := layers.LinkTypeEthernet
	if config.Mode == memif.IP {
		kind = layers.LinkTypeRaw
	}
	ng, err := pcapgo.NewNgWriter(out, kind)
	if err != nil {
		return err
	}
	file := &file{ng: ng}
	return memif.Attach(ctx, at, config, func(ctx context.Context, rx *memif.RxQueue, _ *memif.TxQueue) error {
		defer func() { log.Printf("captured %+v", rx.Stats()) }()
		views, n := make([]memif.View, 256), 0
		for {
			err := file.write(time.Now(), views[:n]) // at first only the file's header
			rx.Release(n)
			if err != nil {
				return err
			}
			if err := rx.Wait(ctx); err != nil {
				return err
			}
			if n, err = rx.Borrow(views); err != nil {
				return err
			}
		}
	})
}

// file is shared by the queues.
type file struct {
	mu sync.Mutex // guards ng
	ng *pcapgo.NgWriter
}

// write joins the views of each frame and writes it.
func (f *file) write(now time.Time, views []memif.View) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var chained []byte
	for _, v := range views {
		if v.More || chained != nil {
			chained = append(chained, v.Bytes...)
			v.Bytes = chained
		}
		if v.More {
			continue
		}
		if err := f.ng.WritePacket(gopacket.CaptureInfo{Timestamp: now, CaptureLength: len(v.Bytes), Length: len(v.Bytes)}, v.Bytes); err != nil {
			return err
		}
		chained = nil
	}
	return f.ng.Flush()
}
