package stats

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.fd.io/govpp/adapter"
	"go.fd.io/govpp/adapter/statsclient"
	"go.fd.io/govpp/api"
	"go.fd.io/govpp/core"

	"github.com/millrace/millrace/engine/vnet"
)

var testErrors = []vnet.ErrorCounter{
	{Node: "ip4-input", Reason: "ip4 ttl <= 1", Severity: "error"},
	{Node: "ip4-input", Reason: "bad/length", Severity: "error"},
	{Node: "arp-reply", Reason: "ARP replies sent", Severity: "info"},
}

// serve runs a segment on a socket of its own and returns both.
func serve(t *testing.T, c Config) (*Segment, string) {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "stats.sock")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s, path
}

func dial(t *testing.T, path string) *statsclient.StatsClient {
	t.Helper()
	c := statsclient.NewStatsClient(path)
	if err := c.Connect(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Disconnect(); err != nil {
			t.Errorf("Disconnect: %v", err)
		}
	})
	return c
}

func TestGoVPPReadsInterfacesErrorsAndSystem(t *testing.T) {
	s, path := serve(t, Config{Threads: 3, Interfaces: 16, Routes: 1024, Errors: testErrors})
	for i, name := range []string{"local0", "tap0", "Gigabit0/8/0"} {
		if err := s.SetInterface(uint32(i), name); err != nil {
			t.Fatal(err)
		}
	}
	c := s.Counters()
	c[1].RX[1] = vnet.Combined{Packets: 3, Bytes: 300}
	c[2].RX[1] = vnet.Combined{Packets: 4, Bytes: 400}
	c[1].TxUnicast[2] = vnet.Combined{Packets: 9, Bytes: 999}
	c[0].Drops[2], c[1].IP4[1], c[2].IP6[1] = 5, 6, 7
	c[1].Errors[1], c[2].Errors[1], c[0].Errors[2] = 10, 11, 12
	s.Tick(time.Now())

	conn, err := core.ConnectStats(dial(t, path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Disconnect)

	var ifs api.InterfaceStats
	if err := conn.GetInterfaceStats(&ifs); err != nil {
		t.Fatal(err)
	}
	want := []api.InterfaceCounters{
		{InterfaceIndex: 0, InterfaceName: "local0"},
		{InterfaceIndex: 1, InterfaceName: "tap0", Rx: api.InterfaceCounterCombined{Packets: 7, Bytes: 700}, IP4: 6, IP6: 7},
		{InterfaceIndex: 2, InterfaceName: "Gigabit0/8/0", TxUnicast: api.InterfaceCounterCombined{Packets: 9, Bytes: 999}, Drops: 5},
	}
	if diff := cmp.Diff(want, ifs.Interfaces); diff != "" {
		t.Errorf("interface stats (-want +got):\n%s", diff)
	}

	var errs api.ErrorStats
	if err := conn.GetErrorStats(&errs); err != nil {
		t.Fatal(err)
	}
	wantErrs := []api.ErrorCounter{
		{CounterName: "/err/ip4-input/ip4 ttl <= 1", Values: []uint64{0, 0, 0}},
		{CounterName: "/err/ip4-input/bad_length", Values: []uint64{0, 10, 11}},
		{CounterName: "/err/arp-reply/ARP replies sent", Values: []uint64{12, 0, 0}},
	}
	if diff := cmp.Diff(wantErrs, errs.Errors); diff != "" {
		t.Errorf("error stats (-want +got):\n%s", diff)
	}

	var sys api.SystemStats
	if err := conn.GetSystemStats(&sys); err != nil {
		t.Fatal(err)
	}
	if sys.Heartbeat != 1 || sys.NumWorkerThreads != 2 {
		t.Errorf("heartbeat %d, workers %d; want 1 and 2", sys.Heartbeat, sys.NumWorkerThreads)
	}
	s.Tick(time.Now())
	if err := conn.GetSystemStats(&sys); err != nil || sys.Heartbeat != 2 {
		t.Errorf("heartbeat %d, %v after a second tick; want 2", sys.Heartbeat, err)
	}
}

func TestFirstEntriesAreWhereReadersLook(t *testing.T) {
	_, path := serve(t, Config{Threads: 1, Interfaces: 4, Routes: 8})
	entries, err := dial(t, path).ListStats()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"/sys/heartbeat", "/sys/last_stats_clear", "/sys/boottime"} {
		if got := string(entries[i].Name); got != want {
			t.Errorf("entry %d is %s, want %s", i, got, want)
		}
	}
}

