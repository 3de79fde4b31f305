package vpp_test

import (
	"context"
	"log/slog"
	"testing"

	"go.fd.io/govpp/binapi/memclnt"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/vpp"
)

// benchConn connects to an engine in this process, so figures are of both ends together.
func benchConn(b *testing.B) *vpp.Conn {
	b.Helper()
	dir := b.TempDir()
	e, err := engine.New(engine.Config{APISocket: dir + "/api.sock", StatsSocket: dir + "/stats.sock", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- e.Run(ctx, func() { close(ready) }) }()
	<-ready
	b.Cleanup(func() { cancel(); <-done })
	conn, err := vpp.Dial(b.Context(), vpp.Config{Socket: dir + "/api.sock"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(conn.Close)
	return conn
}

func BenchmarkCall(b *testing.B) {
	conn := benchConn(b)
	for b.Loop() {
		if err := conn.Ping(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBatch counts single calls, a thousand in each batch.
func BenchmarkBatch(b *testing.B) {
	conn := benchConn(b)
	batch := make([]vpp.Exchange, 1000)
	for i := range batch {
		batch[i] = vpp.Exchange{Request: &memclnt.ControlPing{}, Reply: &memclnt.ControlPingReply{}}
	}
	for n := 0; b.Loop(); n++ {
		if n%len(batch) == 0 {
			if err := conn.Batch(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
		}
	}
}
