package vpp_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"

	"go.fd.io/govpp/binapi/fib_types"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_types"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/vpp"
)

// sockets of one engine after another.
type sockets struct{ api, stats string }

// start runs an engine until stop, and returns when it answers.
func (s sockets) start(t *testing.T) (stop func()) {
	t.Helper()
	e, err := engine.New(engine.Config{APISocket: s.api, StatsSocket: s.stats, Version: "test", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- e.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("engine: %v", err)
	}
	return func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("engine ended: %v", err)
		}
	}
}

func newSockets(t *testing.T) sockets {
	dir := t.TempDir()
	return sockets{filepath.Join(dir, "api.sock"), filepath.Join(dir, "stats.sock")}
}

func TestEngineRoutesByBatch(t *testing.T) {
	s := newSockets(t)
	defer s.start(t)()
	conn, err := vpp.Dial(t.Context(), vpp.Config{Socket: s.api, Timeout: soon})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const n = 2000
	batch := make([]vpp.Exchange, n)
	for i := range batch {
		addr := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		prefix, err := ip_types.ParsePrefix(addr.String() + "/32")
		if err != nil {
			t.Fatal(err)
		}
		batch[i].Request = &ip.IPRouteAddDel{IsAdd: true, Route: ip.IPRoute{Prefix: prefix, NPaths: 1,
			Paths: []fib_types.FibPath{{SwIfIndex: ^uint32(0), Type: fib_types.FIB_API_PATH_TYPE_DROP, Weight: 1}}}}
		batch[i].Reply = &ip.IPRouteAddDelReply{}
	}
	batch[100].Request.(*ip.IPRouteAddDel).Route.TableID = 99
	if err := conn.Batch(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	for i, e := range batch {
		if want := map[bool]int32{true: -3}[i == 100]; vpp.Retval(e.Err) != want || (e.Err == nil) != (want == 0) {
			t.Fatalf("route %d: %v", i, e.Err)
		}
	}
	found := 0
	for r, err := range vpp.Dump[ip.IPRouteV2Details](t.Context(), conn, &ip.IPRouteV2Dump{Src: 8}) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Route.Prefix.Len == 32 {
			found++
		}
	}
	if found != n-1 {
		t.Errorf("%d routes dumped, want %d", found, n-1)
	}
}

// After a restart of the peer the loop sees a new generation without the old state.
func TestEngineRestart(t *testing.T) {
	s := newSockets(t)
	stop := s.start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var loops []int
	for conn, err := range vpp.Connections(ctx, vpp.Config{Socket: s.api, Timeout: soon}) {
		if err != nil {
			stop = s.start(t)
			continue
		}
		sub, err := vpp.Subscribe[interfaces.SwInterfaceEvent](conn)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := vpp.Call[interfaces.WantInterfaceEventsReply](ctx, conn, &interfaces.WantInterfaceEvents{EnableDisable: 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := vpp.Call[interfaces.CreateLoopbackReply](ctx, conn, &interfaces.CreateLoopback{}); err != nil {
			t.Fatal(err)
		}
		if e := <-sub.Events(); e == nil || e.SwIfIndex != 1 {
			t.Errorf("event %+v", e)
		}
		n := 0
		for _, err := range vpp.Dump[interfaces.SwInterfaceDetails](ctx, conn, &interfaces.SwInterfaceDump{}) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		loops = append(loops, n)
		stop()
		<-conn.Done()
		for range sub.Events() {
		}
		if !errors.Is(sub.Err(), vpp.ErrDisconnected) {
			t.Errorf("the subscription ended by %v", sub.Err())
		}
		if conn.Generation() == 3 {
			cancel()
		}
	}
	if len(loops) != 3 || loops[0] != 2 || loops[2] != 2 {
		t.Errorf("interfaces in each generation: %v", loops)
	}
}

func TestEngineStats(t *testing.T) {
	s := newSockets(t)
	defer s.start(t)()
	conn, err := vpp.Dial(t.Context(), vpp.Config{Socket: s.api, Timeout: soon})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stats, err := vpp.DialStats(t.Context(), s.stats)
	if err != nil {
		t.Fatal(err)
	}
	defer stats.Close()
	if _, err := vpp.Call[interfaces.CreateLoopbackReply](t.Context(), conn, &interfaces.CreateLoopback{}); err != nil {
		t.Fatal(err)
	}
	all, err := stats.Interfaces(t.Context())
	if err != nil || len(all) != 2 || all[1].Name != "loop0" || all[1].Index != 1 {
		t.Errorf("got %+v, %v", all, err)
	}
	text, err := conn.CLI(t.Context(), "show interface")
	if err != nil || text == "" {
		t.Errorf("show interface: %q, %v", text, err)
	}
}
