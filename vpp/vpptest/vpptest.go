// Package vpptest owns a small server for tests: the other end of VPP's binary API, with
// a handler per message and the means to misbehave (silence, raw bytes, hang-ups).
//
// It keeps no dataplane state and forwards nothing; where a test needs a dataplane, it
// starts the embedded engine.
package vpptest

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/memclnt"
	"go.fd.io/govpp/codec"
)

const (
	header     = 16
	createID   = 15
	firstID    = 17
	clientBase = 0x80000000
)

// Handler answers one request, or stays silent.
type Handler func(peer *Peer, context uint32, req api.Message)

// Server listens on a unix socket of its own. control_ping is answered from the start.
type Server struct {
	Socket string
	t      testing.TB

	// mu guards what follows.
	mu       sync.Mutex
	table    []entry
	listener net.Listener
	peers    map[*Peer]struct{}
	clients  uint32
	wg       sync.WaitGroup
}

type entry struct {
	message api.Message
	blank   func() api.Message // nil for what the server only sends
	handler Handler
}

// New starts a server that stops with the test.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{Socket: filepath.Join(t.TempDir(), "api.sock"), t: t, peers: map[*Peer]struct{}{}}
	Handle(s, func(peer *Peer, context uint32, _ *memclnt.ControlPing) {
		peer.Reply(context, &memclnt.ControlPingReply{})
	}, &memclnt.ControlPingReply{})
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// Handle sets the handler of request type T and adds it and the messages the handler
// sends to the table of later connections. A second handler replaces the first.
func Handle[T any, P interface {
	*T
	api.Message
}](s *Server, f func(peer *Peer, context uint32, req *T), sends ...api.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := entry{
		message: P(new(T)),
		blank:   func() api.Message { return P(new(T)) },
		handler: func(peer *Peer, context uint32, req api.Message) { f(peer, context, (*T)(req.(P))) },
	}
	if i, ok := s.index(e.message); ok {
		s.table[i] = e
	} else {
		s.table = append(s.table, e)
	}
	for _, msg := range sends {
		if _, ok := s.index(msg); !ok {
			s.table = append(s.table, entry{message: msg})
		}
	}
}

func (s *Server) index(msg api.Message) (int, bool) {
	for i, e := range s.table {
		if name(e.message) == name(msg) {
			return i, true
		}
	}
	return 0, false
}

// Start listens; New has done it the first time.
func (s *Server) Start() {
	s.t.Helper()
	listener, err := net.Listen("unix", s.Socket)
	if err != nil {
		s.t.Fatalf("listen: %v", err)
	}
	s.mu.Lock()
	s.listener = listener
	s.mu.Unlock()
	s.wg.Go(func() { s.accept(listener) })
}

// Stop closes the listener and all connections, as the end of the process would.
func (s *Server) Stop() {
	s.mu.Lock()
	s.listener.Close()
	s.mu.Unlock()
	s.Hangup()
	s.wg.Wait()
}

// Hangup closes all connections; the server goes on listening.
func (s *Server) Hangup() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for peer := range s.peers {
		peer.sock.Close()
	}
}

// Event sends an event to every client.
func (s *Server) Event(msg api.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for peer := range s.peers {
		peer.Reply(0, msg)
	}
}

func (s *Server) accept(listener net.Listener) {
	for {
		sock, err := listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.clients++
		peer := &Peer{t: s.t, sock: sock, client: clientBase + s.clients, table: append([]entry(nil), s.table...)}
		s.mu.Unlock()
		s.wg.Go(func() {
			defer sock.Close()
			if !peer.greet() {
				return
			}
			s.mu.Lock()
			s.peers[peer] = struct{}{}
			s.mu.Unlock()
			peer.serve()
			s.mu.Lock()
			delete(s.peers, peer)
			s.mu.Unlock()
		})
	}
}

// Peer is one client seen from the server.
type Peer struct {
	t      testing.TB
	sock   net.Conn
	client uint32
	table  []entry

	// mu keeps frames whole.
	mu sync.Mutex
}

// Reply sends messages with the context of a request, in order.
func (p *Peer) Reply(context uint32, msgs ...api.Message) {
	for _, msg := range msgs {
		p.Raw(p.Frame(context, msg))
	}
}

// Frame encodes a message as it goes over the wire, for tests that damage it.
func (p *Peer) Frame(context uint32, msg api.Message) []byte {
	id := uint16(0)
	for i, e := range p.table {
		if name(e.message) == name(msg) {
			id = firstID + uint16(i)
		}
	}
	if _, ok := msg.(*memclnt.SockclntCreateReply); ok {
		id = createID + 1
	}
	data, err := codec.EncodeMsg(msg, id)
	if err != nil {
		p.t.Errorf("encode %s: %v", msg.GetMessageName(), err)
	}
	switch msg.GetMessageType() {
	case api.RequestMessage:
		binary.BigEndian.PutUint32(data[2:], p.client)
		binary.BigEndian.PutUint32(data[6:], context)
	case api.ReplyMessage:
		binary.BigEndian.PutUint32(data[2:], context)
	case api.EventMessage:
		binary.BigEndian.PutUint32(data[2:], p.client)
	}
	frame := make([]byte, header, header+len(data))
	binary.BigEndian.PutUint32(frame[8:], uint32(len(data)))
	return append(frame, data...)
}

// Raw writes bytes as they are. A client that is gone is no error.
func (p *Peer) Raw(data []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.sock.Write(data); err != nil && !gone(err) {
		p.t.Errorf("write to client: %v", err)
	}
}

// Hangup closes this connection.
func (p *Peer) Hangup() { p.sock.Close() }

func (p *Peer) greet() bool {
	frame, err := p.read()
	if err != nil || binary.BigEndian.Uint16(frame) != createID {
		return false
	}
	var table []memclnt.MessageTableEntry
	for i, e := range p.table {
		table = append(table, memclnt.MessageTableEntry{Index: firstID + uint16(i), Name: name(e.message)})
	}
	p.Reply(binary.BigEndian.Uint32(frame[2:]), &memclnt.SockclntCreateReply{
		Index: p.client, Count: uint16(len(table)), MessageTable: table,
	})
	return true
}

func (p *Peer) serve() {
	for {
		frame, err := p.read()
		if err != nil {
			return
		}
		id := int(binary.BigEndian.Uint16(frame)) - firstID
		if id < 0 || id >= len(p.table) || p.table[id].blank == nil {
			p.t.Errorf("client sent message id %d, which is no request of the table", id+firstID)
			continue
		}
		req := p.table[id].blank()
		if err := codec.DecodeMsg(frame, req); err != nil {
			p.t.Errorf("decode %s: %v", req.GetMessageName(), err)
			continue
		}
		p.table[id].handler(p, binary.BigEndian.Uint32(frame[6:]), req)
	}
}

func (p *Peer) read() ([]byte, error) {
	var head [header]byte
	if _, err := io.ReadFull(p.sock, head[:]); err != nil {
		return nil, err
	}
	frame := make([]byte, binary.BigEndian.Uint32(head[8:]))
	_, err := io.ReadFull(p.sock, frame)
	return frame, err
}

func gone(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.As(err, new(*net.OpError))
}

func name(msg api.Message) string { return msg.GetMessageName() + "_" + msg.GetCrcString() }
