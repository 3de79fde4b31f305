package api

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"go.fd.io/govpp/binapi/acl"
	"go.fd.io/govpp/binapi/acl_types"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/memclnt"
	"go.fd.io/govpp/binapi/vlib"
	"go.fd.io/govpp/codec"
)

func TestFrameReader(t *testing.T) {
	small, odd, large := []byte("ab"), bytes.Repeat([]byte("c"), inBuffer-frameHeader), bytes.Repeat([]byte("d"), 3*inBuffer+5)
	stream := bytes.Join([][]byte{frameOf(small), frameOf(nil), frameOf(odd), frameOf(large), frameOf(small)}, nil)
	for name, r := range map[string]io.Reader{
		"whole": bytes.NewReader(stream), "halves": iotest.HalfReader(bytes.NewReader(stream)), "bytes": iotest.OneByteReader(bytes.NewReader(stream)),
	} {
		f := newFrameReader(r)
		for i, want := range [][]byte{small, {}, odd, large, small} {
			got, err := f.next()
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: frame %d: %d bytes, %v; want %d", name, i, len(got), err, len(want))
			}
		}
		if _, err := f.next(); err != io.EOF {
			t.Errorf("%s: after the last frame: %v, want EOF", name, err)
		}
	}
}

func TestFrameReaderKnowsWhatIsReady(t *testing.T) {
	two := append(frameOf([]byte("one")), frameOf([]byte("two"))...)
	for cut := range len(two) + 1 {
		f := newFrameReader(bytes.NewReader(two[:cut]))
		if cut < len(frameOf([]byte("one"))) {
			continue
		}
		if _, err := f.next(); err != nil {
			t.Fatal(err)
		}
		if got, want := f.ready(), cut == len(two); got != want {
			t.Errorf("%d of %d bytes: ready %v", cut, len(two), got)
		}
	}
}

func TestFrameReaderRefuses(t *testing.T) {
	oversized := frameOf(nil)
	binary.BigEndian.PutUint32(oversized[8:], maxFrame+1)
	if _, err := newFrameReader(bytes.NewReader(oversized)).next(); !errors.Is(err, errFrame) {
		t.Errorf("oversized frame: %v", err)
	}
	whole := frameOf([]byte("message"))
	for cut := 1; cut < len(whole); cut++ {
		if _, err := newFrameReader(bytes.NewReader(whole[:cut])).next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v, want unexpected EOF", cut, err)
		}
	}
	claim := frameOf(make([]byte, 100))
	binary.BigEndian.PutUint32(claim[8:], maxFrame)
	f := newFrameReader(bytes.NewReader(claim))
	if bytesPerRun := testing.AllocsPerRun(1, func() { f.next() }); bytesPerRun > 20 {
		t.Errorf("%v allocations for a claim of %d bytes with 100 behind it", bytesPerRun, maxFrame)
	}
}

// TestGuardFollowsTheCodec: for every message of the table, the guard accepts what the
// codec encodes and walks exactly to its end.
func TestGuardFollowsTheCodec(t *testing.T) {
	s := tableOnly(t)
	for _, e := range s.table.entries {
		g, err := newGuard(reflect.TypeOf(e.proto).Elem())
		if err != nil {
			t.Errorf("%s: %v", e.name, err)
			continue
		}
		if g == nil {
			continue
		}
		full, err := codec.EncodeMsg(e.proto, e.id)
		if err != nil {
			t.Fatal(err)
		}
		fields := full[fieldsOffset(e.kind):]
		rest, ok := walk(g, fields)
		if !ok || len(rest) != 0 {
			t.Errorf("%s: guard leaves %d of %d bytes, %v", e.name, len(rest), len(fields), ok)
		}
		for cut := range fields {
			if g.check(fields[:cut]) {
				t.Errorf("%s: guard accepts %d of %d bytes", e.name, cut, len(fields))
				break
			}
		}
	}
}

