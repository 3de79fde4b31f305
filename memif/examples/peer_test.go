package examples_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/millrace/millrace/memif"
)

// peer is the other side of an example's link: an interface of this process.
type peer struct {
	*memif.Interface
	stop func() // ends it before the test does
}

func newPeer(t *testing.T, at memif.SocketConfig, c memif.Config) *peer {
	t.Helper()
	at.Retry = 20 * time.Millisecond
	socket, err := memif.NewSocket(at)
	if err != nil {
		t.Fatal(err)
	}
	port, err := socket.Add(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- socket.Run(ctx) }()
	stopped := false
	p := &peer{port, func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := port.Close(); err != nil {
			t.Error(err)
		}
	}}
	t.Cleanup(p.stop)
	return p
}

func address(t *testing.T) string { return filepath.Join(t.TempDir(), "memif.sock") }

// other is the role of who faces role.
func other(role memif.Role) memif.Role {
	if role == memif.Server {
		return memif.Client
	}
	return memif.Server
}

func (p *peer) up(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := p.WaitUp(ctx); err != nil {
		t.Fatal(err)
	}
}

func (p *peer) send(t *testing.T, queue int, frames ...[]byte) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); len(frames) > 0; time.Sleep(time.Millisecond) {
		n, err := p.TxQueue(queue).Send(frames)
		if err != nil || time.Now().After(end) {
			t.Fatalf("send: %d left, %v", len(frames)-n, err)
		}
		frames = frames[n:]
	}
}

// receive waits for the next frame.
func (p *peer) receive(t *testing.T, queue int) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		if err := p.RxQueue(queue).Wait(ctx); err != nil {
			t.Fatalf("wait for a frame: %v", err)
		}
		frame := [][]byte{make([]byte, memif.DefaultMaxFrame)}
		if n, err := p.RxQueue(queue).Receive(frame); err != nil {
			t.Fatal(err)
		} else if n == 1 {
			return frame[0]
		}
	}
}

// build makes a frame with right lengths and checksums.
func build(t *testing.T, list ...gopacket.SerializableLayer) []byte {
	t.Helper()
	var network gopacket.NetworkLayer
	for _, l := range list {
		switch l := l.(type) {
		case *layers.IPv4:
			l.Version, network = 4, l
		case *layers.IPv6:
			l.Version, network = 6, l
		case interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}:
			if err := l.SetNetworkLayerForChecksum(network); err != nil {
				t.Fatal(err)
			}
		}
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, list...); err != nil {
		t.Fatal(err)
	}
	return append([]byte(nil), b.Bytes()...)
}

// waitForFile waits for a server's socket file.
func waitForFile(t *testing.T, path string) {
	t.Helper()
	err := eventually(func() error {
		_, err := os.Stat(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// eventually repeats f until it succeeds; its error is that of the last time.
func eventually(f func() error) error {
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if err := f(); err == nil || time.Now().After(end) {
			return err
		}
	}
}
