package api

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.fd.io/govpp/adapter"
	"go.fd.io/govpp/adapter/socketclient"
	govppapi "go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/acl"
	"go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/memclnt"
	"go.fd.io/govpp/binapi/vlib"
	"go.fd.io/govpp/binapi/vpe"
	"go.fd.io/govpp/core"
)

func TestGoVPPConnects(t *testing.T) {
	s, path := start(t)
	conn := connect(t, path)
	ping, err := memclnt.NewServiceClient(conn).ControlPing(t.Context(), &memclnt.ControlPing{})
	if err != nil || ping.VpePID != uint32(os.Getpid()) || ping.ClientIndex != 0 {
		t.Errorf("ping: %+v, %v", ping, err)
	}
	v, err := vpe.NewServiceClient(conn).ShowVersion(t.Context(), &vpe.ShowVersion{})
	if err != nil || v.Program != "millrace" || v.Version != "test" {
		t.Errorf("version: %+v, %v", v, err)
	}
	th, err := vlib.NewServiceClient(conn).ShowThreads(t.Context(), &vlib.ShowThreads{})
	if err != nil || len(th.ThreadData) != 3 || th.ThreadData[1].Name != "vpp_wk_0" || th.ThreadData[1].Type != "workers" {
		t.Errorf("threads: %+v, %v", th, err)
	}
	ch, err := conn.NewAPIChannel()
	if err != nil {
		t.Fatal(err)
	}
	defer ch.Close()
	var all []govppapi.Message
	for _, e := range s.table.entries {
		all = append(all, e.proto)
	}
	if err := ch.CheckCompatiblity(all...); err != nil {
		t.Errorf("messages of the table: %v", err)
	}
	if err := ch.CheckCompatiblity(&acl.MacipACLDel{}); err == nil {
		t.Error("a message that is not served passes the compatibility check")
	}
	if err := ch.SendRequest(&acl.MacipACLDel{}).ReceiveReply(&acl.MacipACLDelReply{}); !isUnknown(err) {
		t.Errorf("a message that is not served: %v", err)
	}
}

func isUnknown(err error) bool {
	_, ok := errors.AsType[*adapter.UnknownMsgError](err)
	return ok
}

