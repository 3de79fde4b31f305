package vnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.fd.io/govpp/api"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/engine/port/pipe"
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// want fails unless err is VPP's retval n.
func want(t *testing.T, what string, err error, n int) {
	t.Helper()
	var v api.VPPApiError
	if n == 0 && err == nil || errors.As(err, &v) && int(v) == n {
		return
	}
	t.Errorf("%s: %v, want retval %d", what, err, n)
}

func TestRetvals(t *testing.T) {
	r := newRig(t, 1)
	p := r.p
	a, b := r.eth("10.0.0.1/24", "fd00:a::1/64"), r.tun("10.0.1.1/24")
	loop, err := p.AddInterface(InterfaceSpec{Name: "loop0", DeviceType: "Loopback", LinkUp: true}, nil)
	r.must(err)
	ip := netip.MustParseAddr
	edit := func(table uint32, prefix string, e RouteEdit, paths ...Path) error {
		_, err := p.EditRoute(Route{Table: table, Prefix: pfx(prefix), Paths: paths}, e)
		return err
	}
	tests := []struct {
		what string
		err  error
		want int
	}{
		{"unknown interface", p.SetAdminUp(99, true), -2},
		{"admin up twice", p.SetAdminUp(a.index, true), 0},
		{"address on local0", p.AddAddress(0, pfx("10.5.0.1/24")), -126},
		{"address twice", p.AddAddress(a.index, pfx("10.0.0.1/24")), -105},
		{"overlap on another interface", p.AddAddress(b.index, pfx("10.0.0.9/16")), -105},
		{"IPv6 address twice", p.AddAddress(a.index, pfx("fd00:a::1/64")), -127},
		{"second address of the subnet", p.AddAddress(a.index, pfx("10.0.0.2/24")), 0},
		{"unknown address", p.DelAddress(a.index, pfx("10.0.0.77/24")), -60},
		{"link-local not /128", p.AddAddress(a.index, pfx("fe80::1/64")), -59},
		{"link-local", p.AddAddress(a.index, pfx("fe80::1/128")), 0},
		{"delete the link-local", p.DelAddress(a.index, pfx("fe80::1/128")), -61},
		{"table missing", p.SetTable(b.index, IPv4, 5), -3},
		{"create table", p.AddTable(Table{ID: 5, Family: IPv4}), 0},
		{"create table again", p.AddTable(Table{ID: 5, Family: IPv4}), 0},
		{"table with an address present", p.SetTable(b.index, IPv4, 5), -114},
		{"table of the other family", p.SetTable(b.index, IPv6, 5), -3},
		{"move the loopback", p.SetTable(loop, IPv4, 5), 0},
		{"lender in another table", p.SetUnnumbered(b.index, loop, true), -74},
		{"borrower unknown", p.SetUnnumbered(99, loop, true), -2},
		{"lender unknown", p.SetUnnumbered(b.index, 99, true), -10},
		{"not unnumbered", p.SetUnnumbered(b.index, 99, false), 0},
		{"delete unknown table", p.DelTable(Table{ID: 77, Family: IPv4}), 0},
		{"flush unknown table", p.FlushTable(Table{ID: 77, Family: IPv4}), -3},
		{"delete a missing route", edit(0, "192.0.2.0/24", RouteDelete), 0},
		{"remove paths of a missing route", edit(0, "192.0.2.0/24", RouteRemovePaths, b.via("")), 0},
		{"no paths", edit(0, "192.0.2.0/24", RouteReplace), -52},
		{"no paths, multipath", edit(0, "192.0.2.0/24", RouteAddPaths), -52},
		{"remove no paths", edit(0, "192.0.2.0/24", RouteRemovePaths), -52},
		{"route in a missing table", edit(9, "192.0.2.0/24", RouteReplace, b.via("")), -3},
		{"path by a missing interface", edit(0, "192.0.2.0/24", RouteReplace, Path{Interface: 99}), -54},
		{"next hop in a missing table", edit(0, "192.0.2.0/24", RouteReplace, Path{Interface: NoIndex, Table: 9, NextHop: ip("1.1.1.1")}), -3},
		{"neighbour on a missing interface", p.AddNeighbor(Neighbor{Interface: 99, Addr: ip("10.0.0.9")}), -2},
		{"delete a missing neighbour", p.DelNeighbor(Neighbor{Interface: a.index, Addr: ip("10.0.0.9")}), -6},
		{"IPv6 on twice", p.EnableIP6(a.index, true), -81},
		{"IPv6 off where it is not on", p.EnableIP6(b.index, false), -62},
		{"link MTU of an IP link", p.SetLinkMTU(b.index, 1500), -30},
		{"link MTU too small", p.SetLinkMTU(a.index, 10), -7},
		{"MAC of an IP link", p.SetMAC(b.index, net.HardwareAddr{2, 0, 0, 0, 0, 1}), -9},
		{"promiscuous IP link", p.SetPromisc(b.index, true), -7},
		{"empty name", p.SetName(a.index, ""), -7},
		{"name taken", p.SetName(a.index, "loop0"), -2},
		{"rx mode of no queue", p.SetRxMode(loop, -1, RxPolling), -9},
		{"placement of an unknown worker", p.SetRxPlacement(a.index, 0, 7), -9},
		{"uRPF by a missing table", p.SetURPF(a.index, IPv4, true, URPFStrict, 99), -7},
		{"flow hash of a missing table", p.SetFlowHash(Table{ID: 99, Family: IPv4}, 1), -3},
		{"path MTU in a missing table", p.SetPathMTU(99, ip("1.1.1.1"), 1400), -65},
		{"delete local0", p.DeleteInterface(0), -2},
		{"delete an unknown interface", p.DeleteInterface(99), -2},
	}
	for _, tt := range tests {
		want(t, tt.what, tt.err, tt.want)
	}
}

