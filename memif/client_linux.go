package memif

import (
	"context"
	"errors"
	"math/bits"
	"time"

	"golang.org/x/sys/unix"
)

// connect keeps one client interface connected until ctx or the interface ends.
func (s *Socket) connect(ctx context.Context, i *Interface) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	release, ok := i.take(cancel)
	if !ok {
		return
	}
	defer release()
	for gone := time.Now(); ctx.Err() == nil; {
		begun := time.Now()
		met, err := s.once(ctx, i)
		if ctx.Err() != nil {
			return
		}
		pause := s.config.Retry
		if met && time.Since(begun) > pause { // a link that was
			met, gone = false, time.Now()
		}
		if !met { // one that refused us is not pressed
			pause = min(pause, max(shortestRetry, time.Since(gone)/retryShare))
		}
		if last, _ := errors.AsType[*Error](err); last != nil && last.Error() != errorText(i.Status().Err) {
			i.report(func(s *Status) { s.Err = err })
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// A peer that is gone, most likely to come back at once, is looked for after a share of
// the time that it has been gone: then looking adds at most that to an outage.
const (
	shortestRetry = 5 * time.Millisecond
	retryShare    = 16
)

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// once is one connection, from dialling to its end. It says whether it met a peer.
func (s *Socket) once(ctx context.Context, i *Interface) (met bool, err error) {
	sock, err := dial(s.config)
	if err != nil {
		return false, err
	}
	return true, s.attend(ctx, i, newControl(sock))
}

// attend is one connection from HELLO to its end.
func (s *Socket) attend(ctx context.Context, i *Interface, c *control) error {
	defer c.sock.Close()
	defer context.AfterFunc(ctx, func() { c.interrupt(endOf(ctx)) })()
	a := &active{socket: s, control: c, of: i}
	err := a.establish()
	if a.up {
		err = c.hold(ctx, i, a.link)
	}
	c.farewell(err)
	if a.link != nil {
		err = errors.Join(err, a.link.leave())
	}
	return err
}

// active is a client's half of a connection.
type active struct {
	socket  *Socket
	control *control
	of      *Interface
	peer    string
	link    *link
	layout  layout
	up      bool
}

func (a *active) establish() error {
	if err := a.control.deadline(time.Now().Add(a.socket.config.Handshake)); err != nil {
		return err
	}
	m, err := a.next(typeHello)
	if err != nil {
		return err
	}
	offer := m.hello()
	if offer.minVersion > versionTwo || offer.maxVersion < versionTwo {
		return fail(Protocol, "Incompatible memif version: the server speaks %#x to %#x", offer.minVersion, offer.maxVersion)
	}
	a.peer = offer.name
	if err := a.makeMemory(offer); err != nil {
		return err
	}
	if err := a.introduce(); err != nil {
		return err
	}
	if err := a.addAll(); err != nil {
		return err
	}
	if err := a.control.send(encodeConnect(typeConnect, a.of.config.Name), -1); err != nil {
		return err
	}
	if m, err = a.next(typeConnected); err != nil {
		return err
	}
	return a.start(m.ifName())
}

// next reads one message of the expected kind.
func (a *active) next(want messageType) (*message, error) {
	m, err := a.control.receive()
	switch {
	case err != nil:
		return nil, err
	case m.kind() == typeDisconnect:
		return nil, refusal(m)
	case m.kind() != want:
		return nil, unexpected(m)
	}
	return m, nil
}

// request sends a message and waits for its ACK, which is a C server's only clock.
func (a *active) request(m *message, fd int) error {
	if err := a.control.send(m, fd); err != nil {
		return err
	}
	_, err := a.next(typeAck)
	return err
}

func (a *active) introduce() error {
	c := &a.of.config
	i := initiation{version: versionTwo, id: c.ID, mode: c.Mode, name: c.Name}
	copy(i.secret[:], c.Secret)
	return a.request(i.encode(), -1)
}

// makeMemory makes regions and rings within the server's limits.
func (a *active) makeMemory(offer hello) error {
	c := &a.of.config
	s2m := min(c.TxQueues, int(offer.maxS2MRing)+1)
	m2s := min(c.RxQueues, int(offer.maxM2SRing)+1)
	log2 := min(uint8(bits.TrailingZeros(uint(c.RingSize))), offer.maxLog2RingSize)
	if log2 < 1 {
		return fail(Protocol, "the server allows rings of 2^%d descriptors", offer.maxLog2RingSize)
	}
	var err error
	if a.layout, err = newLayout(s2m, m2s, log2, c.BufferSize); err != nil {
		return err
	}
	if len(a.layout.regions) > int(offer.maxRegion)+1 {
		return badConfig("%d regions of memory: the server allows %d; want fewer queues, smaller rings or buffers",
			len(a.layout.regions), int(offer.maxRegion)+1)
	}
	a.link = newLink(a.control.interrupt)
	for _, n := range a.layout.regions {
		r, err := newRegion(n)
		if err != nil {
			return err
		}
		a.link.addRegion(r)
	}
	if a.link.tx, err = a.makeRings(a.layout.s2m); err != nil {
		return err
	}
	a.link.rx, err = a.makeRings(a.layout.m2s)
	return err
}

func (a *active) makeRings(places []ringPlace) ([]*ring, error) {
	var list []*ring
	memory := a.link.memory()
	for _, p := range places {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err != nil {
			return list, fail(System, "make eventfd: %w", err)
		}
		r := &ring{event: fd, client: true, memory: memory}
		r.place(memory[0], uint32(p.offset), p.log2)
		r.setBuffers(memory[p.bufferRegion], p)
		r.format()
		list = append(list, r)
	}
	return list, nil
}

// addAll tells the server of regions and rings, and keeps no descriptor of a region.
func (a *active) addAll() error {
	for n := range a.link.regions {
		r := &a.link.regions[n]
		if err := a.request(addRegion{index: uint16(n), size: uint64(len(r.mem))}.encode(), r.fd); err != nil {
			return err
		}
		closeFD(r.fd)
		r.fd = -1
	}
	for _, list := range []struct {
		s2m    bool
		rings  []*ring
		places []ringPlace
	}{{true, a.link.tx, a.layout.s2m}, {false, a.link.rx, a.layout.m2s}} {
		for n, r := range list.rings {
			m := addRing{s2m: list.s2m, index: uint16(n), offset: uint32(list.places[n].offset), log2Size: list.places[n].log2}
			if err := a.request(m.encode(), r.event); err != nil {
				return err
			}
		}
	}
	return nil
}

// start brings the link up. Empty buffers are offered only now: DPDK and libmemif servers
// clear the indices of every ring before they answer CONNECTED.
func (a *active) start(peerIfName string) error {
	if err := a.control.deadline(time.Time{}); err != nil {
		return err
	}
	for _, r := range a.link.rx {
		r.publish(uint16(r.size))
	}
	if err := a.of.up(a.link, a.peer, peerIfName); err != nil {
		return err
	}
	a.up = true
	return nil
}