// TestAsyncConnectSurvivesARestart: GoVPP's health check stays content with us, sees us
// leave and finds us again.
func TestAsyncConnectSurvivesARestart(t *testing.T) {
	probe, reply := core.HealthCheckProbeInterval, core.HealthCheckReplyTimeout
	core.HealthCheckProbeInterval, core.HealthCheckReplyTimeout = 20*time.Millisecond, 5*time.Second
	t.Cleanup(func() { core.HealthCheckProbeInterval, core.HealthCheckReplyTimeout = probe, reply })
	counters := rows(64)
	plane := testPlane(t, counters)
	path := filepath.Join(t.TempDir(), "api.sock")
	stop := listenAt(t, serverOn(t, plane, counters), path)

	conn, events, err := core.AsyncConnect(socketclient.NewVppClient(path), 1000, 20*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Disconnect()
	await := func(want core.ConnectionState) {
		t.Helper()
		for deadline := time.After(20 * time.Second); ; {
			select {
			case e := <-events:
				if e.State == want {
					return
				}
			case <-deadline:
				t.Fatalf("no event %v", want)
			}
		}
	}
	await(core.Connected)
	stop()
	await(core.Disconnected)
	listenAt(t, serverOn(t, plane, counters), path)
	await(core.Connected)
	if _, err := vpe.NewServiceClient(conn).ShowVersion(t.Context(), &vpe.ShowVersion{}); err != nil {
		t.Errorf("after the restart: %v", err)
	}
}

func TestHandshake(t *testing.T) {
	s, path := start(t)
	first, second := dialPeer(t, path), dialPeer(t, path)
	r := first.hello()
	if r.Response != 0 || r.Index != firstClient || int(r.Count) != len(s.table.entries) {
		t.Errorf("first client: response %d, index %#x, %d messages", r.Response, r.Index, r.Count)
	}
	if r := second.hello(); r.Index != firstClient+1 {
		t.Errorf("second client: index %#x", r.Index)
	}
	if again := first.hello(); again.Index != firstClient {
		t.Errorf("a second handshake changed the index to %#x", again.Index)
	}
	first.write(first.request(&memclnt.SockclntDelete{Index: r.Index}, 7))
	msg := first.read()
	if binary.BigEndian.Uint16(msg) != first.id(&memclnt.SockclntDeleteReply{}) || binary.BigEndian.Uint32(msg[6:]) != 1 {
		t.Errorf("answer to sockclnt_delete: % x", msg)
	}
	first.gone()
	second.ping(1)
}

// TestMalformedMessages: the server stays silent, as VPP, and serves on.
func TestMalformedMessages(t *testing.T) {
	_, path := start(t)
	p := dialPeer(t, path)
	p.write(frameOf([]byte{0, 50, 0, 0, 0, 0, 0, 0, 0, 0})) // before the handshake
	p.hello()
	route := p.message(&ip.IPRouteAddDel{IsAdd: true}, p.id(&ip.IPRouteAddDel{}), 9)
	absurd := p.message(&ip.AddDelIPPuntRedirectV2{}, p.id(&ip.AddDelIPPuntRedirectV2{}), 9)
	binary.BigEndian.PutUint32(absurd[10+6:], 1<<32-1)
	reply := p.message(&memclnt.ControlPingReply{}, p.id(&memclnt.ControlPingReply{}), 9)
	for i, frame := range [][]byte{
		frameOf(nil), frameOf([]byte{1}), frameOf([]byte{0xff, 0xff}), frameOf([]byte{0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0}),
		frameOf(route[:9]), frameOf(route[:10]), frameOf(route[:len(route)-1]), frameOf(absurd), frameOf(reply), frameOf(reply[:2]),
	} {
		p.write(frame)
		p.ping(uint32(i))
	}
}

func TestBrokenFramingEndsThatClientAlone(t *testing.T) {
	_, path := start(t)
	good, bad := dialPeer(t, path), dialPeer(t, path)
	good.hello()
	bad.hello()
	oversized := frameOf(nil)
	binary.BigEndian.PutUint32(oversized[8:], maxFrame+1)
	bad.write(oversized)
	bad.gone()
	half := dialPeer(t, path)
	half.hello()
	half.write(half.request(&memclnt.ControlPing{}, 1)[:20])
	half.conn.Close()
	good.ping(1)
}

// TestPipelining: answers come in the order of the requests, dumps whole between them.
func TestPipelining(t *testing.T) {
	_, path := start(t)
	p := dialPeer(t, path)
	p.hello()
	const n = 2000
	var burst []byte
	for i := range uint32(n) {
		burst = append(burst, p.request(&memclnt.ControlPing{}, 2*i)...)
		burst = append(burst, p.request(&interfaces.SwInterfaceDump{}, 2*i+1)...)
	}
	var wg sync.WaitGroup
	wg.Go(func() { p.write(burst) })
	for i := range uint32(n) {
		for _, want := range []uint16{p.id(&memclnt.ControlPingReply{}), p.id(&interfaces.SwInterfaceDetails{})} {
			msg := p.read()
			context := 2 * i
			if want != p.id(&memclnt.ControlPingReply{}) {
				context++
			}
			if id, c := binary.BigEndian.Uint16(msg), binary.BigEndian.Uint32(msg[2:]); id != want || c != context {
				t.Fatalf("round %d: id %d context %d, want %d and %d", i, id, c, want, context)
			}
		}
	}
	wg.Wait()
}

// TestSlowClientBlocksNobody: one client asks for much and reads nothing.
func TestSlowClientBlocksNobody(t *testing.T) {
	_, path := start(t)
	slow, quick := dialPeer(t, path), dialPeer(t, path)
	slow.hello()
	quick.hello()
	var sent sync.WaitGroup
	sent.Go(func() {
		for i := range uint32(20000) {
			if _, err := slow.conn.Write(slow.request(&memclnt.ControlPing{}, i)); err != nil {
				return
			}
		}
	})
	for i := range uint32(1000) {
		quick.ping(i)
	}
	slow.conn.Close()
	sent.Wait()
	quick.ping(1)
}

func TestTwoClientsAtOnce(t *testing.T) {
	_, path := start(t)
	var wg sync.WaitGroup
	for n := range 2 {
		conn := connect(t, path)
		wg.Go(func() {
			client := interfaces.NewServiceClient(conn)
			for i := range 200 {
				r, err := client.CreateLoopbackInstance(t.Context(), &interfaces.CreateLoopbackInstance{IsSpecified: true, UserInstance: uint32(1000*n + i)})
				if err != nil {
					t.Errorf("client %d, loopback %d: %v", n, i, err)
					return
				}
				if i%2 == 0 {
					continue
				}
				if _, err := client.DeleteLoopback(t.Context(), &interfaces.DeleteLoopback{SwIfIndex: r.SwIfIndex}); err != nil {
					t.Errorf("client %d, delete %d: %v", n, i, err)
				}
			}
		})
	}
	wg.Wait()
	if got := len(dumpInterfaces(t, connect(t, path), &interfaces.SwInterfaceDump{})); got != 1+200 {
		t.Errorf("%d interfaces, want 201", got)
	}
}

// dumpInterfaces collects a dump to its end.
func dumpInterfaces(t testing.TB, conn govppapi.Connection, q *interfaces.SwInterfaceDump) []*interfaces.SwInterfaceDetails {
	t.Helper()
	stream, err := interfaces.NewServiceClient(conn).SwInterfaceDump(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	var list []*interfaces.SwInterfaceDetails
	for {
		d, err := stream.Recv()
		if err != nil {
			return list
		}
		list = append(list, d)
	}
}

func TestDumpOfManyInterfaces(t *testing.T) {
	const n = 2000
	_, path := start(t)
	conn, err := core.Connect(socketclient.NewVppClient(path))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Disconnect()
	stream, err := conn.NewStream(t.Context(), core.WithRequestSize(n), core.WithReplySize(n+10))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for range n {
		if err := stream.SendMsg(&interfaces.CreateLoopback{}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		m, err := stream.RecvMsg()
		if err != nil {
			t.Fatal(err)
		}
		if r, ok := m.(*interfaces.CreateLoopbackReply); !ok || r.Retval != 0 || int(r.SwIfIndex) != i+1 {
			t.Fatalf("loopback %d: %+v", i, m)
		}
	}
	if err := stream.SendMsg(&interfaces.SwInterfaceDump{SwIfIndex: ^interface_types.InterfaceIndex(0)}); err != nil {
		t.Fatal(err)
	}
	if err := stream.SendMsg(&memclnt.ControlPing{}); err != nil {
		t.Fatal(err)
	}
	for i := range n + 1 {
		m, err := stream.RecvMsg()
		if err != nil {
			t.Fatal(err)
		}
		d, ok := m.(*interfaces.SwInterfaceDetails)
		if !ok || int(d.SwIfIndex) != i {
			t.Fatalf("details %d: %+v", i, m)
		}
		if want := fmt.Sprintf("loop%d", i-1); i > 0 && d.InterfaceName != want {
			t.Errorf("interface %d is %s, want %s", i, d.InterfaceName, want)
		}
	}
	if m, err := stream.RecvMsg(); err != nil {
		t.Fatal(err)
	} else if _, ok := m.(*memclnt.ControlPingReply); !ok {
		t.Errorf("behind the dump: %T", m)
	}
}

func TestInterfaceDumpFilters(t *testing.T) {
	_, path := start(t)
	conn := connect(t, path)
	for range 3 {
		if _, err := interfaces.NewServiceClient(conn).CreateLoopback(t.Context(), &interfaces.CreateLoopback{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		q    interfaces.SwInterfaceDump
		want []string
	}{
		{"zero means all", interfaces.SwInterfaceDump{}, []string{"local0", "loop0", "loop1", "loop2"}},
		{"~0 means all", interfaces.SwInterfaceDump{SwIfIndex: ^interface_types.InterfaceIndex(0)}, []string{"local0", "loop0", "loop1", "loop2"}},
		{"one", interfaces.SwInterfaceDump{SwIfIndex: 2}, []string{"loop1"}},
		{"none", interfaces.SwInterfaceDump{SwIfIndex: 99}, nil},
		{"part of a name, any case", interfaces.SwInterfaceDump{NameFilterValid: true, NameFilter: "OOP1"}, []string{"loop1"}},
		{"filter before index", interfaces.SwInterfaceDump{SwIfIndex: 1, NameFilterValid: true, NameFilter: "loop2"}, []string{"loop2"}},
		{"no match", interfaces.SwInterfaceDump{NameFilterValid: true, NameFilter: "eth"}, nil},
		{"filter not valid", interfaces.SwInterfaceDump{NameFilter: "eth"}, []string{"local0", "loop0", "loop1", "loop2"}},
	} {
		var got []string
		for _, d := range dumpInterfaces(t, conn, &c.q) {
			got = append(got, d.InterfaceName)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// BenchmarkCalls measures what one client gets out of the server, client included.
func BenchmarkCalls(b *testing.B) {
	core.HealthCheckProbeInterval = time.Hour
	_, path := start(b)
	conn := connect(b, path)
	b.Run("invoke", func(b *testing.B) {
		client := memclnt.NewServiceClient(conn)
		for b.Loop() {
			if _, err := client.ControlPing(b.Context(), &memclnt.ControlPing{}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
	})
	for _, depth := range []int{1, 64} {
		b.Run(fmt.Sprintf("channel/inflight=%d", depth), func(b *testing.B) {
			ch, err := conn.NewAPIChannelBuffered(2*depth, 2*depth)
			if err != nil {
				b.Fatal(err)
			}
			defer ch.Close()
			window := make([]govppapi.RequestCtx, 0, depth)
			for i := 0; i < b.N; i += len(window) {
				window = window[:0]
				for range min(depth, b.N-i) {
					window = append(window, ch.SendRequest(&interfaces.SwInterfaceSetFlags{}))
				}
				for _, r := range window {
					if err := r.ReceiveReply(&interfaces.SwInterfaceSetFlagsReply{}); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
		})
	}
	b.Run("stream", func(b *testing.B) {
		stream, err := conn.NewStream(b.Context(), core.WithRequestSize(1024), core.WithReplySize(1024))
		if err != nil {
			b.Fatal(err)
		}
		defer stream.Close()
		const depth = 512
		for i := 0; i < b.N; i += depth {
			n := min(depth, b.N-i)
			for range n {
				if err := stream.SendMsg(&memclnt.ControlPing{}); err != nil {
					b.Fatal(err)
				}
			}
			for range n {
				if _, err := stream.RecvMsg(); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
	})
}

// BenchmarkDispatch is the server's own share of a call: decode, handle, encode.
func BenchmarkDispatch(b *testing.B) {
	s := testServer(b)
	c := quietSession(b, s)
	for _, m := range []wireMessage{&memclnt.ControlPing{}, &interfaces.SwInterfaceSetFlags{}, &interfaces.SwInterfaceDump{}} {
		b.Run(m.GetMessageName(), func(b *testing.B) {
			msg := encoded(b, s, m)
			b.ReportAllocs()
			for b.Loop() {
				c.dispatch(msg)
			}
		})
	}
}
