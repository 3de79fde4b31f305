package api

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.fd.io/govpp/adapter/socketclient"
	govppapi "go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/memclnt"
	"go.fd.io/govpp/codec"
	"go.fd.io/govpp/core"

	"github.com/millrace/millrace/engine/vnet"
)

// namesOnly stands in for the statistics segment.
type namesOnly struct{}

func (namesOnly) SetInterface(uint32, string) error { return nil }
func (namesOnly) RemoveInterface(uint32) error      { return nil }
func (namesOnly) Grow(string, uint32) error         { return nil }

const testWorkers = 2

// rows makes counters as the statistics segment does, on the Go heap.
func rows(n int) []vnet.Counters {
	list := make([]vnet.Counters, testWorkers+1)
	for i := range list {
		c := &list[i]
		for _, row := range []*[]vnet.Combined{&c.RX, &c.TX, &c.RxUnicast, &c.RxMulticast, &c.RxBroadcast,
			&c.TxUnicast, &c.TxMulticast, &c.TxBroadcast, &c.RouteTo, &c.Translations} {
			*row = make([]vnet.Combined, n)
		}
		for _, row := range []*[]uint64{&c.Drops, &c.Punt, &c.IP4, &c.IP6, &c.RxNoBuf, &c.RxMiss, &c.RxError, &c.TxError} {
			*row = make([]uint64, n)
		}
		c.Errors = make([]uint64, max(1, len(vnet.ErrorNames())))
	}
	return list
}

// testPlane makes a control state with its workers running until the test ends.
func testPlane(t testing.TB, counters []vnet.Counters) *vnet.Plane {
	t.Helper()
	plane, err := vnet.New(vnet.Config{
		Workers: testWorkers, MaxInterfaces: len(counters[0].RX), MaxRoutes: len(counters[0].RouteTo),
		Counters: counters, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- plane.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run plane: %v", err)
		}
	})
	return plane
}

func testServer(t testing.TB) *Server {
	t.Helper()
	counters := rows(4096)
	return serverOn(t, testPlane(t, counters), counters)
}

func serverOn(t testing.TB, plane *vnet.Plane, counters []vnet.Counters) *Server {
	t.Helper()
	s, err := New(Config{
		Plane: plane, Stats: namesOnly{}, Counters: counters, Version: "test", RuntimeDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler),
		Threads: func() []Thread {
			return []Thread{{Name: "vpp_main", TID: 4242, CPU: -1}, {Name: "vpp_wk_0", Type: "workers", CPU: 1}, {Name: "vpp_wk_1", Type: "workers", CPU: -1}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// listenAt serves s at path until stop or the test's end.
func listenAt(t testing.TB, s *Server, path string) (stop func()) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket file is still there: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// start runs a server on a fresh socket.
func start(t testing.TB) (*Server, string) {
	t.Helper()
	s := testServer(t)
	path := filepath.Join(t.TempDir(), "api.sock")
	listenAt(t, s, path)
	return s, path
}

// connect is GoVPP's Connect.
func connect(t testing.TB, path string) *core.Connection {
	t.Helper()
	conn, err := core.Connect(socketclient.NewVppClient(path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Disconnect)
	return conn
}

// peer is a client that speaks the wire by hand.
type peer struct {
	t    testing.TB
	conn net.Conn
	ids  map[string]uint16
}

func dialPeer(t testing.TB, path string) *peer {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &peer{t: t, conn: conn}
}

// hello does the handshake.
func (p *peer) hello() *memclnt.SockclntCreateReply {
	p.t.Helper()
	p.write(frameOf(p.message(&memclnt.SockclntCreate{Name: "peer"}, idSockclntCreate, 123)))
	msg := p.read()
	if id := binary.BigEndian.Uint16(msg); id != idSockclntCreateReply {
		p.t.Fatalf("handshake answered with id %d", id)
	}
	if context := binary.BigEndian.Uint32(msg[6:]); context != 123 {
		p.t.Fatalf("handshake answered with context %d", context)
	}
	r := new(memclnt.SockclntCreateReply)
	if err := codec.DecodeMsg(msg, r); err != nil {
		p.t.Fatal(err)
	}
	p.ids = map[string]uint16{}
	for _, e := range r.MessageTable {
		p.ids[e.Name] = e.Index
	}
	return r
}

func (p *peer) id(m govppapi.Message) uint16 {
	p.t.Helper()
	id, ok := p.ids[m.GetMessageName()+"_"+m.GetCrcString()]
	if !ok {
		p.t.Fatalf("%s is not in the table", m.GetMessageName())
	}
	return id
}

// message encodes m with a context.
func (p *peer) message(m govppapi.Message, id uint16, context uint32) []byte {
	p.t.Helper()
	b, err := codec.EncodeMsg(m, id)
	if err != nil {
		p.t.Fatal(err)
	}
	switch m.GetMessageType() {
	case govppapi.RequestMessage:
		binary.BigEndian.PutUint32(b[6:], context)
	case govppapi.ReplyMessage:
		binary.BigEndian.PutUint32(b[2:], context)
	}
	return b
}

func (p *peer) request(m govppapi.Message, context uint32) []byte {
	p.t.Helper()
	return frameOf(p.message(m, p.id(m), context))
}

func frameOf(msg []byte) []byte {
	b := make([]byte, frameHeader, frameHeader+len(msg))
	binary.BigEndian.PutUint32(b[8:], uint32(len(msg)))
	return append(b, msg...)
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	if _, err := p.conn.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) read() []byte {
	p.t.Helper()
	header := make([]byte, frameHeader)
	if _, err := io.ReadFull(p.conn, header); err != nil {
		p.t.Fatal(err)
	}
	msg := make([]byte, binary.BigEndian.Uint32(header[8:]))
	if _, err := io.ReadFull(p.conn, msg); err != nil {
		p.t.Fatal(err)
	}
	return msg
}

// ping checks that the server serves this client.
func (p *peer) ping(context uint32) {
	p.t.Helper()
	p.write(p.request(&memclnt.ControlPing{}, context))
	msg := p.read()
	if id, want := binary.BigEndian.Uint16(msg), p.id(&memclnt.ControlPingReply{}); id != want {
		p.t.Fatalf("ping answered with id %d, want %d", id, want)
	}
	if got := binary.BigEndian.Uint32(msg[2:]); got != context {
		p.t.Fatalf("ping answered with context %d, want %d", got, context)
	}
}

// gone checks that the server has closed the connection.
func (p *peer) gone() {
	p.t.Helper()
	if n, err := p.conn.Read(make([]byte, 1)); n != 0 || err == nil {
		p.t.Errorf("the connection is still open: %d bytes, %v", n, err)
	} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
		p.t.Errorf("the connection is still open: %v", err)
	}
}
