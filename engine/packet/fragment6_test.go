package packet

import (
	"bytes"
	"testing"
)

func TestFragmenter6(t *testing.T) {
	payload := make([]byte, 3001)
	for i := range payload {
		payload[i] = byte(i * 7)
	}
	b := FromBytes(append(make([]byte, IPv6Len), payload...))
	MakeIPv6(b.Bytes(), [16]byte{0xfd, 15: 1}, [16]byte{0xfd, 15: 2}, ProtoUDP, 64)
	var f Fragmenter6
	if r := f.Start(b, 1280, 99); r != OK {
		t.Fatal(r)
	}
	var got []byte
	for i := 0; ; i++ {
		dst := FromBytes(nil)
		if !f.Next(dst) {
			break
		}
		ip, r := ParseIPv6(dst.Bytes())
		if r != OK || len(ip) > 1280 {
			t.Fatalf("fragment %d: %v, %d bytes", i, r, len(ip))
		}
		u, r := ip.Upper()
		h, _ := ParseFragment(ip[IPv6Len:])
		if r != OK || h.Offset() != len(got) || h.ID() != 99 || u.Proto != ProtoUDP {
			t.Errorf("fragment %d: %v at %d, id %d, want at %d, id 99", i, r, h.Offset(), h.ID(), len(got))
		}
		got = append(got, ip[IPv6Len+FragmentLen:]...)
		if h.More() != (len(got) < len(payload)) {
			t.Errorf("fragment %d: more is %v", i, h.More())
		}
	}
	if !bytes.Equal(got, payload) {
		t.Error("the fragments' payload differs")
	}
	if r := f.Start(b, 50, 1); r != NoRoom {
		t.Errorf("MTU 50: %v, want %v", r, NoRoom)
	}
}
