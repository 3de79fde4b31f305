package conformance

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"slices"
	"time"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/memclnt"
	"go.fd.io/govpp/binapi/vpe"
	"go.fd.io/govpp/codec"

	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/ip"
)

func processCases() []Case {
	return []Case{
		{"process-ping-version", pingVersion},
		{"process-cli", cli},
		{"process-several-clients", severalClients},
		{"process-damaged-frames", damagedFrames},
		{"process-large-request", largeRequest},
	}
}

func pingVersion(s *Session) {
	s.Note("control_ping leaves client_index 0 on VPP; vpe_pid is the process")
	reply := s.Call(&memclnt.ControlPing{}).(*memclnt.ControlPingReply)
	s.Write("  client_index %d, pid given: %v", reply.ClientIndex, reply.VpePID != 0)
	version := s.Call(&vpe.ShowVersion{}).(*vpe.ShowVersionReply)
	s.Write("  program and version given: %v %v", version.Program != "", version.Version != "")
	s.Note("the fixed ids and the end of a connection")
	raw := s.dialRaw()
	create := raw.exchange(&memclnt.SockclntCreate{Name: "raw"}, 15, 0x01020304)
	var table memclnt.SockclntCreateReply
	if err := codec.DecodeMsg(create, &table); err != nil {
		s.T.Fatal(err)
	}
	s.Write("sockclnt_create: id %d context %#x response %d, as many entries as counted: %v",
		binary.BigEndian.Uint16(create), binary.BigEndian.Uint32(create[6:]), table.Response, int(table.Count) == len(table.MessageTable))
	for _, e := range table.MessageTable {
		if e.Name == "sockclnt_delete_8ac76db6" {
			raw.client = table.Index
			bye := raw.exchange(&memclnt.SockclntDelete{Index: table.Index}, e.Index, 5)
			var reply memclnt.SockclntDeleteReply
			if err := codec.DecodeMsg(bye, &reply); err != nil {
				s.T.Fatal(err)
			}
			s.Write("sockclnt_delete: response %d", reply.Response)
		}
	}
}

func cli(s *Session) {
	s.CLI("show version")
	s.CLI("show interface", "Name", "local0")
	s.CLI("no such command", "unknown input")
	s.CLI("show", "unknown input")
	s.CLI("show interface nonsense", "unknown input")
	s.CLI("")
	one := s.loopback()
	s.Must(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: one, IsAdd: true, Prefix: withPrefix("10.0.0.1/24")})
	s.CLI("show interface address", "loop0", "10.0.0.1")
	s.CLI("show interface loop0", "loop0")
}

func severalClients(s *Session) {
	other := s.Dial()
	s.Call(&interfaces.CreateLoopback{})
	if err := other.Ping(s.T.Context()); err != nil {
		s.T.Error(err)
	}
	text, err := other.CLI(s.T.Context(), "show interface")
	if err != nil || text == "" {
		s.T.Errorf("the other client got %q, %v", text, err)
	}
	other.Close()
	s.Dump(&interfaces.SwInterfaceDump{SwIfIndex: ^interfaceIndex(0), NameFilterValid: true, NameFilter: "loop"})
}

// damagedFrames are what a client may send by mistake. The machine stays silent on them,
// or hangs up, and goes on serving others.
func damagedFrames(s *Session) {
	ping := frameOf(s, &memclnt.ControlPing{}, 0)
	cut := frameOf(s, &ip.IPRouteAddDel{IsAdd: true, Route: route("20.0.0.0/8", drop(), drop())}, 9)
	cut = cut[:len(cut)-40]
	binary.BigEndian.PutUint32(cut[8:], uint32(len(cut)-16))
	for _, tt := range []struct {
		name string
		data []byte
	}{
		{"unknown id", frameWith(65000, make([]byte, 12))},
		{"no context", frameWith(binary.BigEndian.Uint16(ping[16:]), nil)},
		{"an id and nothing else, unknown", frameWith(64999, nil)},
		{"more paths announced than there are", cut},
		{"no byte in the frame", make([]byte, 16)},
	} {
		raw := s.dialRaw()
		raw.exchange(&memclnt.SockclntCreate{Name: "raw"}, 15, 1)
		raw.write(tt.data)
		s.Write("%s: %s", tt.name, raw.state())
	}
	s.Note("half a frame, then the end of the connection")
	raw := s.dialRaw()
	raw.exchange(&memclnt.SockclntCreate{Name: "raw"}, 15, 1)
	raw.write(ping[:20])
	raw.conn.Close()
	if err := s.Conn.Ping(s.T.Context()); err != nil {
		s.T.Errorf("the machine does not serve others any more: %v", err)
	}
	s.Write("others are served")
	s.route("20.0.0.0/8")
}

