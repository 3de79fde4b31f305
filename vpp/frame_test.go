package vpp

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.fd.io/govpp/api"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/memclnt"
	"go.fd.io/govpp/binapi/vlib"
)

func TestFrame(t *testing.T) {
	out, err := appendFrame([]byte("before"), &memclnt.ControlPing{}, 0x1234, 0x80000001, 7)
	if err != nil {
		t.Fatal(err)
	}
	want := []byte("before" +
		"\x00\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x0a" + "\x00\x00\x00\x00" +
		"\x12\x34" + "\x80\x00\x00\x01" + "\x00\x00\x00\x07")
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	frame, err := readFrame(bytes.NewReader(out[len("before"):]))
	if err != nil || frameID(frame) != 0x1234 || len(frame) != 10 {
		t.Errorf("read back %x, %v", frame, err)
	}
}

// FuzzFrame: no bytes of a peer make the reader or a decoder panic. Messages with a count
// of 32 bits are left out: their generated decoders reserve what the count says, and the
// peer, which runs as root beside us, is trusted that far.
func FuzzFrame(f *testing.F) {
	messages := []func() api.Message{
		func() api.Message { return &memclnt.SockclntCreateReply{} },
		func() api.Message { return &vlib.CliInbandReply{} },
		func() api.Message { return &interfaces.SwInterfaceDetails{} },
		func() api.Message { return &interfaces.SwInterfaceEvent{} },
	}
	for i, m := range messages {
		frame, err := appendFrame(nil, m(), uint16(i), 1, 2)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame, uint8(i))
		f.Add(frame[:len(frame)-3], uint8(i))
	}
	f.Add(bytes.Repeat([]byte{0xff}, 64), uint8(0))
	f.Fuzz(func(t *testing.T, data []byte, kind uint8) {
		r := bytes.NewReader(data)
		for {
			if r.Len() >= frameHeader && announced(data[len(data)-r.Len():]) > r.Len() {
				return // what would be waited for
			}
			frame, err := readFrame(r)
			if err != nil {
				return
			}
			// An error is fine.
			_ = decode(frame, messages[int(kind)%len(messages)]())
		}
	})
}

// announced is the length a frame's header claims.
func announced(data []byte) int {
	return int(data[frameLength])<<24 | int(data[frameLength+1])<<16 | int(data[frameLength+2])<<8 | int(data[frameLength+3])
}
