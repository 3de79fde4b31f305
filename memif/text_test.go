package memif_test

import (
	"encoding"
	"fmt"
	"testing"

	"github.com/millrace/millrace/memif"
)

func TestText(t *testing.T) {
	var role memif.Role
	var mode memif.Mode
	var rx memif.RxMode
	for _, tt := range []struct {
		into encoding.TextUnmarshaler
		text string
		want encoding.TextMarshaler // nil: refused
	}{
		{&role, "server", memif.Server}, {&role, "client", memif.Client}, {&role, "master", nil}, {&role, "", nil},
		{&mode, "ethernet", memif.Ethernet}, {&mode, "ip", memif.IP}, {&mode, "IP", nil},
		{&rx, "interrupt", memif.Interrupt}, {&rx, "polling", memif.Polling}, {&rx, "adaptive", memif.Adaptive}, {&rx, "poll", nil},
	} {
		err := tt.into.UnmarshalText([]byte(tt.text))
		if (err == nil) != (tt.want != nil) {
			t.Errorf("%T from %q: error %v", tt.into, tt.text, err)
		}
		if tt.want == nil {
			continue
		}
		back, err := tt.want.MarshalText()
		if err != nil || string(back) != tt.text || fmt.Sprint(tt.want) != tt.text {
			t.Errorf("%v as text: %q, %v; want %q", tt.want, back, err, tt.text)
		}
	}
	if role != memif.Server || mode != memif.Ethernet || rx != memif.Interrupt {
		t.Errorf("after a refused text: %v %v %v; want the zero values", role, mode, rx)
	}
	want := `memif: rx mode "poll": want interrupt, polling or adaptive`
	if err := rx.UnmarshalText([]byte("poll")); err == nil || err.Error() != want {
		t.Errorf("error %v; want %s", err, want)
	}
	if b, err := memif.Mode(2).MarshalText(); err == nil {
		t.Errorf("mode 2 as text: %q", b)
	}
}
