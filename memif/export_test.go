package memif

import (
	"context"
	"errors"
	"net"
	"os"
)

// Rig is an Interface whose links are made by a test over memory of its own, without
// sockets, files and goroutines: fast enough to fuzz what the rings do.
type Rig struct {
	*Interface
	Err  error // what ended the present link
	link *link
}

func NewRig(c Config) (*Rig, error) {
	i, err := newInterface(nil, c)
	if err != nil {
		return nil, err
	}
	return &Rig{Interface: i}, nil
}

// Place says where a ring is.
type Place struct {
	Region int
	Offset uint32
	Log2   uint8
}

// Serve is a server's link over a client's regions. Guarded is as with memory that may fault.
func (r *Rig) Serve(regions [][]byte, up, down []Place, guarded bool) {
	l := r.newLink(regions, guarded)
	memory := l.memory()
	make := func(places []Place) (list []*ring) {
		for _, p := range places {
			one := &ring{event: -1, memory: memory}
			one.place(memory[p.Region], p.Offset, p.Log2)
			list = append(list, one)
		}
		return list
	}
	l.rx, l.tx = make(up), make(down)
	r.up(l)
}

// Join is a client's link over memory of ClientBytes. It returns where its rings are.
func (r *Rig) Join(mem []byte, guarded bool) (up, down []Place) {
	a := &active{of: r.Interface, link: r.newLink([][]byte{mem}, guarded)}
	a.layout = r.layout()
	memory := a.link.memory()
	make := func(places []ringPlace) (list []*ring, at []Place) {
		for _, p := range places {
			one := &ring{event: -1, client: true, memory: memory}
			one.place(memory[0], uint32(p.offset), p.log2)
			one.setBuffers(memory[p.bufferRegion], p)
			one.format()
			list = append(list, one)
			at = append(at, Place{0, uint32(p.offset), p.log2})
		}
		return list, at
	}
	a.link.tx, up = make(a.layout.s2m)
	a.link.rx, down = make(a.layout.m2s)
	for _, one := range a.link.rx {
		one.publish(uint16(one.size))
	}
	r.up(a.link)
	return up, down
}

func (r *Rig) layout() layout {
	c := r.config
	l, err := newLayout(c.TxQueues, c.RxQueues, log2Of(c.RingSize), c.BufferSize)
	if err != nil || len(l.regions) != 1 {
		panic("a rig has one region")
	}
	return l
}

func log2Of(n int) (log2 uint8) {
	for ; n > 1; n >>= 1 {
		log2++
	}
	return log2
}

// ClientBytes is how much memory Join needs.
func (r *Rig) ClientBytes() int { return r.layout().regions[0] }

func (r *Rig) newLink(regions [][]byte, guarded bool) *link {
	r.Err = nil
	l := newLink(func(err error) {
		if r.Err == nil {
			r.Err = err
		}
	})
	for _, mem := range regions {
		l.addRegion(region{mem: mem, fd: -1, sealed: !guarded})
	}
	return l
}

// up is Interface.up without the eventfds and the report.
func (r *Rig) up(l *link) {
	for n := range l.regions {
		l.regions[n].mem = nil // the test's: not for the link to unmap
	}
	l.rxOf = make([][]*ring, len(r.rx))
	for n, one := range l.rx {
		l.rxOf[n%len(r.rx)] = append(l.rxOf[n%len(r.rx)], one)
	}
	for _, one := range l.tx {
		one.shared = len(r.tx) > len(l.tx)
	}
	r.link = l
	for _, s := range r.seats() {
		s.next.Store(l)
	}
}

// Down ends the link and has all queues leave it.
func (r *Rig) Down() error {
	r.vacate(r.link)
	var errs []error
	for _, q := range r.rx {
		q.Release(len(q.lent))
		q.SetRxMode(r.config.RxMode)
		_, err := q.Receive(nil)
		errs = append(errs, err)
	}
	for _, q := range r.tx {
		_, err := q.Send(nil)
		errs = append(errs, err)
	}
	errs = append(errs, r.link.leave())
	if n := r.link.refs.Load(); n != 0 {
		errs = append(errs, errors.New("a queue stays on the link"))
	}
	return errors.Join(errs...)
}

// Free closes what the Interface holds.
func (r *Rig) Free() error { return r.free() }

// Converse has one end of a connected socket served by s, whichever its role, and returns
// when the connection has ended.
func (s *Socket) Converse(ctx context.Context, f *os.File) error {
	conn, err := net.FileConn(f)
	if err != nil {
		return err
	}
	c := newControl(conn.(*net.UnixConn))
	if s.config.Role == Client {
		return s.attend(ctx, s.find(0), c)
	}
	if err := c.offer(); err != nil {
		return errors.Join(err, conn.Close())
	}
	hall := newLobby(1)
	hall.enter(c)
	s.serve(ctx, c, hall)
	return nil
}