func TestGuardRefusesAbsurdCounts(t *testing.T) {
	guardOf := func(m any) guard {
		g, err := newGuard(reflect.TypeOf(m).Elem())
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	encode := func(m wireMessage) []byte {
		b, err := m.Marshal(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	rules := &acl.ACLAddReplace{Tag: "t", R: make([]acl_types.ACLRule, 3)}
	wire := encode(rules)
	g := guardOf(rules)
	if !g.check(wire) {
		t.Error("three rules are refused")
	}
	countAt := 4 + 64
	if binary.BigEndian.Uint32(wire[countAt:]) != 3 {
		t.Fatal("the count is not where the test looks")
	}
	for _, n := range []uint32{4, 1 << 16, 1 << 31, 1<<32 - 1} {
		binary.BigEndian.PutUint32(wire[countAt:], n)
		if g.check(wire) {
			t.Errorf("%d rules in %d bytes are accepted", n, len(wire))
		}
	}
	punt := &ip.AddDelIPPuntRedirectV2{}
	wire = encode(punt)
	binary.BigEndian.PutUint32(wire[1+4+1:], 1<<32-1)
	if guardOf(punt).check(wire) {
		t.Error("punt redirect with 2^32-1 paths is accepted")
	}
	text := &vlib.CliInband{Cmd: "show version"}
	wire = encode(text)
	if !guardOf(text).check(wire) {
		t.Error("a command is refused")
	}
	binary.BigEndian.PutUint32(wire, 1<<32-1)
	if guardOf(text).check(wire) {
		t.Error("a string of 2^32-1 bytes is accepted")
	}
	// Elements that vary themselves.
	threads := &memclnt.SockclntCreateReply{Count: 2, MessageTable: make([]memclnt.MessageTableEntry, 2)}
	if wire = encode(threads); !guardOf(threads).check(wire) || guardOf(threads).check(wire[:len(wire)-1]) {
		t.Error("message table is judged wrongly")
	}
}

// TestAbsurdCountAllocatesNothing sends what would reserve hundreds of gigabytes.
func TestAbsurdCountAllocatesNothing(t *testing.T) {
	s := tableOnly(t)
	i := 0
	for ; !strings.HasPrefix(s.table.entries[i].name, "add_del_ip_punt_redirect_v2_"); i++ {
	}
	e := s.table.entries[i]
	msg, err := codec.EncodeMsg(&ip.AddDelIPPuntRedirectV2{IsAdd: true}, e.id)
	if err != nil {
		t.Fatal(err)
	}
	binary.BigEndian.PutUint32(msg[10+1+4+1:], 1<<32-1)
	c := &session{server: s, ctx: t.Context()}
	q := new(ip.AddDelIPPuntRedirectV2)
	if c.decode(e, msg[10:], q) {
		t.Error("decoded")
	}
	if n := testing.AllocsPerRun(10, func() { c.decode(e, msg[10:], q) }); n > 4 {
		t.Errorf("%v allocations", n)
	}
}

// tableOnly is a server that no client reaches.
func tableOnly(t testing.TB) *Server {
	t.Helper()
	return serverOn(t, nil, nil)
}

func TestTable(t *testing.T) {
	s := tableOnly(t)
	position := map[string]int{}
	ids := map[uint16]string{}
	for i, e := range s.table.entries {
		name, crc, ok := cutLast(e.name)
		if !ok || crc == "" {
			t.Errorf("entry %q has no crc", e.name)
		}
		position[name] = i
		if other, twice := ids[e.id]; twice {
			t.Errorf("%s and %s share id %d", e.name, other, e.id)
		}
		ids[e.id] = e.name
		if s.table.find(e.id) != e {
			t.Errorf("find(%d) is not %s", e.id, e.name)
		}
		if len(e.name) > 63 {
			t.Errorf("%s does not fit the handshake", e.name)
		}
		if strings.HasSuffix(name, "_reply") && e.serve != nil {
			t.Errorf("%s is served as a request", name)
		}
	}
	if position["sockclnt_delete"] < position["sockclnt_delete_reply"] {
		t.Error("GoVPP takes the last sockclnt_delete_*: the request must stand behind the reply")
	}
	if ids[15] == "" || !strings.HasPrefix(ids[15], "sockclnt_create_") || !strings.HasPrefix(ids[16], "sockclnt_create_reply_") {
		t.Errorf("ids 15 and 16 are %q and %q", ids[15], ids[16])
	}
	for _, e := range s.table.entries {
		name, _, _ := cutLast(e.name)
		if e.serve == nil || name == "sockclnt_create" || name == "sockclnt_delete" {
			continue
		}
		_, reply := position[name+"_reply"]
		_, details := position[strings.TrimSuffix(name, "_dump")+"_details"]
		if !reply && !details {
			t.Errorf("%s has neither reply nor details in the table", name)
		}
	}
	if s.table.find(0) != nil || s.table.find(0xffff) != nil {
		t.Error("an unknown id is found")
	}
}

func cutLast(name string) (string, string, bool) {
	i := strings.LastIndexByte(name, '_')
	if i < 0 {
		return name, "", false
	}
	return name[:i], name[i+1:], true
}

// TestRepliesBeginWithRetval: handle writes it there, or where it was told, without
// looking.
func TestRepliesBeginWithRetval(t *testing.T) {
	for _, e := range tableOnly(t).table.entries {
		name, _, _ := cutLast(e.name)
		if !strings.HasSuffix(name, "_reply") || strings.HasPrefix(name, "sockclnt_") {
			continue
		}
		st := reflect.TypeOf(e.proto).Elem()
		f := st.Field(0)
		if e.retvalAt > 0 { // behind one field of as many bytes
			if int(f.Type.Size()) != e.retvalAt {
				t.Errorf("%s has %s %s before its retval", name, f.Name, f.Type)
			}
			f = st.Field(1)
		}
		if _, has := st.FieldByName("Retval"); !has && e.retvalAt == noRetval {
			continue
		}
		if f.Name != "Retval" || f.Type.Kind() != reflect.Int32 || fieldsOffset(e.kind) != 6 && name != "feature_is_enabled_reply" { // which begins as requests do
			t.Errorf("%s begins with %s %s at %d", name, f.Name, f.Type, fieldsOffset(e.kind))
		}
	}
}

func TestCenter(t *testing.T) {
	var got []string
	for _, c := range []struct {
		text  string
		width int
	}{{"ab", 6}, {"ab", 5}, {"abc", 3}, {"abcdef", 4}, {"", 2}} {
		got = append(got, center(c.text, c.width))
	}
	if diff := cmp.Diff([]string{"  ab  ", "  ab ", "abc", "abcd", "  "}, got); diff != "" {
		t.Error(diff)
	}
}

// TestShortMessageDoesNotReadOn: the bytes behind a message are not its own.
func TestShortMessageDoesNotReadOn(t *testing.T) {
	s := tableOnly(t)
	c := &session{server: s, ctx: t.Context()}
	buffer := bytes.Repeat([]byte{'x'}, 1000)
	for _, e := range s.table.entries {
		m := reflect.New(reflect.TypeOf(e.proto).Elem()).Interface().(wireMessage)
		size := m.Size()
		if size == 0 || size > len(buffer) {
			continue
		}
		if c.decode(e, buffer[:size-1], m) {
			t.Errorf("%s: %d of %d bytes are taken for a message", e.name, size-1, size)
		}
	}
}
