package engine

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.fd.io/govpp/adapter/socketclient"
	"go.fd.io/govpp/adapter/statsclient"
	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/core"
)

func config(t *testing.T) Config {
	dir := filepath.Join(t.TempDir(), "run")
	return Config{
		APISocket: filepath.Join(dir, "api.sock"), StatsSocket: filepath.Join(dir, "stats.sock"),
		MaxInterfaces: 64, MaxRoutes: 1024, Workers: 2, Version: "test", Logger: slog.New(slog.DiscardHandler),
	}
}

// boot runs an engine until stop, which waits for its clean end.
func boot(t *testing.T, c Config) (stop func()) {
	t.Helper()
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- e.Run(ctx, func() { close(ready) }) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
	t.Cleanup(stop)
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("ended before it was ready: %v", err)
	}
	return stop
}

func TestEngineServesAndLeavesNothing(t *testing.T) {
	c := config(t)
	stop := boot(t, c)
	conn, err := core.Connect(socketclient.NewVppClient(c.APISocket))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Disconnect()
	reader := statsclient.NewStatsClient(c.StatsSocket)
	stats, err := core.ConnectStats(reader)
	if err != nil {
		t.Fatal(err)
	}
	defer stats.Disconnect()
	names := func() (list []string) {
		var s api.InterfaceStats
		if err := stats.GetInterfaceStats(&s); err != nil {
			t.Fatal(err)
		}
		for _, i := range s.Interfaces {
			list = append(list, i.InterfaceName)
		}
		return list
	}
	client := interfaces.NewServiceClient(conn)
	loop, err := client.CreateLoopback(t.Context(), &interfaces.CreateLoopback{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"local0", "loop0"}, names()); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if _, err := client.SwInterfaceSetInterfaceName(t.Context(), &interfaces.SwInterfaceSetInterfaceName{SwIfIndex: loop.SwIfIndex, Name: "gw"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"local0", "gw"}, names()); diff != "" {
		t.Errorf("names after the rename (-want +got):\n%s", diff)
	}
	if _, err := client.DeleteLoopback(t.Context(), &interfaces.DeleteLoopback{SwIfIndex: loop.SwIfIndex}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"local0", "deleted"}, names()); diff != "" {
		t.Errorf("names after the delete (-want +got):\n%s", diff)
	}
	var sys api.SystemStats
	if err := stats.GetSystemStats(&sys); err != nil || sys.NumWorkerThreads != 2 || sys.Heartbeat == 0 {
		t.Errorf("system stats %+v, %v", sys, err)
	}
	stop()
	for _, path := range []string{c.APISocket, c.StatsSocket} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
	boot(t, c)() // a second life at the same place
}

func TestEngineTellsTheServiceManager(t *testing.T) {
	c := config(t)
	c.NotifySocket = filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: c.NotifySocket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	boot(t, c)()
	if err := l.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for range 2 {
		b := make([]byte, 100)
		n, err := l.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(b[:n]))
	}
	if diff := cmp.Diff([]string{"READY=1", "STOPPING=1"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestEngineRefuses(t *testing.T) {
	c := config(t)
	c.Workers = -1
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "-1 workers") {
		t.Errorf("-1 workers: %v", err)
	}
	c = config(t)
	boot(t, c)
	for _, name := range []string{"api", "stats"} {
		other := config(t)
		mine := other.APISocket
		if name == "api" {
			other.APISocket = c.APISocket
		} else {
			other.StatsSocket = c.StatsSocket
		}
		e, err := New(other)
		if err != nil {
			t.Fatal(err)
		}
		err = e.Run(t.Context(), func() { t.Errorf("%s socket taken: ready all the same", name) })
		if err == nil || !strings.Contains(err.Error(), "another process serves it") {
			t.Errorf("%s socket taken: %v", name, err)
		}
		if _, err := os.Stat(mine); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s socket taken: the refused engine left its api socket, %v", name, err)
		}
	}
	conn, err := core.Connect(socketclient.NewVppClient(c.APISocket))
	if err != nil {
		t.Fatalf("the engine that was there: %v", err)
	}
	conn.Disconnect()
}

func TestListen(t *testing.T) {
	for _, network := range []string{"unix", "unixpacket"} {
		path := filepath.Join(t.TempDir(), "run", "a.sock")
		l, err := listen(network, path)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
			t.Errorf("%s: mode %v, %v; want 0660", network, info.Mode(), err)
		}
		if _, err := listen(network, path); err == nil {
			t.Errorf("%s: a live socket is taken over", network)
		}
		l.SetUnlinkOnClose(false)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if l, err = listen(network, path); err != nil {
			t.Fatalf("%s: a stale socket is not replaced: %v", network, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("keep"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := listen(network, path); err == nil {
			t.Errorf("%s: a plain file is taken for a socket", network)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != "keep" {
			t.Errorf("%s: the file in the way was touched: %q, %v", network, b, err)
		}
	}
}
