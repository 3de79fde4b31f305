package packet

import (
	"reflect"
	"testing"
)

func TestBufferIsOneCacheLine(t *testing.T) {
	if size := reflect.TypeFor[Buffer]().Size(); size != 64 {
		t.Errorf("%d bytes; want 64", size)
	}
}

func TestPushAndPullKeepOffsets(t *testing.T) {
	b := FromBytes(make([]byte, 100))
	b.L3, b.L4 = 14, 34
	b.Offload = Offload{Flags: NeedsChecksum, CsumStart: 34, CsumOffset: 16, HeaderLen: 54, GSO: GSOTCPv4, GSOSize: 1000}
	b.Pull(14)
	if b.L3 != 0 || b.L4 != 20 || b.Offload.CsumStart != 20 || b.Offload.HeaderLen != 40 || b.Len() != 86 {
		t.Errorf("after Pull: %+v", b)
	}
	if got := len(b.Push(18)); got != 18 || b.L3 != 18 || b.L4 != 38 || b.Offload.CsumStart != 38 || b.Offload.CsumOffset != 16 {
		t.Errorf("after Push: %+v", b)
	}
	b.L4 = 0
	b.Push(4)
	if b.L4 != 0 || b.L3 != 22 {
		t.Errorf("an unknown L4 moved to %d", b.L4)
	}
	b.Pull(30)
	if b.L3 != 0 {
		t.Errorf("a removed L3 is at %d", b.L3)
	}
}

func TestMisusePanics(t *testing.T) {
	for name, f := range map[string]func(b *Buffer){
		"Push":       func(b *Buffer) { b.Push(Headroom + 1) },
		"Push < 0":   func(b *Buffer) { b.Push(-1) },
		"Pull":       func(b *Buffer) { b.Pull(11) },
		"SetLen":     func(b *Buffer) { b.SetLen(MaxPacket + 1) },
		"SetLen < 0": func(b *Buffer) { b.SetLen(-1) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f(FromBytes(make([]byte, 10)))
		})
	}
}

func TestViewAndCopy(t *testing.T) {
	lent := []byte("..packet..")
	v := FromBytes(nil)
	v.SetView(lent, 2, 8)
	v.Offload.GSOSize, v.RxInterface, v.Meta[1] = 9, 3, 5
	if string(v.Bytes()) != "packet" || v.Room() != 2 || v.Tailroom() != 2 || v.Append([]byte("xyz")) || !v.Append([]byte("xy")) {
		t.Errorf("view %q, room %d, tail %d", v.Bytes(), v.Room(), v.Tailroom())
	}
	b := FromBytes(nil)
	if !b.CopyFrom(v) || string(b.Bytes()) != "packetxy" || b.Offload != v.Offload || b.RxInterface != 3 || b.Meta[1] != 5 {
		t.Errorf("copy %+v", b)
	}
	lent[3] = 'X'
	if string(b.Bytes()) != "packetxy" {
		t.Error("a copy changed with its original")
	}
	v.Reset(Headroom)
	if v.Tailroom() != MaxPacket || v.Offload != (Offload{}) {
		t.Error("Reset does not come home")
	}
	if NewBuffer(make([]byte, 300)).CopyFrom(FromBytes(make([]byte, 100))) {
		t.Error("a copy larger than its slot")
	}
	if v.Front(Headroom+1) != nil || v.FrontAndBytes(Headroom+1) != nil || len(v.FrontAndBytes(12)) != 12 {
		t.Error("Front")
	}
}

func TestTrim(t *testing.T) {
	b := FromBytes([]byte("packet"))
	b.Trim(10)
	b.Trim(3)
	if string(b.Bytes()) != "pac" || string(b.L3Bytes()) != "pac" {
		t.Errorf("%q", b.Bytes())
	}
}

func TestVirtioHeader(t *testing.T) {
	o := Offload{Flags: NeedsChecksum, GSO: GSOTCPv6, HeaderLen: 74, GSOSize: 1428, CsumStart: 54, CsumOffset: 16}
	p := make([]byte, VirtioMergeableLen)
	p[10], p[11] = 7, 7
	o.PutVirtio(p)
	if got := OffloadFromVirtio(p); got != o || p[10] != 0 || p[11] != 0 {
		t.Errorf("%+v in %x", got, p)
	}
}
