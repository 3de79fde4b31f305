package policytest_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"go.fd.io/govpp/api"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_types"
	binapi "go.fd.io/govpp/binapi/memif"

	"github.com/millrace/millrace/agent/program"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/memif"
	"github.com/millrace/millrace/policy/oracle"
	"github.com/millrace/millrace/vpp"
)

// patience bounds what a broken machine costs.
const patience = 20 * time.Second

// wire is a machine whose interfaces are memifs that end in the test: one for each
// interface of a pod, and one, the last, for all the world beside.
type wire struct {
	t       *testing.T
	conn    *vpp.Conn
	program *program.Program
	ends    []*end
	have    dataplane.State // ACLs and bindings
	routes  map[netip.Addr]interface_types.InterfaceIndex
	sent    int  // packets, over all cases
	sctp    bool // the machine's ACLs see its ports
	// portless are flows of protocols without ports: what is sent against their direction
	// belongs to them.
	portless map[oracle.Flow]bool
}

// end is one interface; its name in the machine's tag is that in States.
type end struct {
	*memif.Interface
	name  string
	index interface_types.InterfaceIndex
	bufs  [][]byte
}

// newWire makes interfaces for that many pods. The machine keeps sockets in dir.
func newWire(t *testing.T, conn *vpp.Conn, dir string, pods int) *wire {
	t.Helper()
	w := &wire{t: t, conn: conn, portless: map[oracle.Flow]bool{}, routes: map[netip.Addr]interface_types.InterfaceIndex{}}
	loop := w.call(&interfaces.CreateLoopback{}).(*interfaces.CreateLoopbackReply).SwIfIndex
	w.up(loop)
	for _, text := range []string{"192.0.2.254/32", "2001:db8::fe/128"} {
		w.call(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: loop, IsAdd: true, Prefix: ip_types.AddressWithPrefix(wirePrefix(netip.MustParsePrefix(text)))})
	}
	w.call(&binapi.MemifSocketFilenameAddDelV2{IsAdd: true, SocketID: 7, SocketFilename: filepath.Join(dir, "w.sock")})
	socket, err := memif.NewSocket(memif.SocketConfig{Role: memif.Client, Address: filepath.Join(dir, "w.sock"), Retry: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for i := range pods + 1 {
		w.ends = append(w.ends, w.end(socket, uint32(i), loop))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- socket.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		errs := []error{<-done}
		for _, e := range w.ends {
			errs = append(errs, e.Close())
		}
		if err := errors.Join(errs...); err != nil {
			t.Errorf("end memifs: %v", err)
		}
	})
	w.linksUp()
	for _, text := range []string{"0.0.0.0/0", "::/0"} {
		w.route(netip.MustParsePrefix(text), w.outside().index, true)
	}
	if w.program, err = program.New(t.Context(), conn, program.Agent("test")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.program.Observe(t.Context()); err != nil { // it learns which interfaces there are
		t.Fatal(err)
	}
	return w
}

func (w *wire) outside() *end { return w.ends[len(w.ends)-1] }

func (w *wire) end(socket *memif.Socket, id uint32, loop interface_types.InterfaceIndex) *end {
	w.t.Helper()
	e := &end{name: fmt.Sprint("pod/", id)}
	e.index = w.call(&binapi.MemifCreateV2{Role: binapi.MEMIF_ROLE_API_MASTER, Mode: binapi.MEMIF_MODE_API_IP, ID: id, SocketID: 7}).(*binapi.MemifCreateV2Reply).SwIfIndex
	w.call(&interfaces.SwInterfaceTagAddDel{IsAdd: true, SwIfIndex: e.index, Tag: "millrace/" + e.name})
	w.call(&interfaces.SwInterfaceSetUnnumbered{SwIfIndex: loop, UnnumberedSwIfIndex: e.index, IsAdd: true})
	w.call(&ip.SwInterfaceIP6EnableDisable{SwIfIndex: e.index, Enable: true})
	w.up(e.index)
	var err error
	if e.Interface, err = socket.Add(memif.Config{ID: id, Mode: memif.IP, RingSize: 256, BufferSize: 256}); err != nil {
		w.t.Fatal(err)
	}
	for range 64 {
		e.bufs = append(e.bufs, make([]byte, 256))
	}
	return e
}

// linksUp waits until both sides see all links.
func (w *wire) linksUp() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	for _, e := range w.ends {
		if err := e.WaitUp(ctx); err != nil {
			w.t.Fatal(err)
		}
		for up := false; !up; time.Sleep(time.Millisecond) {
			for d, err := range vpp.Dump[interfaces.SwInterfaceDetails](ctx, w.conn, &interfaces.SwInterfaceDump{SwIfIndex: e.index}) {
				if err != nil {
					w.t.Fatal(err)
				}
				up = up || d.SwIfIndex == e.index && d.Flags&interface_types.IF_STATUS_API_FLAG_LINK_UP != 0
			}
		}
	}
}

func (w *wire) call(request api.Message) api.Message {
	w.t.Helper()
	reply, err := w.ask(request)
	if err != nil {
		w.t.Fatalf("%s: %v", request.GetMessageName(), err)
	}
	return reply
}

