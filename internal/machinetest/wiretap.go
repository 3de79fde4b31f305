package machinetest

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/memclnt"
	"go.fd.io/govpp/codec"
)

// Wiretap stands between a client and a machine's API socket. It notes requests in their
// order, and can end a connection after any of them, as the client's death would.
type Wiretap struct {
	Socket  string
	machine string
	t       testing.TB
	known   map[string]reflect.Type // messages by name_crc

	// mu guards what follows.
	mu       sync.Mutex
	requests []api.Message
	cut      int // the next connection ends after so many more requests; 0 = none
	cuts     int
	hidden   string
}

const (
	frameHeader = 16
	createReply = 16 // its message id
)

// Tap listens in front of m until the test ends. Connections to it fail while m is away.
func (m Machine) Tap(t *testing.T) *Wiretap {
	t.Helper()
	w := &Wiretap{Socket: filepath.Join(t.TempDir(), "tap.sock"), machine: m.Socket, t: t, known: map[string]reflect.Type{}}
	for _, messages := range api.GetRegisteredMessages() {
		for _, msg := range messages {
			w.known[msg.GetMessageName()+"_"+msg.GetCrcString()] = reflect.TypeOf(msg).Elem()
		}
	}
	listener, err := net.Listen("unix", w.Socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { w.serve(client) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		wg.Wait()
	})
	return w
}

// Requests are those noted so far.
func (w *Wiretap) Requests() []api.Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]api.Message(nil), w.requests...)
}

// CutAfter ends the present or next connection after n more requests; 0 ends none. Cuts
// counts those that were ended so.
func (w *Wiretap) CutAfter(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = n
}

// Hide takes a message out of the table that later connections are shown.
func (w *Wiretap) Hide(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hidden = name
}

// Cuts is how many connections CutAfter has ended.
func (w *Wiretap) Cuts() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cuts
}

func (w *Wiretap) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", w.machine)
	if err != nil {
		return // as if nobody listened
	}
	defer server.Close()
	// The client's first request is answered with the table of messages.
	create, err := readFrame(client)
	if err == nil {
		_, err = server.Write(create)
	}
	var reply []byte
	if err == nil {
		reply, err = readFrame(server)
	}
	if err == nil {
		_, err = client.Write(w.hide(reply))
	}
	if err != nil {
		return
	}
	table, ok := w.table(reply[frameHeader:])
	if !ok {
		return
	}
	back := make(chan struct{})
	go func() {
		defer close(back)
		io.Copy(client, server) // it ends when either side does
		client.Close()
	}()
	w.forward(client, server, table)
	server.Close()
	client.Close()
	<-back
}

// hide gives the hidden message another name in the table.
func (w *Wiretap) hide(table []byte) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hidden == "" {
		return table
	}
	return bytes.ReplaceAll(table, []byte(w.hidden), bytes.Repeat([]byte{'x'}, len(w.hidden)))
}

// forward passes requests on until one side ends or the cut comes.
func (w *Wiretap) forward(client, server net.Conn, table map[uint16]reflect.Type) {
	for {
		frame, err := readFrame(client)
		if err != nil {
			return
		}
		if _, err := server.Write(frame); err != nil {
			return
		}
		if w.note(frame[frameHeader:], table) {
			return
		}
	}
}

// note writes a request down and says whether to end the connection.
func (w *Wiretap) note(data []byte, table map[uint16]reflect.Type) (end bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if known := table[binary.BigEndian.Uint16(data)]; known != nil {
		msg := reflect.New(known).Interface().(api.Message)
		if err := codec.DecodeMsg(data, msg); err != nil {
			w.t.Errorf("tap: %s: %v", msg.GetMessageName(), err)
		}
		w.requests = append(w.requests, msg)
	}
	if w.cut == 0 {
		return false
	}
	if w.cut--; w.cut > 0 {
		return false
	}
	w.cuts++
	return true
}

func (w *Wiretap) table(data []byte) (map[uint16]reflect.Type, bool) {
	reply := &memclnt.SockclntCreateReply{}
	if binary.BigEndian.Uint16(data) != createReply || codec.DecodeMsg(data, reply) != nil {
		w.t.Error("tap: the machine's first message is no table")
		return nil, false
	}
	table := map[uint16]reflect.Type{}
	for _, entry := range reply.MessageTable {
		name, _, _ := strings.Cut(entry.Name, "\x00")
		if known, ok := w.known[strings.TrimSuffix(name, "\x13")]; ok {
			table[entry.Index] = known
		}
	}
	return table, true
}

func readFrame(c net.Conn) ([]byte, error) {
	head := make([]byte, frameHeader)
	if _, err := io.ReadFull(c, head); err != nil {
		return nil, err
	}
	frame := make([]byte, frameHeader+int(binary.BigEndian.Uint32(head[8:])))
	copy(frame, head)
	_, err := io.ReadFull(c, frame[frameHeader:])
	return frame, err
}
