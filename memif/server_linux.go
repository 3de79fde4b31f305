package memif

import (
	"context"
	"crypto/subtle"
	"errors"
	"net"
	"time"
)

// accept serves connections until ctx ends.
func (s *Socket) accept(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.listener.Close() })
	defer stop()
	hall := newLobby(maxPending)
	for {
		sock, err := s.listener.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = sock.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fail(System, "accept on %s: %w", s.config.Address, err)
		case err != nil:
			// No descriptors or no memory: it may pass.
			select {
			case <-ctx.Done():
			case <-time.After(s.config.Retry):
			}
			continue
		}
		c := newControl(sock)
		if c.offer() != nil {
			_ = sock.Close() // it has left
			continue
		}
		hall.enter(c)
		s.work.Go(func() { s.serve(ctx, c, hall) })
	}
}

// offer says HELLO, which a new socket takes without waiting.
func (c *control) offer() error {
	return c.send(hello{
		name: "millrace", minVersion: versionTwo, maxVersion: versionTwo,
		maxRegion: maxRegions - 1, maxM2SRing: MaxQueues - 1, maxS2MRing: MaxQueues - 1, maxLog2RingSize: maxLogRing,
	}.encode(), -1)
}

// serve is one connection from HELLO to its end. It leaves the hall once the peer has said
// who it is, or has left.
func (s *Socket) serve(ctx context.Context, c *control, hall *lobby) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer c.sock.Close()
	defer context.AfterFunc(ctx, func() { c.interrupt(endOf(ctx)) })()
	p := &passive{socket: s, control: c, stop: cancel, spare: -1}
	err := p.greet()
	hall.leave(c)
	if err == nil {
		err = p.establish()
	}
	if p.up {
		err = c.hold(ctx, p.of, p.link)
	} else if p.of != nil {
		p.of.report(func(s *Status) { s.Err = err })
	}
	c.farewell(err)
	p.close()
}

// endOf is why this side ends a connection.
func endOf(ctx context.Context) error {
	if e, ok := errors.AsType[*Error](context.Cause(ctx)); ok {
		return e
	}
	return fail(Ended, "this side has ended")
}

// passive is a server's half of a connection.
type passive struct {
	socket  *Socket
	control *control
	stop    context.CancelCauseFunc

	of      *Interface
	release func()
	peer    string
	link    *link
	up      bool
	mapped  int64
	spare   int // descriptor of the message at hand, -1 once it is used or known
}

// greet learns which interface the peer wants.
func (p *passive) greet() error {
	if err := p.control.deadline(time.Now().Add(p.socket.config.Handshake)); err != nil {
		return err
	}
	m, err := p.control.receive()
	switch {
	case err != nil:
		return err
	case m.kind() == typeDisconnect:
		return refusal(m)
	case m.kind() != typeInit:
		return unexpected(m)
	}
	return p.admit(m.initiation())
}

// admit checks an INIT.
func (p *passive) admit(i initiation) error {
	of := p.socket.find(i.id)
	if of == nil {
		return fail(Protocol, "ID %d not found", i.id)
	}
	if err := of.config.admits(i); err != nil {
		of.turnedAway(err)
		return err
	}
	release, ok := of.take(p.stop)
	if !ok {
		return fail(Protocol, "Already connected")
	}
	p.of, p.release, p.peer = of, release, i.name
	p.link = newLink(p.control.interrupt)
	return p.control.send(newMessage(typeAck), -1)
}

// admits says why a client must stay outside. The texts are those of DPDK's server where it
// has some.
func (c *Config) admits(i initiation) error {
	var want [24]byte
	copy(want[:], c.Secret)
	switch {
	case i.version != versionTwo:
		return fail(Protocol, "Incompatible memif version %#x", i.version)
	case i.mode != c.Mode:
		return fail(Protocol, "Mode mismatch: this interface is %s", c.Mode)
	case c.Secret == "":
		return nil
	case i.secret == [24]byte{}:
		return fail(Protocol, "Secret required")
	case subtle.ConstantTimeCompare(want[:], i.secret[:]) != 1:
		return fail(Protocol, "Incorrect secret")
	}
	return nil
}

// next reads a message and keeps its descriptor until it is used or the next one comes.
func (p *passive) next() (*message, error) {
	p.socket.discard(p.spare)
	m, fd, err := p.control.receiveFD()
	p.spare = fd
	if err == nil && m.kind() == typeDisconnect {
		return nil, refusal(m)
	}
	return m, err
}

// establish takes regions and rings until CONNECT, and brings the link up.
func (p *passive) establish() error {
	for {
		m, err := p.next()
		if err != nil {
			return err
		}
		switch m.kind() {
		case typeAddRegion:
			err = p.addRegion(m.addRegion())
		case typeAddRing:
			err = p.addRing(m.addRing())
		case typeConnect:
			return p.connect(m.ifName())
		default:
			err = unexpected(m)
		}
		if err == nil {
			err = p.control.send(newMessage(typeAck), -1)
		}
		if err != nil {
			return err
		}
	}
}

