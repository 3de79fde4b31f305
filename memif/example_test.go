package memif_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"sync"
	"time"

	"github.com/millrace/millrace/memif"
)

// A server and a client in one process; they could as well be two processes, or one of them
// VPP or DPDK.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	address := fmt.Sprintf("@memif-example-%d", os.Getpid()) // or a path, as "/run/memif.sock"

	listening, err := memif.NewSocket(memif.SocketConfig{Role: memif.Server, Address: address})
	if err != nil {
		log.Fatal(err)
	}
	server, err := listening.Add(memif.Config{})
	if err != nil {
		log.Fatal(err)
	}
	dialling, err := memif.NewSocket(memif.SocketConfig{Role: memif.Client, Address: address})
	if err != nil {
		log.Fatal(err)
	}
	client, err := dialling.Add(memif.Config{})
	if err != nil {
		log.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { _ = listening.Run(ctx) })
	running.Go(func() { _ = dialling.Run(ctx) })

	if err := client.WaitUp(ctx); err != nil {
		log.Fatal(err)
	}
	sent, err := client.TxQueue(0).Send([][]byte{[]byte("a frame"), []byte("another")})
	fmt.Println("sent", sent, err)

	frames := [][]byte{make([]byte, 2048), make([]byte, 2048), make([]byte, 2048)}
	if err := server.RxQueue(0).Wait(ctx); err != nil {
		log.Fatal(err)
	}
	n, err := server.RxQueue(0).Receive(frames)
	fmt.Printf("received %d %v %q\n", n, err, frames[:n])

	cancel() // ends both Runs, and with them the link
	running.Wait()
	fmt.Println(errors.Join(client.Close(), server.Close()))

	// Output:
	// sent 2 <nil>
	// received 2 <nil> ["a frame" "another"]
	// <nil>
}

// Frames are read where they lie in the shared memory, and given back.
func ExampleRxQueue_Borrow() {
	ctx := context.Background()
	server, client, stop := linked(memif.Config{BufferSize: 64})
	defer stop()

	if _, err := client.TxQueue(0).Send([][]byte{[]byte("short"), make([]byte, 100)}); err != nil {
		log.Fatal(err)
	}
	rx, views := server.RxQueue(0), make([]memif.View, 8)
	if err := rx.Wait(ctx); err != nil {
		log.Fatal(err)
	}
	n, err := rx.Borrow(views)
	if err != nil {
		log.Fatal(err)
	}
	for _, v := range views[:n] {
		fmt.Println(len(v.Bytes), "bytes, more:", v.More)
	}
	rx.Release(n) // v.Bytes was valid until here

	// Output:
	// 5 bytes, more: false
	// 64 bytes, more: true
	// 36 bytes, more: false
}

// Frames are written where the peer will read them.
func ExampleTxQueue_Reserve() {
	ctx := context.Background()
	server, client, stop := linked(memif.Config{})
	defer stop()

	tx, views := client.TxQueue(0), make([]memif.View, 2)
	n, err := tx.Reserve(views)
	if err != nil {
		log.Fatal(err)
	}
	for i := range views[:n] {
		used := copy(views[i].Bytes, fmt.Sprint("frame ", i))
		views[i].Bytes = views[i].Bytes[:used]
	}
	if n, err = tx.Commit(views[:n]); err != nil {
		log.Fatal(err)
	}
	fmt.Println("sent", n)

	rx, frames := server.RxQueue(0), [][]byte{make([]byte, 2048), make([]byte, 2048)}
	if err := rx.Wait(ctx); err != nil {
		log.Fatal(err)
	}
	n, err = rx.Receive(frames)
	fmt.Printf("received %q %v\n", frames[:n], err)

	// Output:
	// sent 2
	// received ["frame 0" "frame 1"] <nil>
}

// Interfaces and queues outlive the link. When the peer comes back they go on.
func ExampleInterface_reconnect() {
	ctx := context.Background()
	address := fmt.Sprintf("@memif-example-%d", os.Getpid())
	client, stop := start(memif.Client, address, memif.Config{})
	defer stop()

	frame := make([]byte, 2048)
	for range 2 {
		server, end := start(memif.Server, address, memif.Config{})
		if err := errors.Join(server.WaitUp(ctx), client.WaitUp(ctx)); err != nil {
			log.Fatal(err)
		}
		if _, err := server.TxQueue(0).Send([][]byte{[]byte("hello again")}); err != nil {
			log.Fatal(err)
		}
		if err := client.RxQueue(0).Wait(ctx); err != nil {
			log.Fatal(err)
		}
		n, err := client.RxQueue(0).Receive([][]byte{frame})
		fmt.Println("link", client.Status().Links, "frames", n, err)
		end()
	}

	// Output:
	// link 1 frames 1 <nil>
	// link 2 frames 1 <nil>
}

// One address serves many interfaces, which their IDs tell apart.
func ExampleSocket_Add() {
	ctx, cancel := context.WithCancel(context.Background())
	address := fmt.Sprintf("@memif-example-%d", os.Getpid())
	socket, err := memif.NewSocket(memif.SocketConfig{Role: memif.Server, Address: address})
	if err != nil {
		log.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { _ = socket.Run(ctx) })

	for id := range uint32(3) {
		server, err := socket.Add(memif.Config{ID: id, Mode: memif.IP})
		if err != nil {
			log.Fatal(err)
		}
		client, stop := start(memif.Client, address, memif.Config{ID: id, Mode: memif.IP, Name: fmt.Sprint("port", id)})
		if err := server.WaitUp(ctx); err != nil {
			log.Fatal(err)
		}
		fmt.Println(id, server.Status().PeerIfName, client.Config().Mode)
		stop()
		if err := server.Close(); err != nil {
			log.Fatal(err)
		}
	}
	cancel()
	running.Wait()

	// Output:
	// 0 port0 ip
	// 1 port1 ip
	// 2 port2 ip
}

// start runs a socket with one interface, as Example does. stop ends both.
func start(role memif.Role, address string, c memif.Config) (port *memif.Interface, stop func()) {
	socket, err := memif.NewSocket(memif.SocketConfig{Role: role, Address: address, Retry: 5 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	if port, err = socket.Add(c); err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- socket.Run(ctx) }()
	return port, func() {
		cancel()
		if err := errors.Join(<-ended, port.Close()); err != nil {
			log.Fatal(err)
		}
	}
}

// linked returns the two ends of a link.
func linked(c memif.Config) (server, client *memif.Interface, stop func()) {
	address := fmt.Sprintf("@memif-example-%d", os.Getpid())
	server, endServer := start(memif.Server, address, c)
	client, endClient := start(memif.Client, address, c)
	if err := client.WaitUp(context.Background()); err != nil {
		log.Fatal(err)
	}
	return server, client, func() { endClient(); endServer() }
}
