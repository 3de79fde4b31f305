package memif_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/memif"
	"golang.org/x/sys/unix"
)

// TestHostileInit has clients say wrongly who they are.
func TestHostileInit(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{Secret: "opensesame"})
	says := func(m rawMessage) func(*testing.T, *guest) {
		return func(_ *testing.T, g *guest) { g.steps[stepInit].msg = m }
	}
	h.hearsOnly(t, []lie{
		{"version 0", says(rawInit(0, 0, "opensesame").u16(2, 0)), "Incompatible memif version 0x0", 0},
		{"version 1.0", says(rawInit(0, 0, "opensesame").u16(2, 0x100)), "Incompatible memif version", 0},
		{"version 2.1", says(rawInit(0, 0, "opensesame").u16(2, 0x201)), "Incompatible memif version", 0},
		{"id 1", says(rawInit(1, 0, "opensesame")), "ID 1 not found", 0},
		{"id 2^32-1", says(rawInit(1<<32-1, 0, "opensesame")), "ID 4294967295 not found", 0},
		{"mode ip", says(rawInit(0, 1, "opensesame")), "Mode mismatch", 0},
		{"mode punt-inject", says(rawInit(0, 2, "opensesame")), "Mode mismatch", 0},
		{"mode 255", says(rawInit(0, 255, "opensesame")), "Mode mismatch", 0},
		{"no secret", says(rawInit(0, 0, "")), "Secret required", 0},
		{"another secret", says(rawInit(0, 0, "OPENSESAME")), "Incorrect secret", 0},
		{"a part of the secret", says(rawInit(0, 0, "opensesam")), "Incorrect secret", 0},
		{"more than the secret", says(rawInit(0, 0, "opensesame!")), "Incorrect secret", 0},
		{"something behind the secret", says(rawInit(0, 0, "opensesame\x00!")), "Incorrect secret", 0},
		{"24 bytes", says(rawInit(0, 0, "opensesameopensesameopen")), "Incorrect secret", 0},
		{"zero first", says(rawInit(0, 0, "\x00opensesame")), "Incorrect secret", 0},
		{"a name that does not end", says(rawInit(0, 0, "").text(33, strings.Repeat("\xff", 95))), "Secret required", 0},
	})
	t.Run("the secret", func(t *testing.T) {
		g := newGuest(t, seals)
		g.steps[stepInit].msg = rawInit(0, 0, "opensesame").text(33, strings.Repeat("\x1b", 95))
		if a := g.enter(t, h.path); a.kind != rawTypeConnected {
			t.Fatalf("the server answers %+v", a)
		}
		until(t, "link up", func() bool { return h.Status().Up })
		if name := h.Status().PeerName; name != strings.Repeat("?", 32) {
			t.Errorf("the peer's name is %q", name)
		}
	})
}

// TestHostileSecond has a second client ask for what another has.
func TestHostileSecond(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{})
	first := h.admitted(t, seals)
	for range 3 {
		if a := newGuest(t, seals).enter(t, h.path); a.kind != rawTypeDisconnect || a.reason != "Already connected" {
			t.Errorf("a second client is answered %+v", a)
		}
	}
	if st := h.Status(); !st.Up || st.Links != 1 {
		t.Errorf("status %+v: the first client must not notice", st)
	}
	if err := unix.Shutdown(first.fd, unix.SHUT_RDWR); err != nil {
		t.Error(err)
	}
	h.welcomes(t)
}

// TestHostileLengths sends messages of every wrong length in place of each of the client's.
func TestHostileLengths(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{})
	lengths := []int{129, 130, 255, 256, 4096, 65536}
	for n := 1; n < rawBytes; n++ { // the kernel sends no empty ones
		lengths = append(lengths, n)
	}
	for n := range stepConnect + 1 {
		for _, length := range lengths {
			g := newGuest(t, seals)
			long := make([]byte, 65536)
			copy(long, g.steps[n].msg)
			g.steps[n].msg = long[:length]
			if a := g.enter(t, h.path); a.kind != rawTypeDisconnect || !strings.Contains(a.reason, "a message of") {
				t.Fatalf("message %d with %d bytes: the server answers %+v", n, length, a)
			}
			if a, err := g.answer(); err != nil || a.kind != rawNone {
				t.Fatalf("message %d with %d bytes: at last comes %+v, %v", n, length, a, err)
			}
		}
	}
	h.welcomes(t)
}

// speech is what TestHostileOrder makes sequences of: every type of message, each as right
// as it can be at its place.
type speech struct {
	g                 *guest
	regions, ups, dns uint16
	state             int // of the server, as this test understands the protocol
}

const (
	greeting = iota // waits for INIT
	building        // regions
	wiring          // rings
	up
	gone
)

// next is the next message of a type, and what the server must answer in its state.
func (s *speech) next(kind uint16) (step, int) {
	m := step{newRaw(kind), nil}
	want := rawTypeDisconnect
	switch {
	case kind == rawTypeDisconnect:
		m.msg, want = rawDisconnect(1, "bye"), rawNone
	case kind == rawTypeInit:
		m.msg = rawInit(0, 0, "")
		if s.state == greeting {
			s.state, want = building, rawTypeAck
			return m, want
		}
	case kind == rawTypeAddRegion:
		m = step{rawAddRegion(s.regions, guestBytes), []int{s.g.file}}
		if s.state == building {
			s.regions++
			return m, rawTypeAck
		}
	case kind == rawTypeAddRing:
		m = step{rawAddRing(s.ups == s.dns, min(s.ups, s.dns), 0, 0, guestLog2), []int{s.g.upEvent}}
		if s.regions > 0 && (s.state == building || s.state == wiring) {
			if s.ups == s.dns {
				s.ups++
			} else {
				s.dns++
			}
			s.state = wiring
			return m, rawTypeAck
		}
	case kind == rawTypeConnect:
		m.msg = rawConnect()
		if s.state == building || s.state == wiring {
			s.state = up
			return m, rawTypeConnected
		}
	}
	s.state = gone
	return m, want
}

