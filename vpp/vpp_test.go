package vpp_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/af_packet"
	"go.fd.io/govpp/binapi/feature"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/memclnt"
	"go.fd.io/govpp/binapi/vlib"

	"github.com/millrace/millrace/vpp"
	"github.com/millrace/millrace/vpp/vpptest"
)

// soon is long enough for a busy machine, and only waited for when a test fails.
const soon = time.Minute

func dial(t *testing.T, s *vpptest.Server, cfg vpp.Config) *vpp.Conn {
	t.Helper()
	cfg.Socket = s.Socket
	if cfg.Timeout == 0 {
		cfg.Timeout = soon
	}
	conn, err := vpp.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

func setFlags(conn *vpp.Conn, ctx context.Context, index uint32) error {
	_, err := vpp.Call[interfaces.SwInterfaceSetFlagsReply](ctx, conn,
		&interfaces.SwInterfaceSetFlags{SwIfIndex: interface_types.InterfaceIndex(index)})
	return err
}

// handleFlags answers sw_interface_set_flags with f(index) as the retval.
func handleFlags(s *vpptest.Server, f func(index uint32) int32) {
	vpptest.Handle(s, func(p *vpptest.Peer, ctx uint32, req *interfaces.SwInterfaceSetFlags) {
		p.Reply(ctx, &interfaces.SwInterfaceSetFlagsReply{Retval: f(uint32(req.SwIfIndex))})
	}, &interfaces.SwInterfaceSetFlagsReply{})
}

func TestCall(t *testing.T) {
	s := vpptest.New(t)
	handleFlags(s, func(index uint32) int32 { return -int32(index) })
	conn := dial(t, s, vpp.Config{})
	tests := []struct {
		index uint32
		want  string
	}{
		{0, ""},
		{2, "sw_interface_set_flags: retval -2 (Invalid sw_if_index)"},
		{9999, "sw_interface_set_flags: retval -9999 (no name)"},
		{^uint32(0), "sw_interface_set_flags: retval 1 (no name)"},
	}
	for _, tt := range tests {
		err := setFlags(conn, t.Context(), tt.index)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("index %d: error %q, want %q", int32(tt.index), got, tt.want)
		}
	}
	err := setFlags(conn, t.Context(), 2)
	if !errors.Is(err, api.INVALID_SW_IF_INDEX) || vpp.Retval(err) != -2 {
		t.Errorf("%#v is not INVALID_SW_IF_INDEX", err)
	}
	if err := conn.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestCallReplyComesWithRetval(t *testing.T) {
	s := vpptest.New(t)
	vpptest.Handle(s, func(p *vpptest.Peer, ctx uint32, _ *af_packet.AfPacketCreateV3) {
		p.Reply(ctx, &af_packet.AfPacketCreateV3Reply{Retval: -79, SwIfIndex: 7})
	}, &af_packet.AfPacketCreateV3Reply{})
	vpptest.Handle(s, func(p *vpptest.Peer, ctx uint32, req *vlib.CliInband) {
		p.Reply(ctx, &vlib.CliInbandReply{Retval: -1, Reply: "unknown input `" + req.Cmd + "'"})
	}, &vlib.CliInbandReply{})
	conn := dial(t, s, vpp.Config{})
	reply, err := vpp.Call[af_packet.AfPacketCreateV3Reply](t.Context(), conn, &af_packet.AfPacketCreateV3{})
	if vpp.Retval(err) != -79 || reply.SwIfIndex != 7 {
		t.Errorf("got %+v, %v", reply, err)
	}
	text, err := conn.CLI(t.Context(), "shw")
	if vpp.Retval(err) != -1 || text != "unknown input `shw'" {
		t.Errorf("got %q, %v", text, err)
	}
}

// Some replies have the header of a request: their context stands four bytes further.
func TestWideReply(t *testing.T) {
	s := vpptest.New(t)
	vpptest.Handle(s, func(p *vpptest.Peer, ctx uint32, _ *feature.FeatureIsEnabled) {
		p.Reply(ctx, &feature.FeatureIsEnabledReply{IsEnabled: true})
	}, &feature.FeatureIsEnabledReply{})
	conn := dial(t, s, vpp.Config{})
	reply, err := vpp.Call[feature.FeatureIsEnabledReply](t.Context(), conn, &feature.FeatureIsEnabled{})
	if err != nil || !reply.IsEnabled {
		t.Errorf("got %+v, %v", reply, err)
	}
}

func TestUnsupported(t *testing.T) {
	s := vpptest.New(t)
	conn := dial(t, s, vpp.Config{})
	err := setFlags(conn, t.Context(), 0)
	if !errors.Is(err, vpp.ErrUnsupported) || vpp.Retval(err) != 0 {
		t.Errorf("got %v", err)
	}
	for _, err := range vpp.Dump[interfaces.SwInterfaceDetails](t.Context(), conn, &interfaces.SwInterfaceDump{}) {
		if !errors.Is(err, vpp.ErrUnsupported) {
			t.Errorf("dump: got %v", err)
		}
	}
	missing := conn.Supports(&memclnt.ControlPing{}, &interfaces.SwInterfaceSetFlags{})
	if diff := cmp.Diff([]string{"sw_interface_set_flags_f5aec1b8"}, missing); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"control_ping_51077d14", "control_ping_reply_f6b0b8ca"}, conn.Capabilities()); diff != "" {
		t.Error(diff)
	}
	if _, err := vpp.Subscribe[interfaces.SwInterfaceEvent](conn); !errors.Is(err, vpp.ErrUnsupported) {
		t.Errorf("subscribe: got %v", err)
	}
}

