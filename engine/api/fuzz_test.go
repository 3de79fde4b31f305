package api

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"

	"go.fd.io/govpp/binapi/acl"
	"go.fd.io/govpp/binapi/acl_types"
	"go.fd.io/govpp/codec"
)

// FuzzFrame: whatever arrives, frames come out whole, in order, or not at all.
func FuzzFrame(f *testing.F) {
	f.Add(frameOf([]byte("a message")), uint16(5))
	f.Add(append(frameOf(nil), frameOf(make([]byte, 300))...), uint16(1))
	oversized := frameOf(nil)
	binary.BigEndian.PutUint32(oversized[8:], 1<<32-1)
	f.Add(oversized, uint16(3))
	f.Fuzz(func(t *testing.T, stream []byte, chunk uint16) {
		r := newFrameReader(&chunks{stream, int(chunk)%1000 + 1})
		at := 0
		for {
			msg, err := r.next()
			if err != nil {
				break
			}
			length := int(binary.BigEndian.Uint32(stream[at+8:]))
			if want := stream[at+frameHeader : at+frameHeader+length]; !bytes.Equal(msg, want) {
				t.Fatalf("frame at %d differs", at)
			}
			at += frameHeader + length
			r.ready()
		}
		if rest := stream[at:]; len(rest) >= frameHeader {
			if length := binary.BigEndian.Uint32(rest[8:]); length <= maxFrame && int(length) <= len(rest)-frameHeader {
				t.Fatalf("a whole frame at %d was not read", at)
			}
		}
	})
}

// chunks reads n bytes at a time.
type chunks struct {
	b []byte
	n int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.b[:min(c.n, len(c.b))])
	c.b = c.b[n:]
	return n, nil
}

// FuzzDecode: no decoder of the table panics, and none allocates much more than it is
// given. What decodes must encode to bytes that decode to the same.
func FuzzDecode(f *testing.F) {
	s := tableOnly(f)
	for i, e := range s.table.entries {
		b, err := codec.EncodeMsg(e.proto, e.id)
		if err != nil {
			f.Fatal(err)
		}
		fields := b[fieldsOffset(e.kind):]
		f.Add(uint16(i), fields)
		f.Add(uint16(i), bytes.Repeat([]byte{0xff}, len(fields)+8))
		f.Add(uint16(i), bytes.Repeat([]byte{1}, len(fields)+400))
	}
	f.Fuzz(func(t *testing.T, n uint16, fields []byte) {
		e := s.table.entries[int(n)%len(s.table.entries)]
		c := &session{server: s, ctx: t.Context()}
		guarded := *e
		var err error
		if guarded.guard, err = newGuard(reflect.TypeOf(e.proto).Elem()); err != nil {
			t.Fatal(err)
		}
		m := reflect.New(reflect.TypeOf(e.proto).Elem()).Interface().(wireMessage)
		if !c.decode(&guarded, fields, m) {
			return
		}
		if m.Size() > len(fields) {
			t.Errorf("%s: %d bytes became %d", e.name, len(fields), m.Size())
		}
		wire, err := m.Marshal(nil)
		if err != nil {
			t.Fatalf("%s: encode what was decoded: %v", e.name, err)
		}
		again := reflect.New(reflect.TypeOf(e.proto).Elem()).Interface().(wireMessage)
		if !c.decode(&guarded, wire, again) {
			t.Fatalf("%s: what was encoded does not decode", e.name)
		}
		second, err := again.Marshal(nil)
		if err != nil || !bytes.Equal(wire, second) {
			t.Errorf("%s: encodes to other bytes the second time, %v", e.name, err)
		}
	})
}

// FuzzSession runs frames through a whole session, except those that open devices or
// make files on the host. Whatever a client sends, the next client is served.
func FuzzSession(f *testing.F) {
	s := testServer(f)
	for _, e := range s.table.entries {
		for _, device := range []string{"tap_create", "af_packet_create", "memif_create", "memif_socket_filename_add_del"} {
			if strings.HasPrefix(e.name, device) {
				e.serve = nil
			}
		}
	}
	for _, e := range s.table.entries {
		b, err := codec.EncodeMsg(e.proto, e.id)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, []byte{})
		f.Add(b, bytes.Repeat([]byte{0xff}, 64))
		f.Add(append(b[:fieldsOffset(e.kind):fieldsOffset(e.kind)], bytes.Repeat([]byte{1}, 200)...), []byte{0, 0})
	}
	// Lists with rules, good and bad, and what is done with them.
	good := acl_types.ACLRule{IsPermit: 2, Proto: 6, SrcportOrIcmptypeLast: 9, DstportOrIcmpcodeLast: 65535}
	bad := good
	bad.SrcPrefix.Len, bad.DstPrefix.Address.Af = 33, 1
	add := encoded(f, s, &acl.ACLAddReplace{ACLIndex: ^uint32(0), Tag: "a", R: []acl_types.ACLRule{good, good, bad}})
	for _, m := range []wireMessage{
		&acl.ACLAddReplace{R: []acl_types.ACLRule{good}}, &acl.ACLInterfaceSetACLList{NInput: 9, Acls: []uint32{0, 1, 0}},
		&acl.ACLInterfaceAddDel{IsAdd: true, IsInput: true}, &acl.ACLDump{ACLIndex: ^uint32(0)}, &acl.ACLDel{},
	} {
		f.Add(add, encoded(f, s, m))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		c := &session{server: s, ctx: t.Context(), index: 1, conn: discardConn{}, out: bufio.NewWriter(io.Discard), wake: make(chan struct{}, 1)}
		c.dispatch(first)
		c.dispatch(second)
		ping := s.table.entries[0]
		for _, e := range s.table.entries {
			if strings.HasPrefix(e.name, "control_ping_") {
				ping = e
				break
			}
		}
		msg := make([]byte, 10)
		binary.BigEndian.PutUint16(msg, ping.id)
		var answer bytes.Buffer
		c.out.Reset(&answer)
		c.dispatch(msg)
		if err := c.flush(); err != nil || answer.Len() != frameHeader+18 {
			t.Fatalf("after % x and % x: ping is answered by %d bytes, %v", first, second, answer.Len(), err)
		}
	})
}

type discardConn struct{ net.Conn }

func (discardConn) Close() error { return nil }

// FuzzCLI: no input breaks the command parser; output ends in a newline.
func FuzzCLI(f *testing.F) {
	s := testServer(f)
	for _, c := range s.commands {
		f.Add(c.path)
		f.Add(c.path + " ?")
		f.Add(c.path + " local0 table 0 1.2.3.4/24 summary")
	}
	for _, line := range []string{"?", "help", "show help", "sh int addr", "show ip fib table", "show ip6 fib ::/0", "sh", "set interface state local0 up", "x\ny", "set interface mtu packet 9000 local0", "set acl-plugin session timeout udp idle 60", "set acl-plugin interface local0 input acl 0 del", "show acl-plugin acl index 0"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, input string) {
		out, err := s.runCommand(input)
		if out != "" && !strings.HasSuffix(out, "\n") {
			t.Errorf("%q: output does not end in a newline: %q", input, out)
		}
		if err != nil && !strings.HasSuffix(err.Error(), "\n") {
			t.Errorf("%q: error does not end in a newline: %q", input, err)
		}
	})
}
