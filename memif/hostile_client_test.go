package memif_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/memif"
)

// TestHostileReplies has a server say each message in place of each of its own, and lengths
// and descriptors that do not belong there.
func TestHostileReplies(t *testing.T) {
	leaksNothing(t)
	h, k := newGoer(t, 0, clientConfig())
	says := func(n int, name, want string, kind memif.Kind, say ...step) {
		t.Run(fmt.Sprintf("%s as reply %d", name, n), func(t *testing.T) {
			s := k.serve(t, map[int][]step{n: say})
			switch a, err := s.last(); {
			case err != nil:
				t.Error(err)
			case want != "" && (a.kind != rawTypeDisconnect || !strings.Contains(a.reason, want)):
				t.Errorf("the client says at last %+v; want DISCONNECT with %q", a, want)
			case want == "" && a.kind == rawTypeDisconnect:
				t.Errorf("the client says %+v to a server that is gone", a)
			}
			h.endedBy(t, kind)
		})
	}
	for n := range replies {
		for kind := range uint16(12) {
			m := newRaw(kind)
			switch {
			case int(kind) == normal(n).kind():
			case kind == rawTypeDisconnect:
				says(n, "DISCONNECT", "", memif.Refused, step{rawDisconnect(7, "\x1b[2J\xff\n\x00behind"), nil})
				if text := h.Status().Err.Error(); strings.ContainsAny(text, "\x1b\n") || !utf8.ValidString(text) || strings.Contains(text, "behind") {
					t.Errorf("the peer's text came through as %q", text)
				}
			default:
				says(n, fmt.Sprintf("type %d", kind), "Unexpected message", memif.Protocol, step{m, nil})
			}
		}
		says(n, "type 65535", "Unexpected message", memif.Protocol, step{newRaw(65535), nil})
		for _, size := range []int{1, 2, 127, 129, 4096, 65536} {
			says(n, fmt.Sprintf("%d bytes", size), "a message of", memif.Protocol, step{make([]byte, size), nil})
		}
		m := normal(n)
		says(n, "two of it", "Unexpected message", memif.Protocol, step{m, nil}, step{rawHello(), nil})
	}
	h.goes(t, k)
}

// TestHostileHello has a server offer limits that nothing fits in.
func TestHostileHello(t *testing.T) {
	leaksNothing(t)
	c := clientConfig()
	c.RxQueues, c.TxQueues = 3, 2
	h, k := newGoer(t, 0, c)
	for name, m := range map[string]rawMessage{
		"version 1":        rawHello().u16(34, 0x0100).u16(36, 0x0100),
		"version 2.1 on":   rawHello().u16(34, 0x0201).u16(36, 0xffff),
		"versions swapped": rawHello().u16(34, 0xffff).u16(36, 0),
		"rings of 2^0":     rawHello().u8(44, 0),
		"all zeros":        newRaw(rawTypeHello),
	} {
		t.Run(name, func(t *testing.T) {
			s := k.serve(t, map[int][]step{replyHello: {{m, nil}}})
			if a, err := s.last(); err != nil || a.kind != rawTypeDisconnect {
				t.Errorf("the client says at last %+v, %v", a, err)
			}
			h.endedBy(t, memif.Protocol)
		})
	}
	t.Run("the least", func(t *testing.T) {
		s := k.accept(t)
		m := rawHello().u16(38, 0).u16(40, 0).u16(42, 0).u8(44, 1)
		if err := s.send(m); err != nil {
			t.Fatal(err)
		}
		for n := replyInit; n < replies; n++ {
			got, fds, err := s.receive()
			if err != nil {
				t.Fatal(err)
			}
			if err := s.take(t, got, fds); err != nil {
				t.Fatal(err)
			}
			if err := s.send(normal(n)); err != nil {
				t.Fatal(err)
			}
		}
		until(t, "link up", func() bool { return h.Status().Up })
		if st := h.Status(); st.RxRings != 1 || st.TxRings != 1 || st.RingSize != 2 || s.up[0].size != 2 || s.down[0].size != 2 {
			t.Errorf("status %+v, rings of %d and %d; want one each way of 2", st, s.up[0].size, s.down[0].size)
		}
	})
}

// TestHostileFiles has a server pass descriptors: the client takes none.
func TestHostileFiles(t *testing.T) {
	leaksNothing(t)
	h, k := newGoer(t, 0, clientConfig())
	fd := eventFile(t)
	for n := range replies {
		before := holdingsNow(t)
		s := k.serve(t, map[int][]step{n: {{normal(n), times(fd, 253)}}})
		if n == replyConnected {
			until(t, "link up", func() bool { return h.Status().Up })
		} else { // the client goes on
			m, fds, err := s.receive()
			if err != nil {
				t.Fatal(err)
			}
			if err := s.take(t, m, fds); err != nil {
				t.Error(err)
			}
		}
		if now := holdingsNow(t); now.files["anon_inode:[eventfd]"] > before.files["anon_inode:[eventfd]"]+8 {
			t.Errorf("reply %d: the client holds %d eventfds, %d before", n, now.files["anon_inode:[eventfd]"], before.files["anon_inode:[eventfd]"])
		}
		s.leave(t)
	}
	h.goes(t, k)
}

// TestHostileEnds has a server close, half and wholly, before each reply and after all.
func TestHostileEnds(t *testing.T) {
	leaksNothing(t)
	h, k := newGoer(t, 0, clientConfig())
	for n := range replies {
		for _, way := range []string{"closes", "writes no more"} {
			t.Run(fmt.Sprintf("%s before reply %d", way, n), func(t *testing.T) {
				h.seesEnd(t, k.serve(t, map[int][]step{n: nil}).wire, way)
			})
		}
	}
	for _, way := range []string{"closes", "writes no more"} {
		t.Run(way+" with the link up", func(t *testing.T) { h.seesEnd(t, h.joined(t, k).wire, way) })
	}
	h.goes(t, k)
}

// TestHostileDelays has a server fall silent before each reply.
func TestHostileDelays(t *testing.T) {
	leaksNothing(t)
	h, k := newGoer(t, 100*time.Millisecond, clientConfig())
	for n := range replies {
		for _, way := range []string{"reads no more", "is silent"} {
			t.Run(fmt.Sprintf("%s before reply %d", way, n), func(t *testing.T) {
				h.seesEnd(t, k.serve(t, map[int][]step{n: nil}).wire, way)
			})
		}
	}
	h.goes(t, k)
}
