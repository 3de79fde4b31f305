package vpp

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.fd.io/govpp/adapter"

	"github.com/millrace/millrace/engine/stats"
	"github.com/millrace/millrace/engine/vnet"
)

// serveSegment starts a writer of two threads and returns it with its socket.
func serveSegment(t *testing.T, socket string) (*stats.Segment, func()) {
	t.Helper()
	s, err := stats.New(stats.Config{Threads: 2, Interfaces: 16, Routes: 16, Errors: []vnet.ErrorCounter{{Node: "ip4-input", Reason: "bad"}}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	return s, func() {
		cancel()
		<-done
		l.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestStats(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "stats.sock")
	writer, stop := serveSegment(t, socket)
	for i, name := range []string{"local0", "tap0", "loop0"} {
		if err := writer.SetInterface(uint32(i), name); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.RemoveInterface(2); err != nil {
		t.Fatal(err)
	}
	rows := writer.Counters()
	rows[0].RX[1], rows[1].RX[1] = vnet.Combined{Packets: 1, Bytes: 100}, vnet.Combined{Packets: 2, Bytes: 300}
	rows[1].Drops[1] = 7
	rows[1].Errors[0] = 5
	reader, err := DialStats(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	interfaces, err := reader.Interfaces(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []InterfaceCounters{{Name: "local0"}, {Index: 1, Name: "tap0", RX: Count{3, 400}, Drops: 7}}
	if diff := cmp.Diff(want, interfaces); diff != "" {
		t.Error(diff)
	}
	counts, err := reader.Errors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]uint64{"ip4-input/bad": 5}, counts); diff != "" {
		t.Error(diff)
	}
	links, err := reader.Entries(t.Context(), "^/interfaces/tap0/rx$")
	if err != nil || len(links) != 1 || !links[0].Symlink {
		t.Fatalf("got %+v, %v", links, err)
	}
	if diff := cmp.Diff(adapter.CombinedCounterStat{{{1, 100}}, {{2, 300}}}, links[0].Data.(adapter.CombinedCounterStat)); diff != "" {
		t.Error(diff)
	}
	if _, err := reader.Entries(t.Context(), "("); err == nil {
		t.Error("a broken pattern was taken")
	}
	stop()

	if _, err := reader.Interfaces(t.Context()); err == nil {
		t.Error("read after the socket went")
	}
	writer, stop = serveSegment(t, socket)
	defer stop()
	if err := writer.SetInterface(0, "again"); err != nil {
		t.Fatal(err)
	}
	interfaces, err = reader.Interfaces(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]InterfaceCounters{{Name: "again"}}, interfaces); diff != "" {
		t.Errorf("after a restart: %s", diff)
	}
}

// image copies what a writer shows, as bytes to damage.
func image(t testing.TB) []byte {
	s, err := stats.New(stats.Config{Threads: 2, Interfaces: 4, Routes: 4, Errors: []vnet.ErrorCounter{{Node: "n", Reason: "r"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	socket := filepath.Join(t.TempDir(), "s.sock")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	defer func() { cancel(); l.Close(); <-done }()
	if err := s.SetInterface(1, "tap0"); err != nil {
		t.Fatal(err)
	}
	mapped, _, err := mapSegment(context.Background(), socket)
	if err != nil {
		t.Fatal(err)
	}
	defer mapped.unmap()
	return slices.Clone(mapped.data[:min(len(mapped.data), 32<<10)])
}

func TestSegmentBusy(t *testing.T) {
	data := image(t)
	data[atInProgress] = 1
	if _, err := (segment{data}).read(nil); !errors.Is(err, errBusy) {
		t.Errorf("got %v", err)
	}
	for _, short := range [][]byte{nil, data[:8], make([]byte, 100)} {
		if _, err := (segment{short}).read(nil); !errors.Is(err, errMalformed) {
			t.Errorf("%d bytes: got %v", len(short), err)
		}
	}
}

// FuzzSegment: whatever the writer does, the reader stays inside its map.
func FuzzSegment(f *testing.F) {
	data := image(f)
	f.Add(0, uint64(0))
	for _, at := range []int{atVersion, atBase, atDirectory, atDirectory + 8, 512, 4096} {
		f.Add(at, ^uint64(0))
		f.Add(at, uint64(0x8000000000000000))
		f.Add(at, uint64(1<<31))
	}
	all := []*regexp.Regexp{regexp.MustCompile(".")}
	f.Fuzz(func(t *testing.T, at int, value uint64) {
		damaged := slices.Clone(data)
		if at = at & 0x7fffffff; at+8 <= len(damaged) {
			for i := range 8 {
				damaged[at+i] = byte(value >> (8 * i))
			}
		}
		if _, err := (segment{damaged}).read(all); err != nil && !strings.Contains(err.Error(), "statistics") {
			t.Errorf("got %v", err)
		}
	})
}