// otherPing is control_ping as another version has it.
type otherPing struct{ memclnt.ControlPing }

func (*otherPing) GetCrcString() string { return "00000001" }

func TestSupportsNamesTheOtherVersion(t *testing.T) {
	conn := dial(t, vpptest.New(t), vpp.Config{})
	want := []string{"control_ping_00000001 (it has control_ping_51077d14)"}
	if diff := cmp.Diff(want, conn.Supports(&otherPing{})); diff != "" {
		t.Error(diff)
	}
}

func TestSilence(t *testing.T) {
	s := vpptest.New(t)
	vpptest.Handle(s, func(*vpptest.Peer, uint32, *interfaces.SwInterfaceSetFlags) {}, &interfaces.SwInterfaceSetFlagsReply{})
	conn := dial(t, s, vpp.Config{Timeout: time.Millisecond * 50})
	err := setFlags(conn, t.Context(), 0)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer within 50ms") {
		t.Errorf("without deadline: %v", err)
	}
	patient := dial(t, s, vpp.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := setFlags(patient, ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with deadline: %v", err)
	}
	ctx, stop := context.WithCancelCause(t.Context())
	why := errors.New("no longer wanted")
	stop(why)
	if err := setFlags(patient, ctx, 0); !errors.Is(err, why) {
		t.Errorf("cancelled: %v", err)
	}
	if err := patient.Ping(t.Context()); err != nil {
		t.Errorf("the connection is of no use after a timeout: %v", err)
	}
}

