package memif_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/millrace/millrace/memif"
	"golang.org/x/sys/unix"
)

// keeper is a raw server.
type keeper struct{ fd int }

func newKeeper(t testing.TB, path string) keeper {
	t.Helper()
	fd, err := rawSocket()
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 8)); err != nil {
		t.Fatal(err)
	}
	if _, err := newWire(fd); err != nil { // patience for accept
		t.Fatal(err)
	}
	return keeper{fd}
}

// stay is a connection of the keeper's with a client, and the memory that the client brings.
type stay struct {
	wire
	mem      [][]byte
	up, down []rawRing
	upEvent  []int
	downEvt  []int
}

// accept waits for the next connection; it is closed with the test or by leave.
func (k keeper) accept(t testing.TB) *stay {
	t.Helper()
	for {
		fd, _, err := unix.Accept4(k.fd, unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			t.Fatalf("no client comes: %v", err)
		}
		w, err := newWire(fd)
		if err != nil {
			t.Fatal(err)
		}
		closeLater(t, fd)
		return &stay{wire: w}
	}
}

// serve waits for the next connection that does not end before it was served.
func (k keeper) serve(t testing.TB, instead map[int][]step) *stay {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		s := k.accept(t)
		err := s.serve(t, instead)
		if err == nil {
			return s
		}
		if time.Now().After(end) || !errors.Is(err, unix.EPIPE) && !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
	}
}

// Replies of a keeper to a client with one region and a ring each way, in their order.
const (
	replyHello = iota
	replyInit
	replyRegion
	replyUp
	replyDown
	replyConnected
	replies
)

// normal is what a good server says.
func normal(n int) rawMessage {
	switch n {
	case replyHello:
		return rawHello()
	case replyConnected:
		return rawConnected()
	}
	return rawAck()
}

// serve answers a client as instead says, or well where that has nothing. It returns when
// there is no more to say.
func (s *stay) serve(t testing.TB, instead map[int][]step) error {
	for n := range replies {
		say, other := instead[n]
		if !other {
			say = []step{{normal(n), nil}}
		}
		for _, m := range say {
			if err := s.send(m.msg, m.fds...); err != nil {
				return fmt.Errorf("reply %d: %w", n, err)
			}
		}
		if other {
			return nil
		}
		if n == replyConnected {
			break
		}
		m, fds, err := s.receive()
		if err != nil {
			return fmt.Errorf("request %d: %w", n, err)
		}
		if err := s.take(t, m, fds); err != nil {
			return fmt.Errorf("request %d: %w", n, err)
		}
	}
	return nil
}

// take keeps what a request brings.
func (s *stay) take(t testing.TB, m rawMessage, fds []int) error {
	switch kind := m.kind(); {
	case kind == rawTypeDisconnect:
		return fmt.Errorf("the client disconnects: %q", m.reason())
	case len(fds) != map[int]int{rawTypeAddRegion: 1, rawTypeAddRing: 1}[kind]:
		return fmt.Errorf("message of type %d brings %d descriptors", kind, len(fds))
	case kind == rawTypeAddRegion:
		s.mem = append(s.mem, mapFile(t, fds[0], int(le.Uint64(m[4:]))))
		return unix.Close(fds[0])
	case kind == rawTypeAddRing:
		closeLater(t, fds[0])
		r := rawRing{s.mem[le.Uint16(m[6:])][le.Uint32(m[8:]):], 1 << m[12]}
		if le.Uint16(m[2:])&1 != 0 {
			s.up, s.upEvent = append(s.up, r), append(s.upEvent, fds[0])
		} else {
			s.down, s.downEvt = append(s.down, r), append(s.downEvt, fds[0])
		}
	}
	return nil
}

// last reads on to the end of the socket and returns what came just before it.
func (s *stay) last() (answer, error) {
	var before answer
	for {
		m, fds, err := s.receive()
		for _, fd := range fds {
			err = errors.Join(err, unix.Close(fd))
		}
		if errors.Is(err, net.ErrClosed) {
			return before, nil
		}
		if err != nil {
			return before, err
		}
		before = answer{kind: m.kind()}
		if before.kind == rawTypeDisconnect {
			before.reason = m.reason()
		}
	}
}

func (s *stay) leave(t testing.TB) {
	t.Helper()
	if err := unix.Shutdown(s.fd, unix.SHUT_RDWR); err != nil && !errors.Is(err, unix.ENOTCONN) {
		t.Error(err)
	}
}

// joined is a connection with the client under test whose link is up.
func (h host) joined(t testing.TB, k keeper) *stay {
	t.Helper()
	s := k.serve(t, nil)
	until(t, "link up", func() bool { return h.Status().Up })
	until(t, "empty buffers", func() bool { return s.down[0].head() == uint16(s.down[0].size) })
	return s
}

// goes checks that the client under test still works with a server that behaves.
func (h host) goes(t *testing.T, k keeper) {
	t.Helper()
	t.Run("then to a good server", func(t *testing.T) {
		s := h.joined(t, k)
		sent := frame(2, 700)
		d := s.down[0].desc(0)
		d.length, d.flags = uint32(copy(s.mem[d.region][d.offset:][:d.length], sent)), 0
		s.down[0].setDesc(0, d)
		s.down[0].setTail(1)
		if _, err := unix.Write(s.downEvt[0], []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, h.RxQueue(0), 1); !bytes.Equal(got[0], sent) {
			t.Errorf("a good server's frame came as %d bytes", len(got[0]))
		}
		if err := sendAll(h.TxQueue(0), [][]byte{sent}); err != nil {
			t.Fatal(err)
		}
		until(t, "frame for a good server", func() bool { return s.up[0].head() == 1 })
		d = s.up[0].desc(0)
		if got := s.mem[d.region][d.offset:][:d.length]; !bytes.Equal(got, sent) {
			t.Errorf("a good server received %d bytes", len(got))
		}
		s.leave(t)
		until(t, "link down", func() bool { return !h.Status().Up })
	})
}

// clientConfig is a client with one region and rings as small as a guest's.
func clientConfig() memif.Config { return memif.Config{RingSize: guestRing, BufferSize: guestRoom} }

// newGoer is a client under test and the raw server that it goes to.
func newGoer(t testing.TB, handshake time.Duration, c memif.Config) (host, keeper) {
	t.Helper()
	h := newHost(t, memif.Client, handshake, c)
	return h, newKeeper(t, h.path)
}

// seesEnd has the raw peer end in one way and checks that the interface under test noticed.
func (h host) seesEnd(t *testing.T, w wire, way string) {
	t.Helper()
	kinds := []memif.Kind{memif.Ended}
	var err error
	switch way {
	case "closes":
		err = unix.Shutdown(w.fd, unix.SHUT_RDWR)
	case "writes no more":
		err = unix.Shutdown(w.fd, unix.SHUT_WR)
	case "reads no more": // which shows with the next message, if there is one
		err = unix.Shutdown(w.fd, unix.SHUT_RD)
		kinds = append(kinds, memif.Silent)
	case "is silent":
		kinds = []memif.Kind{memif.Silent}
	}
	if err != nil {
		t.Fatal(err)
	}
	h.endedBy(t, kinds...)
}
