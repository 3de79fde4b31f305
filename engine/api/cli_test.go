package api

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.fd.io/govpp/binapi/fib_types"
	"go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_neighbor"
	"go.fd.io/govpp/binapi/vlib"

	"github.com/millrace/millrace/engine/vnet"
)

var update = flag.Bool("update", false, "write the golden files")

// TestCLI compares a session of commands, the output behind each, with a golden file.
func TestCLI(t *testing.T) {
	counters := rows(64)
	plane := testPlane(t, counters)
	s := serverOn(t, plane, counters)
	c := quietSession(t, s)
	for _, m := range []wireMessage{
		&interfaces.CreateLoopback{},
		&interfaces.CreateLoopbackInstance{IsSpecified: true, UserInstance: 10},
		&interfaces.SwInterfaceSetMtu{SwIfIndex: 1, Mtu: []uint32{1500, 0, 0, 0}},
		&interfaces.SwInterfaceTagAddDel{IsAdd: true, SwIfIndex: 1, Tag: "pod-a"},
		&ip.IPTableAddDelV2{IsAdd: true, Table: ip.IPTable{TableID: 3, Name: "tenant"}},
		&interfaces.SwInterfaceSetTable{SwIfIndex: 2, VrfID: 3},
		&interfaces.SwInterfaceAddDelAddress{SwIfIndex: 1, IsAdd: true, Prefix: withLength(t, "10.1.0.1/24")},
		&interfaces.SwInterfaceAddDelAddress{SwIfIndex: 2, IsAdd: true, Prefix: withLength(t, "10.3.0.1/24")},
		route(t, true, false, 0, "10.2.0.0/16", via(t, "10.1.0.2", 1)),
		route(t, true, false, 0, "10.9.0.0/16", via(t, "", none32)),
		&ip.AddDelIPPuntRedirectV2{IsAdd: true, Punt: ip.PuntRedirectV2{RxSwIfIndex: 1, NPaths: 1, Paths: []fib_types.FibPath{via(t, "10.3.0.2", 2)}}},
		&ip.AddDelIPPuntRedirectV2{IsAdd: true, Punt: ip.PuntRedirectV2{RxSwIfIndex: ^interface_types.InterfaceIndex(0), NPaths: 1, Paths: []fib_types.FibPath{via(t, "10.1.0.2", 1)}}},
		&ip_neighbor.IPNeighborAddDel{IsAdd: true, Neighbor: ip_neighbor.IPNeighbor{SwIfIndex: 1, Flags: 1, IPAddress: address(t, "10.1.0.2"), MacAddress: [6]byte{2, 0, 0, 0, 0, 2}}},
	} {
		c.dispatch(encoded(t, s, m))
	}
	counters[1].RX[1], counters[2].RX[1] = vnet.Combined{Packets: 2, Bytes: 200}, vnet.Combined{Packets: 1, Bytes: 100}
	counters[1].TX[1] = vnet.Combined{Packets: 1, Bytes: 64}
	counters[2].IP4[1] = 3
	counters[1].Errors[1], counters[2].Errors[1] = 5, 6
	var got strings.Builder
	for _, line := range []string{
		"show version", "show threads", "show interface", "sh int loop0", "show interface 2 loop0", "show interface address",
		"set interface state loop0 up", "show interface addr loop0", "show interface tag loop0", "show hardware-interfaces brief",
		"show ip fib table 3 10.3.0.1/32", "show ip fib 10.2.3.4", "show ip neighbors", "show ip neighbor loop10",
		"show ip table", "show ip6 table", "show ip neighbor-config", "show ip punt redirect", "show ip6 punt redirect",
		"show errors", "clear errors", "show errors", "clear interfaces", "clear",
		"set interface mtu ip4 1400 loop0", "show interface loop0", "show ip ?", "show ip help", "help", "show version\nshow nonsense\nshow version",
		"", "nonsense", "show", "show nonsense here", "show interface nonsense", "show interface 99", "set interface state", "set interface state nonsense up",
		"set interface state loop0 sideways", "show ip fib table", "show ip fib 10.0.0.1/99", "show ip6 fib 10.0.0.1",
	} {
		out, err := s.runCommand(line)
		got.WriteString("# " + strings.ReplaceAll(line, "\n", "\\n") + "\n" + out)
		if err != nil {
			got.WriteString("error: " + err.Error())
		}
	}
	golden := filepath.Join("testdata", "cli.golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("run with -update if this is right (-want +got):\n%s", diff)
	}
}

func TestCLIInband(t *testing.T) {
	_, path := start(t)
	ch := channel(t, connect(t, path))
	r := &vlib.CliInbandReply{}
	if got := call(t, ch, &vlib.CliInband{Cmd: "show version"}, r); got != 0 || !strings.HasPrefix(r.Reply, "millrace engine test") {
		t.Errorf("%d %q", got, r.Reply)
	}
	if err := ch.SendRequest(&vlib.CliInband{Cmd: "frobnicate the engine"}).ReceiveReply(r); err == nil {
		t.Error("wrong input: no error")
	}
	if want := "unknown input `frobnicate the engine'\n"; r.Reply != want || r.Retval != -1 {
		t.Errorf("wrong input: %d %q, want -1 %q", r.Retval, r.Reply, want)
	}
}