// A reply that comes after its call gave up is not taken for the next call's.
func TestLateReply(t *testing.T) {
	s := vpptest.New(t)
	var late func()
	vpptest.Handle(s, func(p *vpptest.Peer, ctx uint32, req *interfaces.SwInterfaceSetFlags) {
		reply := &interfaces.SwInterfaceSetFlagsReply{Retval: -int32(req.SwIfIndex)}
		if late == nil {
			late = func() { p.Reply(ctx, reply) }
			return
		}
		late()
		p.Reply(ctx, reply)
	}, &interfaces.SwInterfaceSetFlagsReply{})
	conn := dial(t, s, vpp.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := setFlags(conn, ctx, 5); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if err := setFlags(conn, t.Context(), 2); vpp.Retval(err) != -2 {
		t.Errorf("got %v", err)
	}
	if conn.Stray() != 1 {
		t.Errorf("%d stray messages, want the late reply", conn.Stray())
	}
}

func TestDamage(t *testing.T) {
	reply := &interfaces.SwInterfaceSetFlagsReply{}
	tests := []struct {
		name  string
		send  func(p *vpptest.Peer, ctx uint32)
		want  string
		lives bool
	}{
		{"cut in the message", func(p *vpptest.Peer, ctx uint32) {
			frame := p.Frame(ctx, reply)
			p.Raw(frame[:len(frame)-1])
			p.Hangup()
		}, "unexpected EOF", false},
		{"cut in the header", func(p *vpptest.Peer, ctx uint32) {
			p.Raw(p.Frame(ctx, reply)[:7])
			p.Hangup()
		}, "unexpected EOF", false},
		{"too long", func(p *vpptest.Peer, ctx uint32) {
			frame := p.Frame(ctx, reply)
			frame[8] = 0xff
			p.Raw(frame)
		}, "are possible", false},
		{"shorter than its fields", func(p *vpptest.Peer, ctx uint32) {
			frame := p.Frame(ctx, reply)
			frame[11] -= 2
			p.Raw(frame[:len(frame)-2])
		}, "decode sw_interface_set_flags_reply of 8 bytes", true},
		{"no frame at all", func(p *vpptest.Peer, ctx uint32) { p.Hangup() }, io.EOF.Error(), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := vpptest.New(t)
			vpptest.Handle(s, func(p *vpptest.Peer, ctx uint32, _ *interfaces.SwInterfaceSetFlags) { tt.send(p, ctx) }, reply)
			conn := dial(t, s, vpp.Config{})
			err := setFlags(conn, t.Context(), 0)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if lives := conn.Ping(t.Context()) == nil; lives != tt.lives {
				t.Errorf("the connection lives: %v, want %v", lives, tt.lives)
			}
			if !tt.lives && !errors.Is(err, vpp.ErrDisconnected) {
				t.Errorf("%v is not ErrDisconnected", err)
			}
		})
	}
}

func TestDisconnectInFlight(t *testing.T) {
	s := vpptest.New(t)
	var arrived sync.WaitGroup
	arrived.Add(8)
	vpptest.Handle(s, func(*vpptest.Peer, uint32, *interfaces.SwInterfaceSetFlags) { arrived.Done() },
		&interfaces.SwInterfaceSetFlagsReply{})
	conn := dial(t, s, vpp.Config{})
	errs := make(chan error, 8)
	for range cap(errs) {
		go func() { errs <- setFlags(conn, context.Background(), 0) }()
	}
	arrived.Wait()
	s.Hangup()
	for range cap(errs) {
		if err := <-errs; !errors.Is(err, vpp.ErrDisconnected) || vpp.Retval(err) != 0 {
			t.Errorf("got %v", err)
		}
	}
	<-conn.Done()
	if err := setFlags(conn, t.Context(), 0); !errors.Is(err, vpp.ErrDisconnected) {
		t.Errorf("later call: %v", err)
	}
	if !errors.Is(conn.Err(), vpp.ErrDisconnected) {
		t.Errorf("reason: %v", conn.Err())
	}
}

