package api

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	govppapi "go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/fib"
	"go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/ip"

	"github.com/millrace/millrace/engine/vnet"
)

func TestClientHasRoutesOfItsOwnSource(t *testing.T) {
	_, path := start(t)
	conn := connect(t, path)
	ch := channel(t, conn)
	ok := func(q, r govppapi.Message) {
		t.Helper()
		if got := call(t, ch, q, r); got != 0 {
			t.Errorf("%s: %d", q.GetMessageName(), got)
		}
	}
	ok(&interfaces.CreateLoopback{}, &interfaces.CreateLoopbackReply{})
	ok(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: 1, IsAdd: true, Prefix: withLength(t, "10.1.0.1/24")}, &interfaces.SwInterfaceAddDelAddressReply{})
	strong, weak := &fib.FibSourceAddReply{}, &fib.FibSourceAddReply{}
	ok(&fib.FibSourceAdd{Src: fib.FibSource{Name: "strong", Priority: 0x7f, ID: 99}}, strong)
	ok(&fib.FibSourceAdd{Src: fib.FibSource{Name: "weak", Priority: 0x81}}, weak)
	if strong.ID != 23 || weak.ID != 24 {
		t.Errorf("sources %d and %d, want 23 and 24 as in VPP", strong.ID, weak.ID)
	}

	edit := func(add bool, source uint8, hop string) {
		t.Helper()
		r := route(t, add, false, 0, "20.0.0.0/8", via(t, hop, 1)).Route
		ok(&ip.IPRouteAddDelV2{IsAdd: add, Route: ip.IPRouteV2{Prefix: r.Prefix, Src: source, NPaths: r.NPaths, Paths: r.Paths}}, &ip.IPRouteAddDelV2Reply{})
	}
	best := func(want uint8, hop string) {
		t.Helper()
		for _, source := range []uint8{vnet.SourceAPI, strong.ID, weak.ID} {
			got := routesOf(t, conn, source)
			if source != want && len(got) > 0 {
				t.Errorf("source %d has %+v beside %d", source, got, want)
			}
			if source == want && (len(got) != 1 || got[0].Src != want || got[0].Paths[0].Nh.Address != address(t, hop).Un) {
				t.Errorf("source %d has %+v, want the route via %s", source, got, hop)
			}
		}
	}
	edit(true, weak.ID, "10.1.0.3")
	best(weak.ID, "10.1.0.3")
	edit(true, 0, "10.1.0.4")
	best(vnet.SourceAPI, "10.1.0.4")
	edit(true, strong.ID, "10.1.0.2")
	best(strong.ID, "10.1.0.2")
	edit(false, strong.ID, "10.1.0.2")
	best(vnet.SourceAPI, "10.1.0.4")
	ok(&ip.IPTableFlush{}, &ip.IPTableFlushReply{})
	best(weak.ID, "10.1.0.3")
	edit(false, weak.ID, "10.1.0.3")
	best(0, "")
}

// routesOf are the routes of table 0 whose best source is the given one.
func routesOf(t *testing.T, conn govppapi.Connection, source uint8) (list []ip.IPRouteV2) {
	t.Helper()
	stream, err := ip.NewServiceClient(conn).IPRouteV2Dump(t.Context(), &ip.IPRouteV2Dump{Src: source})
	if err != nil {
		t.Fatal(err)
	}
	for d, err := stream.Recv(); err == nil; d, err = stream.Recv() {
		list = append(list, d.Route)
	}
	return list
}

func TestRoutesOfASourceThatIsNotForClientsAreRefused(t *testing.T) {
	_, path := start(t)
	conn := connect(t, path)
	ch := channel(t, conn)
	for _, source := range []uint8{vnet.SourceSpecial, vnet.SourceInterface, vnet.SourceAdjacency, vnet.SourceDefaultRoute, 23, 254, 255} {
		for _, add := range []bool{true, false} {
			for _, multipath := range []bool{true, false} {
				r := route(t, add, multipath, 0, "0.0.0.0/0", via(t, "", none32)).Route
				q := &ip.IPRouteAddDelV2{IsAdd: add, IsMultipath: multipath, Route: ip.IPRouteV2{Prefix: r.Prefix, Src: source, NPaths: r.NPaths, Paths: r.Paths}}
				reply := &ip.IPRouteAddDelV2Reply{}
				if got := call(t, ch, q, reply); got != int32(govppapi.INVALID_VALUE) || reply.StatsIndex != none32 {
					t.Errorf("source %d, add %v, multipath %v: %d, stats_index %d", source, add, multipath, got, reply.StatsIndex)
				}
			}
		}
	}
	if got := routesOf(t, conn, vnet.SourceDefaultRoute); len(got) != 3 {
		t.Errorf("the engine's own routes became %+v", got)
	}
}

func TestSourcesAreDumpedAndRunOut(t *testing.T) {
	_, path := start(t)
	conn := connect(t, path)
	ch := channel(t, conn)
	add := &fib.FibSourceAdd{Src: fib.FibSource{Name: "mine", Priority: 0x7f}}
	for want := 23; want < 255; want++ {
		r := &fib.FibSourceAddReply{}
		if got := call(t, ch, add, r); got != 0 || int(r.ID) != want {
			t.Fatalf("source %d: %d, number %d", want, got, r.ID)
		}
	}
	if got := call(t, ch, add, &fib.FibSourceAddReply{}); got != int32(govppapi.LIMIT_EXCEEDED) {
		t.Errorf("one too many: %d", got)
	}
	stream, err := fib.NewServiceClient(conn).FibSourceDump(t.Context(), &fib.FibSourceDump{})
	if err != nil {
		t.Fatal(err)
	}
	var got []fib.FibSource
	for d, err := stream.Recv(); err == nil; d, err = stream.Recv() {
		if int(d.Src.ID) != len(got) {
			t.Fatalf("source %d at %d", d.Src.ID, len(got))
		}
		got = append(got, d.Src)
	}
	if len(got) != 255 {
		t.Fatalf("%d sources", len(got))
	}
	want := []fib.FibSource{{ID: 4, Priority: 3, Name: "interface"}, {ID: 8, Priority: 0x80, Name: "API"}, {ID: 22, Priority: 0x10, Name: "path-mtu"}, {ID: 254, Priority: 0x7f, Name: "mine"}}
	if diff := cmp.Diff(want, []fib.FibSource{got[4], got[8], got[22], got[254]}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
