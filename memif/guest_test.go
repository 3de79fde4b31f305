package memif_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/memif"
	"golang.org/x/sys/unix"
)

// host is an interface under test with its socket, in either role.
type host struct {
	*memif.Interface
	socket *memif.Socket
	path   string
}

// newHost runs an interface under test until the test ends.
func newHost(t testing.TB, role memif.Role, handshake time.Duration, c memif.Config) host {
	t.Helper()
	path := filepath.Join(t.TempDir(), "memif.sock")
	s, err := memif.NewSocket(memif.SocketConfig{Role: role, Address: path, Retry: time.Millisecond, Handshake: handshake})
	if err != nil {
		t.Fatal(err)
	}
	h := host{add(t, s, c), s, path}
	run(t, s)
	return h
}

// until polls for what happens soon.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(200 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

// endedBy waits until the link is down because of an error of one of the kinds.
func (h host) endedBy(t testing.TB, kinds ...memif.Kind) {
	t.Helper()
	var last memif.Status
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(200 * time.Microsecond) {
		last = h.Status()
		if e, ok := errors.AsType[*memif.Error](last.Err); ok && !last.Up && slices.Contains(kinds, e.Kind) {
			return
		}
	}
	t.Fatalf("status %+v: want an end of kind %v", last, kinds)
}

// step is a message to send.
type step struct {
	msg []byte
	fds []int
}

// guest is a raw client. steps is what lets it in; tests change them.
type guest struct {
	wire
	steps    []step
	file     int // memory
	mem      []byte
	up, down rawRing // S2M and M2S
	upEvent  int
	downEvt  int
}

// Steps of a guest.
const (
	stepInit = iota
	stepRegion
	stepUp
	stepDown
	stepConnect
)

// The guest's region: two rings of 8, then 8 buffers of 2048 for each.
const (
	guestLog2    = 3
	guestRing    = 1 << guestLog2
	guestRoom    = 2048
	guestDownAt  = 512
	guestBuffers = 4096
	guestBytes   = guestBuffers + 2*guestRing*guestRoom
)

const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

func newGuest(t testing.TB, seals int) *guest {
	t.Helper()
	g := &guest{file: memoryFile(t, guestBytes, seals), upEvent: eventFile(t), downEvt: eventFile(t)}
	g.mem = mapFile(t, g.file, guestBytes)
	g.up = rawRing{g.mem, guestRing}
	g.down = rawRing{g.mem[guestDownAt:], guestRing}
	g.up.setCookie(rawCookie)
	g.down.setCookie(rawCookie)
	for i := range guestRing {
		g.up.setDesc(i, rawDesc{offset: uint32(guestBuffers + i*guestRoom)})
		g.down.setDesc(i, rawDesc{length: guestRoom, offset: uint32(guestBuffers + (guestRing+i)*guestRoom)})
	}
	g.steps = []step{
		{rawInit(0, 0, ""), nil},
		{rawAddRegion(0, guestBytes), []int{g.file}},
		{rawAddRing(true, 0, 0, 0, guestLog2), []int{g.upEvent}},
		{rawAddRing(false, 0, 0, guestDownAt, guestLog2), []int{g.downEvt}},
		{rawConnect(), nil},
	}
	return g
}

// answer is what the other side said last: the type of its message, rawNone for the end of
// the socket, and the text of a DISCONNECT.
type answer struct {
	kind   int
	reason string
}

func (w wire) answer() (answer, error) {
	m, fds, err := w.receive()
	switch {
	case errors.Is(err, net.ErrClosed):
		return answer{}, nil
	case err != nil:
		return answer{}, err
	case len(fds) > 0:
		return answer{}, fmt.Errorf("message of type %d brings %d descriptors", m.kind(), len(fds))
	case m.kind() == rawTypeDisconnect:
		return answer{m.kind(), m.reason()}, nil
	}
	return answer{kind: m.kind()}, nil
}

// say sends the steps one after the other and reads the answer to each, until one is not ACK.
func (w wire) say(steps ...step) (answer, error) {
	var a answer
	for i, s := range steps {
		if err := w.send(s.msg, s.fds...); err != nil && !errors.Is(err, unix.EPIPE) {
			return a, fmt.Errorf("step %d: %w", i, err)
		}
		var err error
		if a, err = w.answer(); err != nil {
			return a, fmt.Errorf("step %d: %w", i, err)
		}
		if a.kind != rawTypeAck {
			return a, nil
		}
	}
	return a, nil
}

// dial connects and reads the HELLO. The socket is closed with the test.
func (g *guest) dial(t testing.TB, path string) {
	t.Helper()
	w, err := dialRaw(path)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, w.fd)
	g.wire = w
	if a, err := w.answer(); err != nil || a.kind != rawTypeHello {
		t.Fatalf("the server begins with %+v, %v; want HELLO", a, err)
	}
}

// enter connects and says all steps.
func (g *guest) enter(t testing.TB, path string) answer {
	t.Helper()
	g.dial(t, path)
	a, err := g.say(g.steps...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// admitted is a guest whose link is up. A link of before may take a moment to be gone, and
// on a busy machine the guest itself can be late.
func (h host) admitted(t testing.TB, seals int) *guest {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Microsecond) {
		g := newGuest(t, seals)
		a := g.enter(t, h.path)
		switch {
		case a.kind == rawTypeConnected:
			until(t, "link up", func() bool { return h.Status().Up })
			return g
		case time.Now().After(end) || a.reason != "Already connected" && a.reason != "the peer did not answer in time":
			t.Fatalf("a good client was answered %+v", a)
		}
	}
}

// offer has all M2S buffers empty and offered.
func (g *guest) offer() { g.down.setHead(g.down.tail() + guestRing) }

// put makes one frame of S2M ready and signals it.
func (g *guest) put(b []byte) error {
	head := g.up.head()
	d := g.up.desc(int(head))
	d.offset = uint32(guestBuffers + int(head%guestRing)*guestRoom)
	d.length, d.region, d.flags = uint32(copy(g.mem[d.offset:][:guestRoom], b)), 0, 0
	g.up.setDesc(int(head), d)
	g.up.setHead(head + 1)
	_, err := unix.Write(g.upEvent, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	return err
}

// welcomes checks that the server under test still serves a client that behaves.
func (h host) welcomes(t *testing.T) {
	t.Helper()
	t.Run("then a good client", func(t *testing.T) {
		g := h.admitted(t, seals)
		g.offer()
		sent := frame(1, 700)
		if err := g.put(sent); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, h.RxQueue(0), 1); !bytes.Equal(got[0], sent) {
			t.Errorf("a good client's frame came as %d bytes, %x …", len(got[0]), got[0][:4])
		}
		if err := sendAll(h.TxQueue(0), [][]byte{sent}); err != nil {
			t.Fatal(err)
		}
		until(t, "frame for a good client", func() bool { return g.down.tail() == 1 })
		d := g.down.desc(0)
		if got := g.mem[d.offset:][:d.length]; !bytes.Equal(got, sent) {
			t.Errorf("a good client received %d bytes", len(got))
		}
	})
}
