package dataplane

import (
	"fmt"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/secret"
)

const password = "not for the log"

func memif() Interface {
	return Interface{
		Name: "pod/m", MTU: 1500, RPF: RPFStrict,
		Device: Memif{
			Netns: "/run/netns/m", Socket: "millrace/memif0", ID: 7, RxQueues: 2, TxQueues: 3, RingSize: 1024, BufferSize: 2048,
			Secret: secret.New(password, secret.Salt{1}), UseDMA: true, MAC: MAC{2, 0, 0, 0, 0, 7},
		},
	}
}

// changes are a memif with one field of its device changed, by what changed.
func changes() map[string]Interface {
	all := map[string]Interface{}
	for name, change := range map[string]func(*Memif){
		"netns":      func(d *Memif) { d.Netns = "/run/netns/n" },
		"socket":     func(d *Memif) { d.Socket = "millrace/memif1" },
		"id":         func(d *Memif) { d.ID = 8 },
		"mode":       func(d *Memif) { d.Mode, d.MAC = MemifIP, MAC{} },
		"rx-queues":  func(d *Memif) { d.RxQueues = 255 },
		"tx-queues":  func(d *Memif) { d.TxQueues = 255 },
		"ring":       func(d *Memif) { d.RingSize = 32768 },
		"buffer":     func(d *Memif) { d.BufferSize = 65535 },
		"secret":     func(d *Memif) { d.Secret = secret.New("another", secret.Salt{1}) },
		"no secret":  func(d *Memif) { d.Secret = secret.Text{} },
		"use of DMA": func(d *Memif) { d.UseDMA = false },
		"mac":        func(d *Memif) { d.MAC[5]++ },
	} {
		i := memif()
		d := i.Device.(Memif)
		change(&d)
		i.Device = d
		all[name] = i
	}
	return all
}

func TestMemifIsMadeAnew(t *testing.T) {
	for name, changed := range changes() {
		have, want := state(t, []Object{memif()}), state(t, []Object{changed})
		plan := Diff(have, want)
		if len(plan) != 2 || plan[0].Verb != Delete || plan[1].Verb != Create {
			t.Errorf("another %s leads to the plan\n%s", name, plan)
		}
		again, err := ParseState(want.String())
		if err != nil || !again.Equal(want) {
			t.Errorf("another %s is read back as\n%s, %v", name, again, err)
		}
	}
	other := memif()
	other.MTU = 9000
	if plan := Diff(state(t, []Object{memif()}), state(t, []Object{other})); len(plan) != 1 || plan[0].Verb != Update {
		t.Errorf("another MTU leads to the plan\n%s", plan)
	}
}

// TestMemifSecretIsKnownByItsDigest: what a machine shows of a secret is as good as the
// secret itself for comparing, and nothing that is printed holds it.
func TestMemifSecretIsKnownByItsDigest(t *testing.T) {
	i := memif()
	seen := i
	seen.Device = i.Device.sealed()
	have, want := state(t, []Object{seen}), state(t, []Object{i})
	if plan := Diff(have, want); len(plan) != 0 || !have.Equal(want) {
		t.Errorf("nothing to do, and yet:\n%s", plan)
	}
	text := want.String() + Diff(State{}, want).String() + fmt.Sprintf("%v %+v %s", i, Diff(State{}, want), i.Device)
	if strings.Contains(text, password) {
		t.Errorf("the secret stands in\n%s", text)
	}
}

func TestMemifCheck(t *testing.T) {
	tests := []struct {
		change func(*Memif)
		want   string
	}{
		{func(d *Memif) { d.Netns = "netns" }, "want an absolute path"},
		{func(d *Memif) { d.Netns = "/run/my netns" }, "only letters, digits"},
		{func(d *Memif) { d.Netns = "/" + strings.Repeat("x", 62) }, "1 bytes too long"},
		{func(d *Memif) { d.Socket = "memif0" }, "want millrace/NAME"},
		{func(d *Memif) { d.Socket = "millrace/" }, "want millrace/NAME"},
		{func(d *Memif) { d.Socket = "millrace/a,b" }, "only letters, digits"},
		{func(d *Memif) { d.Socket = "millrace/\x00" }, "only letters, digits"},
		{func(d *Memif) { d.RxQueues = 0 }, "want 1 to 255"},
		{func(d *Memif) { d.TxQueues = 0 }, "want 1 to 255"},
		{func(d *Memif) { d.RingSize = 1 }, "want a power of two"},
		{func(d *Memif) { d.RingSize = 1000 }, "want a power of two"},
		{func(d *Memif) { d.RingSize = 65536 }, "want a power of two"},
		{func(d *Memif) { d.BufferSize = 63 }, "want 64 to 65535"},
		{func(d *Memif) { d.Secret = secret.New(strings.Repeat("x", 24), secret.Salt{}) }, "secret of 24 bytes"},
		{func(d *Memif) { d.Secret = secret.New("a\x00b", secret.Salt{}) }, "none of them zero"},
		{func(d *Memif) { d.Mode = 2 }, "mode-2: want ethernet or ip"},
		{func(d *Memif) { d.Mode = MemifIP }, "in ip mode there is none"},
		{func(d *Memif) { d.MAC = MAC{} }, "want a unicast address"},
		{func(d *Memif) { d.MAC = MAC{1} }, "want a unicast address"},
	}
	for _, tt := range tests {
		i := memif()
		d := i.Device.(Memif)
		d.Socket = "millrace/0123456789abcde" // the longest name a pod may give
		tt.change(&d)
		i.Device = d
		if err := Check(i); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", i, err, tt.want)
		}
	}
	long := memif()
	long.Name = "pod/" + strings.Repeat("x", 34)
	if err := Check(long); err != nil {
		t.Error(err)
	}
	long.Name += "x"
	if err := Check(long); err == nil || !strings.Contains(err.Error(), "want at most 38") {
		t.Errorf("a name of 39 bytes: error %v", err)
	}
}