func (p *passive) addRegion(a addRegion) error {
	switch {
	case len(p.link.rx)+len(p.link.tx) > 0:
		return fail(Protocol, "ADD_REGION after ADD_RING")
	case int(a.index) != len(p.link.regions) || a.index >= maxRegions:
		return fail(Protocol, "Invalid region index %d: want %d", a.index, len(p.link.regions))
	case p.spare < 0:
		return fail(Protocol, "Missing region fd")
	}
	r, err := mapRegion(p.spare, a.size, p.of.config.MaxMemory-p.mapped)
	if err != nil {
		return err
	}
	closeFD(p.spare)
	p.spare = -1
	p.mapped += int64(len(r.mem))
	p.link.addRegion(r)
	return nil
}

func (p *passive) addRing(a addRing) error {
	list := &p.link.tx // M2S: we are the one who sends
	if a.s2m {
		list = &p.link.rx
	}
	switch {
	case int(a.index) != len(*list) || a.index >= MaxQueues:
		return fail(Protocol, "Invalid ring index %d: want %d", a.index, len(*list))
	case p.spare < 0:
		return fail(Protocol, "Missing ring fd")
	case int(a.region) >= len(p.link.regions):
		return fail(Protocol, "Ring in region %d, which does not exist", a.region)
	case a.log2Size < 1 || a.log2Size > maxLogRing:
		return fail(Protocol, "Invalid ring size 2^%d: want 2^1 to 2^%d", a.log2Size, maxLogRing)
	case a.privateHeaderSize != 0:
		return fail(Protocol, "Private header of %d bytes: want none", a.privateHeaderSize)
	case a.offset%descBytes != 0:
		return fail(Protocol, "Ring at offset %d: want a multiple of %d", a.offset, descBytes)
	}
	region := &p.link.regions[a.region]
	if uint64(a.offset)+uint64(ringBytes(a.log2Size)) > uint64(len(region.mem)) {
		return fail(Protocol, "Ring at offset %d ends outside its region of %d bytes", a.offset, len(region.mem))
	}
	if err := checkEventFD(p.spare); err != nil {
		return err
	}
	r := &ring{event: p.spare}
	p.spare = -1
	r.place(memoryOf(*region), a.offset, a.log2Size)
	*list = append(*list, r)
	return nil
}

// connect brings the link up. A signal that the peer sends before the queues watch for it
// is not lost: the eventfd stays readable.
func (p *passive) connect(peerIfName string) error {
	memory := p.link.memory()
	for _, list := range [][]*ring{p.link.rx, p.link.tx} {
		for _, r := range list {
			r.memory = memory
			if err := guarded(r.check); err != nil {
				return err
			}
		}
	}
	if err := p.control.deadline(time.Time{}); err != nil {
		return err
	}
	if err := p.control.send(encodeConnect(typeConnected, p.of.config.Name), -1); err != nil {
		return err
	}
	if err := p.of.up(p.link, p.peer, peerIfName); err != nil {
		return err
	}
	p.up = true
	return nil
}

// close frees what the connection holds.
func (p *passive) close() {
	p.socket.discard(p.spare)
	if p.of == nil {
		return
	}
	if err := p.link.leave(); err != nil {
		p.of.set(func(s *Status) { s.Err = errors.Join(s.Err, err) })
	}
	p.release()
}

// discard closes a descriptor that the peer sent and that was not what it should be. It can
// be anything, and closing a file whose file system the peer itself serves waits for the
// peer: such a close must not hold up a connection's end. They are few, so that their
// threads are: with more the peer holds up its own connection only.
func (s *Socket) discard(fd int) {
	if fd < 0 {
		return
	}
	select {
	case s.discards <- struct{}{}:
		go func() { // not waited for: it ends when the peer lets it
			closeFD(fd)
			<-s.discards
		}()
	default:
		closeFD(fd)
	}
}

func unexpected(m *message) error { return fail(Protocol, "Unexpected message %s", m.kind()) }

// refusal is the error of a DISCONNECT.
func refusal(m *message) error {
	d := m.disconnect()
	return fail(Refused, "the peer disconnected: %q (code %d)", d.reason, d.code)
}

// hold waits for the end of an established link and takes it down. Meanwhile the peer has
// nothing to say but DISCONNECT.
func (c *control) hold(ctx context.Context, of *Interface, l *link) error {
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		of.watch.run(ctx, c.interrupt)
	}()
	m, err := c.receive()
	if err == nil {
		if err = unexpected(m); m.kind() == typeDisconnect {
			err = refusal(m)
		}
	}
	of.vacate(l)
	cancel()
	<-watched
	of.down(l, err)
	return err
}

// farewell tells the peer why, unless it has left itself.
func (c *control) farewell(err error) {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Kind == Refused {
		return
	}
	// A peer that is gone need not be told.
	_ = c.send(disconnect{reason: e.Err.Error()}.encode(), -1)
}