// largeRequest is longer than any buffer of a socket.
func largeRequest(s *Session) {
	long := make([]byte, 100_000)
	for i := range long {
		long[i] = 'x'
	}
	reply, err := s.Conn.CLI(s.T.Context(), string(long))
	s.Write("a command of 100000 bytes: retval %d, answered %v", retvalOf(err), reply != "")
}

// raw is a connection below GoVPP and package vpp.
type raw struct {
	s      *Session
	conn   net.Conn
	client uint32
}

func (s *Session) dialRaw() *raw {
	s.T.Helper()
	conn, err := net.Dial("unix", s.api)
	if err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		s.T.Fatal(err)
	}
	return &raw{s: s, conn: conn}
}

func (r *raw) write(data []byte) {
	r.s.T.Helper()
	if _, err := r.conn.Write(data); err != nil {
		r.s.T.Fatal(err)
	}
}

// exchange sends a request and returns the message that comes back.
func (r *raw) exchange(msg api.Message, id uint16, context uint32) []byte {
	r.s.T.Helper()
	r.write(frameOfID(r.s, msg, id, r.client, context))
	var head [16]byte
	if _, err := readFull(r.conn, head[:]); err != nil {
		r.s.T.Fatalf("%s: %v", msg.GetMessageName(), err)
	}
	data := make([]byte, binary.BigEndian.Uint32(head[8:]))
	if _, err := readFull(r.conn, data); err != nil {
		r.s.T.Fatalf("%s: %v", msg.GetMessageName(), err)
	}
	return data
}

// state says whether the machine hung up, answered, or keeps silent.
func (r *raw) state() string {
	if err := r.conn.SetReadDeadline(time.Now().Add(5 * quiet)); err != nil {
		r.s.T.Fatal(err)
	}
	n, err := r.conn.Read(make([]byte, 4096))
	switch {
	case n > 0:
		return "answered"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "silent"
	default:
		return "hung up"
	}
}

func readFull(conn net.Conn, buf []byte) (int, error) {
	n := 0
	for n < len(buf) {
		m, err := conn.Read(buf[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// frameOf encodes a message with the id that s's connection knows it by.
func frameOf(s *Session, msg api.Message, context uint32) []byte {
	raw := s.dialRaw()
	create := raw.exchange(&memclnt.SockclntCreate{Name: "table"}, 15, 1)
	var table memclnt.SockclntCreateReply
	if err := codec.DecodeMsg(create, &table); err != nil {
		s.T.Fatal(err)
	}
	name := msg.GetMessageName() + "_" + msg.GetCrcString()
	i := slices.IndexFunc(table.MessageTable, func(e memclnt.MessageTableEntry) bool { return e.Name == name })
	if i < 0 {
		s.T.Fatalf("the table has no %s", name)
	}
	return frameOfID(s, msg, table.MessageTable[i].Index, table.Index, context)
}

func frameOfID(s *Session, msg api.Message, id uint16, client, context uint32) []byte {
	data, err := codec.EncodeMsg(msg, id)
	if err != nil {
		s.T.Fatal(err)
	}
	if msg.GetMessageType() == api.RequestMessage {
		binary.BigEndian.PutUint32(data[2:], client)
		binary.BigEndian.PutUint32(data[6:], context)
	} else {
		binary.BigEndian.PutUint32(data[2:], context)
	}
	frame := make([]byte, 16, 16+len(data))
	binary.BigEndian.PutUint32(frame[8:], uint32(len(data)))
	return append(frame, data...)
}

// frameWith is a frame of an id and whatever follows.
func frameWith(id uint16, rest []byte) []byte {
	frame := make([]byte, 16, 18+len(rest))
	binary.BigEndian.PutUint32(frame[8:], uint32(2+len(rest)))
	return append(binary.BigEndian.AppendUint16(frame, id), rest...)
}
