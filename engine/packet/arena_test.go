package packet

import "testing"

func TestArenaHandsOutEachBufferOnce(t *testing.T) {
	a, err := NewArena(8)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	seen := map[*Buffer]bool{}
	for range 8 {
		b := a.Take()
		if b == nil || seen[b] || b.Len() != 0 || b.Room() != Headroom || b.Tailroom() != MaxPacket {
			t.Fatalf("Take gave %+v", b)
		}
		seen[b] = true
	}
	if a.Take() != nil {
		t.Fatal("Take gave a ninth buffer")
	}
	for b := range seen {
		a.Put(b)
	}
	if a.Free() != 8 {
		t.Fatalf("Free = %d", a.Free())
	}
}