func TestClose(t *testing.T) {
	conn := dial(t, vpptest.New(t), vpp.Config{})
	conn.Close()
	conn.Close()
	if err := conn.Ping(t.Context()); !errors.Is(err, vpp.ErrDisconnected) || !errors.Is(err, vpp.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if !errors.Is(conn.Err(), vpp.ErrClosed) {
		t.Errorf("got %v", conn.Err())
	}
}

func TestConnections(t *testing.T) {
	s := vpptest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var generations []uint64
	attempts := 0
	for conn, err := range vpp.Connections(ctx, vpp.Config{Socket: s.Socket, Timeout: soon}) {
		if err != nil {
			attempts++
			s.Start() // the peer is back
			continue
		}
		generations = append(generations, conn.Generation())
		if err := conn.Ping(ctx); err != nil {
			t.Error(err)
		}
		switch len(generations) {
		case 1:
			s.Hangup()
			<-conn.Done()
		case 2:
			s.Stop()
			<-conn.Done()
		case 3:
			cancel()
		}
	}
	if diff := cmp.Diff([]uint64{1, 2, 3}, generations); diff != "" || attempts != 1 {
		t.Errorf("%d failed attempts, generations %s", attempts, diff)
	}
}

func TestDialFails(t *testing.T) {
	if _, err := vpp.Dial(t.Context(), vpp.Config{Socket: "/nonexistent/api.sock"}); err == nil || !strings.Contains(err.Error(), "/nonexistent/api.sock") {
		t.Errorf("got %v", err)
	}
	if _, err := vpp.Dial(t.Context(), vpp.Config{Name: strings.Repeat("x", 64)}); err == nil {
		t.Error("a name of 64 bytes was accepted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := vpptest.New(t)
	if _, err := vpp.Dial(ctx, vpp.Config{Socket: s.Socket}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestKeepalive(t *testing.T) {
	s := vpptest.New(t)
	vpptest.Handle(s, func(*vpptest.Peer, uint32, *memclnt.ControlPing) {}, &memclnt.ControlPingReply{})
	conn := dial(t, s, vpp.Config{Keepalive: 10 * time.Millisecond})
	<-conn.Done()
	if !errors.Is(conn.Err(), vpp.ErrSilent) {
		t.Errorf("got %v", conn.Err())
	}
}

func details(n int) []api.Message {
	var msgs []api.Message
	for i := range n {
		msgs = append(msgs, &interfaces.SwInterfaceDetails{SwIfIndex: interface_types.InterfaceIndex(i)})
	}
	return msgs
}

func TestDump(t *testing.T) {
	const many = 3000
	s := vpptest.New(t)
	handleFlags(s, func(uint32) int32 { return 0 })
	vpptest.Handle(s, func(p *vpptest.Peer, ctx uint32, _ *interfaces.SwInterfaceDump) {
		p.Reply(ctx, details(many)...)
	}, &interfaces.SwInterfaceDetails{})
	conn := dial(t, s, vpp.Config{})
	dump := vpp.Dump[interfaces.SwInterfaceDetails](t.Context(), conn, &interfaces.SwInterfaceDump{})
	next := uint32(0)
	for d, err := range dump {
		if err != nil {
			t.Fatal(err)
		}
		if uint32(d.SwIfIndex) != next {
			t.Fatalf("index %d came, want %d", d.SwIfIndex, next)
		}
		next++
		if next%500 == 0 { // a call from within the dump
			if err := setFlags(conn, t.Context(), next); err != nil {
				t.Fatal(err)
			}
		}
	}
	if next != many {
		t.Errorf("%d details, want %d", next, many)
	}
	for range dump {
		break // leaves the rest unread
	}
	if err := conn.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDumpEndsInError(t *testing.T) {
	s := vpptest.New(t)
	vpptest.Handle(s, func(p *vpptest.Peer, ctx uint32, _ *interfaces.SwInterfaceDump) {
		p.Reply(ctx, details(2)...)
		p.Hangup()
	}, &interfaces.SwInterfaceDetails{})
	conn := dial(t, s, vpp.Config{})
	got := 0
	var last error
	for d, err := range vpp.Dump[interfaces.SwInterfaceDetails](t.Context(), conn, &interfaces.SwInterfaceDump{}) {
		if last != nil {
			t.Fatal("something came after the error")
		}
		if last = err; d != nil {
			got++
		}
	}
	if got != 2 || !errors.Is(last, vpp.ErrDisconnected) {
		t.Errorf("%d details, then %v", got, last)
	}
}

func TestStream(t *testing.T) {
	s := vpptest.New(t)
	vpptest.Handle(s, func(p *vpptest.Peer, ctx uint32, req *interfaces.SwInterfaceTxPlacementGet) {
		end := min(req.Cursor+2, 5)
		for i := req.Cursor; i < end; i++ {
			p.Reply(ctx, &interfaces.SwInterfaceTxPlacementDetails{QueueID: i})
		}
		reply := &interfaces.SwInterfaceTxPlacementGetReply{Cursor: end, Retval: -165}
		if end == 5 {
			reply = &interfaces.SwInterfaceTxPlacementGetReply{Cursor: ^uint32(0), Retval: int32(req.SwIfIndex)}
		}
		p.Reply(ctx, reply)
	}, &interfaces.SwInterfaceTxPlacementDetails{}, &interfaces.SwInterfaceTxPlacementGetReply{})
	conn := dial(t, s, vpp.Config{})
	for _, retval := range []int32{0, -2} {
		var got []uint32
		var last error
		req := &interfaces.SwInterfaceTxPlacementGet{SwIfIndex: interface_types.InterfaceIndex(retval)}
		for d, err := range vpp.Stream[interfaces.SwInterfaceTxPlacementDetails, interfaces.SwInterfaceTxPlacementGetReply](t.Context(), conn, req) {
			if last = err; err == nil {
				got = append(got, d.QueueID)
			}
		}
		if diff := cmp.Diff([]uint32{0, 1, 2, 3, 4}, got); diff != "" || vpp.Retval(last) != retval {
			t.Errorf("retval %d: %s, %v", retval, diff, last)
		}
	}
	for _, err := range vpp.Stream[interfaces.SwInterfaceDetails, interfaces.SwInterfaceSetFlagsReply](t.Context(), conn, &interfaces.SwInterfaceDump{}) {
		if err == nil || !strings.Contains(err.Error(), "no cursor") {
			t.Errorf("got %v", err)
		}
	}
}

func TestBatch(t *testing.T) {
	for _, depth := range []int{1, 2, 32, 1000} {
		s := vpptest.New(t)
		var order []uint32
		handleFlags(s, func(index uint32) int32 {
			order = append(order, index)
			return -int32(index % 3)
		})
		conn := dial(t, s, vpp.Config{Depth: depth})
		batch := make([]vpp.Exchange, 200)
		for i := range batch {
			batch[i].Request = &interfaces.SwInterfaceSetFlags{SwIfIndex: interface_types.InterfaceIndex(i)}
			batch[i].Reply = &interfaces.SwInterfaceSetFlagsReply{}
		}
		batch[70] = vpp.Exchange{Request: &ip.IPTableAddDel{}, Reply: &ip.IPTableAddDelReply{}}
		if err := conn.Batch(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		for i, e := range batch {
			switch {
			case i == 70:
				if !errors.Is(e.Err, vpp.ErrUnsupported) {
					t.Errorf("depth %d: exchange %d: %v", depth, i, e.Err)
				}
			case vpp.Retval(e.Err) != -int32(i%3) || (e.Err != nil) != (i%3 != 0):
				t.Errorf("depth %d: exchange %d: %v", depth, i, e.Err)
			}
		}
		for i, index := range order {
			if i >= 70 {
				i++
			}
			if int(index) != i {
				t.Fatalf("depth %d: request %d came as number %d", depth, index, i)
			}
		}
	}
}

func TestBatchEnds(t *testing.T) {
	s := vpptest.New(t)
	vpptest.Handle(s, func(p *vpptest.Peer, ctx uint32, req *interfaces.SwInterfaceSetFlags) {
		if req.SwIfIndex == 10 {
			p.Hangup()
			return
		}
		p.Reply(ctx, &interfaces.SwInterfaceSetFlagsReply{})
	}, &interfaces.SwInterfaceSetFlagsReply{})
	conn := dial(t, s, vpp.Config{Depth: 4})
	batch := make([]vpp.Exchange, 20)
	for i := range batch {
		batch[i].Request = &interfaces.SwInterfaceSetFlags{SwIfIndex: interface_types.InterfaceIndex(i)}
		batch[i].Reply = &interfaces.SwInterfaceSetFlagsReply{}
	}
	if err := conn.Batch(t.Context(), batch); !errors.Is(err, vpp.ErrDisconnected) {
		t.Fatalf("got %v", err)
	}
	for i, e := range batch {
		if (e.Err == nil) != (i < 10) {
			t.Errorf("exchange %d: %v", i, e.Err)
		}
	}
}

func eventServer(t *testing.T) *vpptest.Server {
	s := vpptest.New(t)
	vpptest.Handle(s, func(p *vpptest.Peer, ctx uint32, req *interfaces.WantInterfaceEvents) {
		p.Reply(ctx, &interfaces.WantInterfaceEventsReply{})
		for i := range req.PID { // so many events
			p.Reply(0, &interfaces.SwInterfaceEvent{SwIfIndex: interface_types.InterfaceIndex(i)})
		}
	}, &interfaces.WantInterfaceEventsReply{}, &interfaces.SwInterfaceEvent{})
	return s
}

func want(t *testing.T, conn *vpp.Conn, events uint32) {
	t.Helper()
	_, err := vpp.Call[interfaces.WantInterfaceEventsReply](t.Context(), conn, &interfaces.WantInterfaceEvents{PID: events})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEvents(t *testing.T) {
	s := eventServer(t)
	conn := dial(t, s, vpp.Config{})
	sub, err := vpp.Subscribe[interfaces.SwInterfaceEvent](conn)
	if err != nil {
		t.Fatal(err)
	}
	other, err := vpp.Subscribe[interfaces.SwInterfaceEvent](conn)
	if err != nil {
		t.Fatal(err)
	}
	want(t, conn, 3)
	for i := range 3 {
		if e := <-sub.Events(); int(e.SwIfIndex) != i {
			t.Errorf("event of interface %d, want %d", e.SwIfIndex, i)
		}
	}
	sub.Close()
	sub.Close()
	if _, more := <-sub.Events(); more || !errors.Is(sub.Err(), vpp.ErrClosed) {
		t.Errorf("after Close: more %v, %v", more, sub.Err())
	}
	s.Hangup()
	n := 0
	for range other.Events() {
		n++
	}
	if n != 3 || !errors.Is(other.Err(), vpp.ErrDisconnected) {
		t.Errorf("the other subscription got %d events, then %v", n, other.Err())
	}
	if _, err := vpp.Subscribe[interfaces.SwInterfaceEvent](conn); !errors.Is(err, vpp.ErrDisconnected) {
		t.Errorf("got %v", err)
	}
	if _, err := vpp.Subscribe[interfaces.SwInterfaceDetails](conn); err == nil {
		t.Error("details were taken for an event")
	}
}

func TestEventsLost(t *testing.T) {
	conn := dial(t, eventServer(t), vpp.Config{})
	sub, err := vpp.Subscribe[interfaces.SwInterfaceEvent](conn)
	if err != nil {
		t.Fatal(err)
	}
	want(t, conn, 5000)
	if err := conn.Ping(t.Context()); err != nil { // behind the events
		t.Fatal(err)
	}
	n := 0
	for range sub.Events() {
		n++
	}
	if n != 4096 || !errors.Is(sub.Err(), vpp.ErrEventsLost) {
		t.Errorf("%d events, then %v", n, sub.Err())
	}
}

func TestConcurrentCalls(t *testing.T) {
	s := vpptest.New(t)
	handleFlags(s, func(index uint32) int32 { return -int32(index) })
	conn := dial(t, s, vpp.Config{})
	var wg sync.WaitGroup
	for g := range uint32(8) {
		wg.Go(func() {
			for range 200 {
				if err := setFlags(conn, t.Context(), g); vpp.Retval(err) != -int32(g) {
					t.Errorf("caller %d got %v", g, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// The pause between attempts grows and stays bounded; nothing is waited for after the end.
func TestConnectionsPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begun, last := time.Now(), time.Duration(0)
		attempts := 0
		for conn, err := range vpp.Connections(ctx, vpp.Config{Socket: "/nonexistent/api.sock"}) {
			if conn != nil || err == nil {
				t.Fatal("connected to nothing")
			}
			waited := time.Since(begun)
			if late := waited - last; attempts > 0 && late > max(5*time.Millisecond, last/16) {
				t.Errorf("an attempt after %v, the next one %v later", last, late)
			}
			attempts, last = attempts+1, waited
		}
		if attempts > 365 {
			t.Errorf("%d attempts in a minute", attempts)
		}
	})
}