// names lists what a pattern matches.
func names(t *testing.T, c *statsclient.StatsClient, pattern string) []string {
	t.Helper()
	entries, err := c.ListStats(pattern)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, string(e.Name))
	}
	return got
}

func TestInterfaceLife(t *testing.T) {
	s, path := serve(t, Config{Threads: 2, Interfaces: 4, Routes: 8})
	c := dial(t, path)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ifNames := func() []string {
		entries, err := c.DumpStats("^/if/names$")
		must(err)
		var got []string
		for _, n := range entries[0].Data.(adapter.NameStat) {
			got = append(got, string(n))
		}
		return got
	}
	must(s.SetInterface(0, "local0"))
	must(s.SetInterface(1, "tap0"))
	s.Counters()[1].Drops[1] = 42
	used := s.s.entries
	if got := names(t, c, "^/interfaces/tap0/drops$"); len(got) != 1 {
		t.Errorf("symlinks of tap0: %q", got)
	}
	must(s.SetInterface(1, "uplink"))
	if got := names(t, c, "^/interfaces/tap0/"); len(got) != 0 {
		t.Errorf("symlinks of the old name remain: %q", got)
	}
	if diff := cmp.Diff([]string{"local0", "uplink"}, ifNames()); diff != "" {
		t.Errorf("names after rename (-want +got):\n%s", diff)
	}
	must(s.RemoveInterface(1))
	if diff := cmp.Diff([]string{"local0", "deleted"}, ifNames()); diff != "" {
		t.Errorf("names after delete (-want +got):\n%s", diff)
	}
	must(s.SetInterface(1, "loop0"))
	if got := s.Counters()[1].Drops[1]; got != 0 {
		t.Errorf("counters of a new interface start at %d", got)
	}
	if s.s.entries != used {
		t.Errorf("directory grew from %d to %d entries by add, rename and delete", used, s.s.entries)
	}
	if err := s.SetInterface(4, "one-too-many"); !errors.Is(err, errFull) {
		t.Errorf("interface past the capacity: %v, want errFull", err)
	}
	must(s.RemoveInterface(1 << 31))
}

func TestEveryInterfaceVectorHasOneLength(t *testing.T) {
	s, path := serve(t, Config{Threads: 3, Interfaces: 64, Routes: 8})
	if err := s.SetInterface(37, "x"); err != nil {
		t.Fatal(err)
	}
	entries, err := dial(t, path).DumpStats("^/if/")
	if err != nil {
		t.Fatal(err)
	}
	if want := len(simpleNames) + len(combinedNames) + 1; len(entries) != want {
		t.Errorf("%d entries under /if/, want %d", len(entries), want)
	}
	for _, e := range entries {
		switch d := e.Data.(type) {
		case adapter.SimpleCounterStat:
			for _, row := range d {
				if len(row) != 38 {
					t.Errorf("%s: row of %d", e.Name, len(row))
				}
			}
		case adapter.CombinedCounterStat:
			for _, row := range d {
				if len(row) != 38 {
					t.Errorf("%s: row of %d", e.Name, len(row))
				}
			}
		case adapter.NameStat:
			if len(d) != 38 {
				t.Errorf("%s: %d names", e.Name, len(d))
			}
		default:
			t.Errorf("%s: unexpected %T", e.Name, d)
		}
	}
}