// shape prints a table as "prefix source path...", special entries left out.
func (r *rig) shape(id uint32, f Family) []string {
	var out []string
	for x := range r.p.Routes(Table{ID: id, Family: f}) {
		if x.Source == SourceSpecial || x.Source == SourceDefaultRoute {
			continue
		}
		s := fmt.Sprintf("%v %d", x.Prefix, x.Source)
		for _, q := range x.Paths {
			nh := "-"
			if q.NextHop.IsValid() {
				nh = q.NextHop.String()
			}
			s += fmt.Sprintf(" %d:%d:%s:%d", q.Type, int32(q.Interface), nh, q.Weight)
		}
		out = append(out, s)
	}
	return out
}

func TestTableShape(t *testing.T) {
	r := newRig(t, 1)
	a := r.eth("10.0.0.1/24", "10.0.0.2/24", "10.0.1.0/31", "fd00::1/64")
	a.neighbor("10.0.0.9")
	r.route(RouteReplace, "192.0.2.7/24", a.via("10.0.0.9"))
	r.route(RouteAddPaths, "192.0.2.0/24", a.via("10.0.0.9"), a.via("10.0.0.8"))
	wantShape := []string{
		"10.0.0.0/24 4 0:1:-:1",
		"10.0.0.0/32 4 2:-1:-:1",
		"10.0.0.1/32 4 1:1:10.0.0.1:1",
		"10.0.0.2/32 4 1:1:10.0.0.2:1",
		"10.0.0.9/32 15 0:1:10.0.0.9:1",
		"10.0.0.255/32 4 2:-1:-:1",
		"10.0.1.0/31 4 0:1:-:1",
		"10.0.1.0/32 4 1:1:10.0.1.0:1",
		"10.0.1.1/32 4 0:1:10.0.1.1:1",
		"192.0.2.0/24 8 0:1:10.0.0.9:1 0:1:10.0.0.8:1",
	}
	if d := cmp.Diff(wantShape, r.shape(0, IPv4)); d != "" {
		t.Errorf("IPv4 table (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"fd00::/64 4 0:1:-:1", "fd00::1/128 4 1:1:fd00::1:1"}, r.shape(0, IPv6)); d != "" {
		t.Errorf("IPv6 table (-want +got):\n%s", d)
	}
	r.route(RouteRemovePaths, "192.0.2.0/24", a.via("10.0.0.9"))
	r.must(r.p.DelAddress(a.index, pfx("10.0.0.1/24")))
	r.must(r.p.DelAddress(a.index, pfx("10.0.1.0/31")))
	wantShape = []string{
		"10.0.0.0/24 4 0:1:-:1",
		"10.0.0.0/32 4 2:-1:-:1",
		"10.0.0.2/32 4 1:1:10.0.0.2:1",
		"10.0.0.9/32 15 0:1:10.0.0.9:1",
		"10.0.0.255/32 4 2:-1:-:1",
		"192.0.2.0/24 8 0:1:10.0.0.8:1",
	}
	if d := cmp.Diff(wantShape, r.shape(0, IPv4)); d != "" {
		t.Errorf("IPv4 table after deletions (-want +got):\n%s", d)
	}
	r.must(r.p.SetAdminUp(a.index, false))
	r.must(r.p.FlushAddresses(a.index))
	r.must(r.p.FlushNeighbors(IPv4, NoIndex))
	r.route(RouteDelete, "192.0.2.0/24")
	if s := append(r.shape(0, IPv4), r.shape(0, IPv6)...); len(s) != 0 {
		t.Errorf("left over: %v", s)
	}
}

// What is made and unmade in any order leaves nothing behind.
func TestNothingLeaks(t *testing.T) {
	r := newRig(t, 2)
	p := r.p
	sizes := func() [6]int {
		return [6]int{len(p.lists), len(p.adjs), len(p.vias), len(p.neighbors), len(p.tables[0]), p.blocks.Used()}
	}
	before := sizes()
	for range 3 {
		r.must(p.AddTable(Table{ID: 9, Family: IPv4}))
		a, b := r.eth("10.0.0.1/24", "fd00::1/64"), r.tun()
		r.must(p.SetTable(b.index, IPv4, 9))
		r.must(p.AddAddress(b.index, pfx("10.0.0.1/24")))
		a.neighbor("10.0.0.2")
		a.neighbor("fd00::2")
		a.neighbor("fe80::2")
		r.must(p.SetURPF(a.index, IPv4, true, URPFStrict, 9))
		r.must(p.SetPuntRedirect(a.index, IPv4, []Path{b.via("")}))
		r.route(RouteReplace, "192.0.2.0/24", a.via("10.0.0.2"), a.via("10.0.0.3"), Path{Interface: NoIndex, Table: 9})
		r.route(RouteReplace, "198.51.100.0/24", Path{Interface: NoIndex, NextHop: netip.MustParseAddr("192.0.2.1")})
		r.must(p.DelTable(Table{ID: 9, Family: IPv4}))
		if len(p.Tables(IPv4)) != 2 {
			t.Error("a table in use went with the API's lock")
		}
		r.must(p.DeleteInterface(a.index))
		r.must(p.DeleteInterface(b.index))
		r.route(RouteDelete, "192.0.2.0/24")
		r.route(RouteDelete, "198.51.100.0/24")
		if after := sizes(); after != before {
			t.Fatalf("lists, adjacencies, vias, neighbours, tables, blocks: %v, want %v", after, before)
		}
	}
	for _, i := range p.ifs[1:] {
		if i != nil {
			t.Errorf("interface %d left", i.index)
		}
	}
}

func TestInterfaceEvents(t *testing.T) {
	r := newRig(t, 1)
	var got []InterfaceEvent
	stop := r.p.WatchInterfaces(func(e InterfaceEvent) {
		got = append(got, e)
		if e.AdminUp && e.LinkUp { // a watcher may call the plane
			r.must(r.p.SetLinkUp(e.Index, false))
		}
	})
	i, err := r.p.AddInterface(InterfaceSpec{Name: "loop0"}, nil)
	r.must(err)
	r.must(r.p.SetAdminUp(i, true))
	r.must(r.p.DeleteInterface(i))
	stop()
	j, err := r.p.AddInterface(InterfaceSpec{Name: "loop0"}, nil)
	r.must(err)
	if j != i {
		t.Errorf("index %d, want the freed %d", j, i)
	}
	wantEvents := []InterfaceEvent{
		{Index: i}, {Index: i, AdminUp: true, LinkUp: true}, {Index: i}, {Index: i, Deleted: true},
	}
	if d := cmp.Diff(wantEvents, got); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
}

// Ports come and go, queues move, modes change, while packets flow.
func TestPortsChangeUnderTraffic(t *testing.T) {
	r := newRig(t, 2)
	in, out := r.link(pipe.Config{Link: port.IP, Queues: 2}, "10.0.0.1/24"), r.tun("10.0.1.1/24")
	stop, done := make(chan struct{}), make(chan struct{})
	frame := in.frame(pkt{src: "10.0.0.2", dst: "10.0.1.2"})
	drain, offer := slices.Clone(out.bufs), packet.FromBytes(frame)
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			// While the interface is down the cable fills up.
			if _, err := in.port.Transmit(0, []*packet.Buffer{offer}); err != nil {
				return
			}
			if _, err := out.port.Receive(0, drain); err != nil {
				return
			}
			r.p.barrier()
		}
	}()
	for n := range 60 {
		e := r.tun(fmt.Sprintf("10.1.%d.1/24", n))
		r.must(r.p.SetRxPlacement(in.index, 0, n%2))
		r.must(r.p.SetRxMode(in.index, n%2-1, RxMode(1+n%3)))
		if n%4 == 0 {
			r.must(r.p.SetAdminUp(in.index, false))
			r.must(r.p.SetAdminUp(in.index, true))
		}
		r.must(r.p.DeleteInterface(e.index))
	}
	close(stop)
	<-done
	r.must(r.p.SetRxMode(in.index, -1, RxAdaptive))
	// What the cable still held comes first; then the way is open and empty.
	for n := 1; n > 0; {
		r.p.barrier()
		var err error
		n, err = out.port.Receive(0, drain)
		r.must(err)
	}
	in.send(frame)
	out.next()
	for q := range r.p.RxPlacements() {
		if q.Interface == in.index && q.Mode != RxAdaptive {
			t.Errorf("queue %d is in mode %d", q.Queue, q.Mode)
		}
	}
}