// ask calls by the reply's type.
func (w *wire) ask(request api.Message) (api.Message, error) {
	ctx := w.t.Context()
	switch q := request.(type) {
	case *interfaces.CreateLoopback:
		return vpp.Call[interfaces.CreateLoopbackReply](ctx, w.conn, q)
	case *interfaces.SwInterfaceSetFlags:
		return vpp.Call[interfaces.SwInterfaceSetFlagsReply](ctx, w.conn, q)
	case *interfaces.SwInterfaceAddDelAddress:
		return vpp.Call[interfaces.SwInterfaceAddDelAddressReply](ctx, w.conn, q)
	case *interfaces.SwInterfaceTagAddDel:
		return vpp.Call[interfaces.SwInterfaceTagAddDelReply](ctx, w.conn, q)
	case *interfaces.SwInterfaceSetUnnumbered:
		return vpp.Call[interfaces.SwInterfaceSetUnnumberedReply](ctx, w.conn, q)
	case *ip.SwInterfaceIP6EnableDisable:
		return vpp.Call[ip.SwInterfaceIP6EnableDisableReply](ctx, w.conn, q)
	case *ip.IPRouteAddDel:
		return vpp.Call[ip.IPRouteAddDelReply](ctx, w.conn, q)
	case *binapi.MemifSocketFilenameAddDelV2:
		return vpp.Call[binapi.MemifSocketFilenameAddDelV2Reply](ctx, w.conn, q)
	case *binapi.MemifCreateV2:
		return vpp.Call[binapi.MemifCreateV2Reply](ctx, w.conn, q)
	}
	return nil, errors.New("the test does not know its reply")
}

func (w *wire) up(index interface_types.InterfaceIndex) {
	w.t.Helper()
	w.call(&interfaces.SwInterfaceSetFlags{SwIfIndex: index, Flags: interface_types.IF_STATUS_API_FLAG_ADMIN_UP})
}

func wirePrefix(p netip.Prefix) ip_types.Prefix {
	q := ip_types.Prefix{Len: uint8(p.Bits())}
	if p.Addr().Is4() {
		q.Address = ip_types.NewAddress(p.Addr().AsSlice())
		return q
	}
	q.Address = ip_types.NewAddress(p.Addr().AsSlice())
	return q
}

func (w *wire) route(p netip.Prefix, index interface_types.InterfaceIndex, add bool) {
	w.t.Helper()
	path := wirePath(p.Addr().Is6(), uint32(index))
	w.call(&ip.IPRouteAddDel{IsAdd: add, Route: ip.IPRoute{Prefix: wirePrefix(p), NPaths: 1, Paths: path}})
}

// observed is what the machine has of ACLs and bindings.
func (w *wire) observed() dataplane.State {
	w.t.Helper()
	all, err := w.program.Observe(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return onlyACLs(all)
}

func onlyACLs(all dataplane.State) (s dataplane.State) {
	for o := range all.All() {
		if k := o.Key().Kind; k == dataplane.KindACL || k == dataplane.KindACLBinding {
			s.Put(o)
		}
	}
	return s
}

// reach makes the machine have the ACLs and bindings of want, by one plan.
func (w *wire) reach(want dataplane.State) error {
	var errs []error
	w.program.Apply(w.t.Context(), dataplane.Diff(w.have, want), nil, func(step dataplane.Step, err error) {
		if err == nil {
			w.have.Apply(step)
		}
		errs = append(errs, err)
	})
	return errors.Join(errs...)
}

// send puts packets on the wire of an end; a full ring is waited for.
func (e *end) send(packets [][]byte) error {
	for until := time.Now().Add(patience); len(packets) > 0; {
		n, err := e.TxQueue(0).Send(packets)
		if err != nil {
			return err
		}
		if packets = packets[n:]; n == 0 {
			if time.Now().After(until) {
				return errors.New("the machine takes no packet")
			}
			time.Sleep(100 * time.Microsecond)
		}
	}
	return nil
}

// receive hands the packets that have come to seen.
func (e *end) receive(seen func(packet []byte)) error {
	for {
		for i := range e.bufs {
			e.bufs[i] = e.bufs[i][:cap(e.bufs[i])]
		}
		n, err := e.RxQueue(0).Receive(e.bufs)
		if err != nil || n == 0 {
			return err
		}
		for _, b := range e.bufs[:n] {
			seen(b)
		}
	}
}

// exchange sends packets, each from the end of its number, and returns which arrived
// where, by the marks in them.
func (w *wire) exchange(packets map[int][][]byte) (map[uint32]*end, error) {
	arrived := map[uint32]*end{}
	for i, list := range packets {
		if err := w.ends[i].send(list); err != nil {
			return nil, err
		}
	}
	// What always passes comes last, twice: when the second has come from every end, all
	// before the first are through.
	for round := range uint32(2) {
		missing := map[uint32]bool{}
		for i, e := range w.ends {
			mark := 0xffff0000 | round<<15 | uint32(i)
			missing[mark] = true
			if err := e.send([][]byte{sentinel(mark)}); err != nil {
				return nil, err
			}
		}
		for until := time.Now().Add(patience); len(missing) > 0; time.Sleep(50 * time.Microsecond) {
			for _, e := range w.ends {
				if err := e.receive(func(p []byte) {
					mark := binary.BigEndian.Uint32(p[len(p)-4:])
					delete(missing, mark)
					arrived[mark] = e
				}); err != nil {
					return nil, err
				}
			}
			if time.Now().After(until) {
				return nil, fmt.Errorf("packets that always pass do not come: %v", missing)
			}
		}
	}
	return arrived, nil
}