func TestRoutesGrow(t *testing.T) {
	s, path := serve(t, Config{Threads: 2, Interfaces: 2, Routes: 1000})
	c := dial(t, path)
	length := func() int {
		entries, err := c.DumpStats("^/net/route/to$")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries[0].Data.(adapter.CombinedCounterStat)[1])
	}
	for _, step := range []struct{ index, want int }{{0, 256}, {255, 256}, {256, 512}, {999, 1000}} {
		if err := s.Grow(RouteCounter, uint32(step.index)); err != nil {
			t.Fatal(err)
		}
		if got := length(); got != step.want {
			t.Errorf("after route %d: length %d, want %d", step.index, got, step.want)
		}
	}
	if err := s.Grow(RouteCounter, 1000); !errors.Is(err, errFull) {
		t.Errorf("route past the capacity: %v, want errFull", err)
	}
	s.Counters()[1].RouteTo[999] = vnet.Combined{Packets: 1, Bytes: 2}
}

// TestReadersDuringLayoutChanges: a reader sees a whole layout or is told to read again.
func TestReadersDuringLayoutChanges(t *testing.T) {
	s, path := serve(t, Config{Threads: 2, Interfaces: 64, Routes: 8})
	if err := s.SetInterface(0, "even"); err != nil {
		t.Fatal(err)
	}
	// Every round the writer makes some changes while the reader reads.
	rounds := make(chan int, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		for round := range rounds {
			for i := range round % 8 {
				name := "even"
				if (round+i)%2 == 1 {
					name = "a-much-longer-odd-name"
				}
				if err := s.SetInterface(uint32((round+i)%64), name); err != nil {
					t.Error(err)
				}
			}
		}
	})
	c := dial(t, path)
	read, busy := 0, 0
	for round := range 2000 {
		rounds <- round
		entries, err := c.DumpStats("^/if/names$")
		if errors.Is(err, adapter.ErrStatsDataBusy) || errors.Is(err, adapter.ErrStatsAccessFailed) {
			busy++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		read++
		for i, n := range entries[0].Data.(adapter.NameStat) {
			if got := string(n); got != "even" && got != "a-much-longer-odd-name" && got != "" {
				t.Fatalf("torn name %q at %d", got, i)
			}
		}
	}
	close(rounds)
	wg.Wait()
	t.Logf("%d reads, %d told to read again", read, busy)
	if read == 0 {
		t.Error("no read succeeded")
	}
}

func TestManyReadersAndOneThatHangs(t *testing.T) {
	_, path := serve(t, Config{Threads: 1, Interfaces: 4, Routes: 8})
	var hung []net.Conn
	for range 20 {
		conn, err := net.Dial("unixpacket", path)
		if err != nil {
			t.Fatal(err)
		}
		hung = append(hung, conn)
	}
	for i := range 5 {
		c := statsclient.NewStatsClient(path)
		if err := c.Connect(); err != nil {
			t.Fatalf("reader %d: %v", i, err)
		}
		if err := c.Disconnect(); err != nil {
			t.Error(err)
		}
	}
	for _, c := range hung {
		c.Close()
	}
}

func TestNewRefusesZeroSizes(t *testing.T) {
	for _, c := range []Config{{}, {Threads: 1, Interfaces: 1}, {Interfaces: 1, Routes: 1}} {
		if _, err := New(c); err == nil {
			t.Errorf("New(%+v): no error", c)
		}
	}
}

func TestCountingAllocatesNothing(t *testing.T) {
	s, err := New(Config{Threads: 2, Interfaces: 8, Routes: 8, Errors: testErrors})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := s.Counters()[1]
	if n := testing.AllocsPerRun(100, func() {
		c.RX[3].Packets++
		c.Drops[3]++
		c.Errors[2]++
		s.Tick(time.Now())
	}); n != 0 {
		t.Errorf("%v allocations per run", n)
	}
}

func BenchmarkTick(b *testing.B) {
	s, err := New(Config{Threads: 3, Interfaces: 4096, Routes: 8})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for i := range 1000 {
		if err := s.SetInterface(uint32(i), fmt.Sprint("tap", i)); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		s.Tick(time.Now())
	}
}