// TestHostileOrder says every sequence of three types after every beginning of the good
// sequence, and compares the server's answers with an automaton of its own.
func TestHostileOrder(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{})
	g := newGuest(t, seals)
	good := []uint16{rawTypeInit, rawTypeAddRegion, rawTypeAddRing, rawTypeAddRing, rawTypeConnect}
	kinds := []uint16{0, rawTypeAck, rawTypeHello, rawTypeInit, rawTypeAddRegion, rawTypeAddRing, rawTypeConnect, rawTypeConnected, rawTypeDisconnect, 9, 65535}
	tried := 0
	for begin := range good {
		for _, a := range kinds {
			for _, b := range kinds {
				for _, c := range kinds {
					said := h.speak(t, g, append(good[:begin:begin], a, b, c))
					tried++
					if said <= begin+1 && c != kinds[len(kinds)-1] {
						break // it ended with a: whatever comes after is never said
					}
				}
			}
		}
	}
	t.Logf("%d sequences", tried)
	h.welcomes(t)
}

// speak says the types until the connection ends and returns how many it said. It begins
// again while the connection before still has the interface.
func (h host) speak(t *testing.T, g *guest, types []uint16) int {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		n, taken := h.speakOnce(t, g, types)
		if !taken {
			return n
		}
		if time.Now().After(end) {
			t.Fatal("the connection before does not end")
		}
	}
}

func (h host) speakOnce(t *testing.T, g *guest, types []uint16) (said int, taken bool) {
	t.Helper()
	w, err := dialRaw(h.path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	if a, err := w.answer(); err != nil || a.kind != rawTypeHello {
		t.Fatalf("the server begins with %+v, %v; want HELLO", a, err)
	}
	s := &speech{g: g}
	for i, kind := range types {
		m, want := s.next(kind)
		got, err := w.say(m)
		if err != nil {
			t.Fatalf("%v: message %d: %v", types, i, err)
		}
		if got.reason == "Already connected" {
			return 0, true
		}
		if got.kind != want {
			t.Fatalf("%v: message %d of type %d is answered %+v; want type %d", types, i, kind, got, want)
		}
		if s.state == gone {
			return i + 1, false
		}
	}
	return len(types), false
}

// free waits until no connection has the interface.
func (h host) free(t testing.TB) {
	t.Helper()
	until(t, "end of the connection before", func() bool {
		w, err := dialRaw(h.path)
		if err != nil {
			t.Fatal(err)
		}
		defer w.close()
		if _, err := w.answer(); err != nil {
			t.Fatal(err)
		}
		a, err := w.say(step{rawInit(h.Config().ID, uint8(h.Config().Mode), h.Config().Secret), nil})
		if err != nil {
			t.Fatal(err)
		}
		return a.kind == rawTypeAck
	})
}

// TestHostileUp says every type once the link is up.
func TestHostileUp(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{})
	for kind := range uint16(10) {
		t.Run(fmt.Sprintf("type %d", kind), func(t *testing.T) {
			g := h.admitted(t, seals)
			s := &speech{g: g, regions: 1, ups: 1, dns: 1, state: up}
			m, want := s.next(kind)
			if a, err := g.say(m); err != nil || a.kind != want {
				t.Errorf("the server answers %+v, %v; want type %d", a, err, want)
			}
			if kind == rawTypeDisconnect {
				h.endedBy(t, memif.Refused)
			} else {
				h.endedBy(t, memif.Protocol)
			}
		})
	}
	h.welcomes(t)
}

// TestHostileDepartures has a client end, in each way, after each of its messages.
func TestHostileDepartures(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{})
	for n := 1; n <= stepConnect+1; n++ {
		for _, way := range []string{"closes", "writes no more", "disconnects"} {
			t.Run(fmt.Sprintf("%s after message %d", way, n), func(t *testing.T) { h.left(t, n, way) })
		}
	}
	h.welcomes(t)
}

// TestHostileSilence has a client say nothing after each of its messages; one whose link is
// up need not.
func TestHostileSilence(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 100*time.Millisecond, memif.Config{})
	for n := 1; n <= stepConnect; n++ {
		for _, way := range []string{"reads no more", "is silent"} {
			t.Run(fmt.Sprintf("%s after message %d", way, n), func(t *testing.T) { h.left(t, n, way) })
		}
	}
	h.welcomes(t)
}

// left has a client leave after n messages.
func (h host) left(t *testing.T, n int, way string) {
	var g *guest
	until(t, "a guest that is let in", func() bool { // on a busy machine it can be late itself
		h.free(t)
		g = newGuest(t, seals)
		g.steps = g.steps[:n]
		a := g.enter(t, h.path)
		return a.kind == rawTypeAck || a.kind == rawTypeConnected
	})
	if way != "disconnects" {
		h.seesEnd(t, g.wire, way)
		return
	}
	if a, err := g.say(step{rawDisconnect(1<<32-1, "\x1b[2J\xff\n\x00behind"), nil}); err != nil || a.kind != rawNone {
		t.Errorf("DISCONNECT is answered %+v, %v", a, err)
	}
	// On a busy machine the client may be gone before its last words are read.
	h.endedBy(t, memif.Refused, memif.Ended)
	if text := h.Status().Err.Error(); strings.ContainsAny(text, "\x1b\n") || !utf8.ValidString(text) || strings.Contains(text, "behind") {
		t.Errorf("the peer's text came through as %q", text)
	}
}
