package api

import (
	"path/filepath"
	"strings"
	"testing"

	govppapi "go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"

	"github.com/millrace/millrace/engine/vnet"
)

func TestClearStatsOfOneInterfaceAndOfAll(t *testing.T) {
	counters := rows(8)
	s := serverOn(t, testPlane(t, counters), counters)
	path := filepath.Join(t.TempDir(), "api.sock")
	listenAt(t, s, path)
	ch := channel(t, connect(t, path))
	for range 2 {
		if got := call(t, ch, &interfaces.CreateLoopback{}, &interfaces.CreateLoopbackReply{}); got != 0 {
			t.Fatal(got)
		}
	}
	for n := range counters {
		for _, i := range []int{1, 2} {
			counters[n].RX[i] = vnet.Combined{Packets: 1, Bytes: 10}
			counters[n].TxBroadcast[i] = vnet.Combined{Packets: 1, Bytes: 10}
			counters[n].Drops[i], counters[n].TxError[i] = 1, 1
		}
		counters[n].RouteTo[1] = vnet.Combined{Packets: 7, Bytes: 70}
	}
	left := func() (first, second int) {
		return len(s.interfaceCounters(1)), len(s.interfaceCounters(2))
	}
	const all = 6 // two by packets and bytes, two simple
	for _, c := range []struct {
		index         uint32
		want          int32
		first, second int
	}{
		{99, int32(govppapi.INVALID_SW_IF_INDEX), all, all},
		{1, 0, 0, all},
		{none32, 0, 0, 0},
	} {
		got := call(t, ch, &interfaces.SwInterfaceClearStats{SwIfIndex: interface_types.InterfaceIndex(c.index)}, &interfaces.SwInterfaceClearStatsReply{})
		if first, second := left(); got != c.want || first != c.first || second != c.second {
			t.Errorf("index %d: %d; %d and %d counters left, want %d; %d and %d", c.index, got, first, second, c.want, c.first, c.second)
		}
	}
	if got := counters[1].RouteTo[1].Packets; got != 7 {
		t.Errorf("a route counts %d packets, want its 7 untouched", got)
	}
}

func TestClearErrorsHidesWhatWasCountedBefore(t *testing.T) {
	counters := rows(8)
	s := serverOn(t, testPlane(t, counters), counters)
	run := func(line string) string {
		t.Helper()
		out, err := s.runCommand(line)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	counters[1].Errors[1], counters[2].Errors[1], counters[2].Errors[2] = 5, 6, 7
	if got := strings.Count(run("show errors"), "\n"); got != 4 {
		t.Errorf("%d lines before", got)
	}
	run("clear errors")
	counters[2].Errors[1] += 2
	lines := strings.Split(strings.TrimSuffix(run("show errors"), "\n"), "\n")
	if len(lines) != 2 || strings.Fields(lines[1])[0] != "2" {
		t.Errorf("after the clearing and two more: %q", lines)
	}
	if counters[1].Errors[1] != 5 {
		t.Error("the counter itself was cleared")
	}
}
