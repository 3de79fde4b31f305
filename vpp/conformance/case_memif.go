package conformance

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	binapi "go.fd.io/govpp/binapi/memif"

	"github.com/millrace/millrace/memif"
	"github.com/millrace/millrace/vpp"
)

func memifCases() []Case {
	return []Case{
		{"memif-sockets", memifSockets},
		{"memif-sockets-old", memifSocketsOld},
		{"memif-create", memifCreate},
		{"memif-settings", memifSettings},
		{"memif-roles", memifRoles},
		{"memif-no-socket", memifNoSocket},
		{"memif-events-master", func(s *Session) { memifEvents(s, master) }},
		{"memif-events-slave", func(s *Session) { memifEvents(s, slave) }},
		{"memif-refused", memifRefused},
		{"memif-abstract", memifAbstract},
		{"memif-forward-ethernet", memifForwardEthernet},
		{"memif-forward-ip", memifForwardIP},
		{"memif-neighbors", memifNeighbors},
		{"memif-link-loss", memifLinkLoss},
		{"memif-wired", memifWired},
		{"memif-counters", memifCounters},
	}
}

func memifSocket(id uint32, name string) *binapi.MemifSocketFilenameAddDelV2 {
	return &binapi.MemifSocketFilenameAddDelV2{IsAdd: true, SocketID: id, SocketFilename: name}
}

func memifSockets(s *Session) {
	dump := func() { s.Dump(&binapi.MemifSocketFilenameDump{}) }
	dump()
	s.Note("ids 0 and ~0, no name")
	s.Call(memifSocket(0, "zero.sock"))
	s.Call(memifSocket(1, ""))
	s.Call(&binapi.MemifSocketFilenameAddDelV2{SocketID: 0})
	s.Call(&binapi.MemifSocketFilenameAddDelV2{SocketID: none32})
	s.Call(&binapi.MemifSocketFilenameAddDelV2{SocketID: 77})
	s.Note("names: relative, with a directory, absolute, abstract, with @")
	for n, name := range []string{"one.sock", "a/b/two.sock", "/tmp/three.sock", "abstract:four", "abstract:five,netns_name=nowhere", "@six", "unix:/tmp/seven.sock", "tcp:eight", "nine sock"} {
		s.Call(memifSocket(uint32(n+1), name))
	}
	info, err := os.Stat(filepath.Join(s.dir, "a/b"))
	s.Write("  the directory is there: %t", err == nil && info.IsDir())
	dump()
	s.Note("the same again, another name, two ids with one name")
	s.Call(memifSocket(1, "one.sock"))
	s.Call(memifSocket(1, "other.sock"))
	s.Call(memifSocket(20, "one.sock"))
	s.Note("deletion, again; a free id is chosen for ~0")
	s.Call(&binapi.MemifSocketFilenameAddDelV2{SocketID: 2, SocketFilename: "of no account"})
	s.Call(&binapi.MemifSocketFilenameAddDelV2{SocketID: 2})
	r := s.Must(memifSocket(none32, "chosen.sock")).(*binapi.MemifSocketFilenameAddDelV2Reply)
	s.Write("memif_socket_filename_add_del_v2 ~0: a usable id %t", r.SocketID != none32 && r.SocketID != 0)
	s.Must(&binapi.MemifSocketFilenameAddDelV2{SocketID: r.SocketID})
	dump()
	s.Note("a long name is cut in the dump")
	s.Call(memifSocket(30, "/tmp/"+strings.Repeat("x", 150)))
	dump()
}

const none32 = ^uint32(0)

func memifSocketsOld(s *Session) {
	for _, q := range []*binapi.MemifSocketFilenameAddDel{
		{IsAdd: true, SocketID: 0, SocketFilename: "zero.sock"},
		{IsAdd: true, SocketID: none32, SocketFilename: "all.sock"},
		{IsAdd: true, SocketID: 1},
		{IsAdd: true, SocketID: 1, SocketFilename: "one.sock"},
		{IsAdd: true, SocketID: 1, SocketFilename: "one.sock"},
		{IsAdd: true, SocketID: 1, SocketFilename: "other.sock"},
		{SocketID: 1},
		{SocketID: 1},
		{SocketID: 0},
		{SocketID: none32},
	} {
		s.Call(q)
	}
	s.Call(&binapi.MemifCreate{Role: master, ID: 4, HwAddr: [6]byte{2, 0, 0, 0, 0, 4}})
	s.Call(&binapi.MemifCreate{Role: slave, ID: 5})
	s.Call(&binapi.MemifCreate{Role: master, ID: 4})
	s.Call(&binapi.MemifCreate{Role: master, ID: 6, RingSize: 100})
	s.Call(&binapi.MemifCreate{Role: master, ID: 6, SocketID: 5})
	s.memifs()
}

// memifs writes down the memifs and their interfaces.
func (s *Session) memifs() {
	s.T.Helper()
	s.Dump(&binapi.MemifDump{})
	s.Dump(&interfaces.SwInterfaceDump{SwIfIndex: none, NameFilterValid: true, NameFilter: "memif"})
}

func memifCreate(s *Session) {
	s.Must(memifSocket(7, "seven.sock"))
	s.Must(memifSocket(8, "eight.sock"))
	hw := func(n byte) [6]byte { return [6]byte{2, 0, 0, 0, 0, n} }
	s.Note("defaults, IP mode, a slave, much of everything")
	s.Call(&binapi.MemifCreateV2{HwAddr: hw(1)})
	s.Call(&binapi.MemifCreateV2{ID: 9, SocketID: 7, Mode: binapi.MEMIF_MODE_API_IP, HwAddr: hw(2)})
	s.Call(&binapi.MemifCreateV2{ID: 9, SocketID: 8, Role: slave, HwAddr: hw(3)})
	s.Call(&binapi.MemifCreateV2{ID: none32, SocketID: 8, Role: slave, Mode: binapi.MEMIF_MODE_API_IP, RxQueues: 4, TxQueues: 3, RingSize: 32768,
		BufferSize: 9216, NoZeroCopy: true, UseDma: true, Secret: "123456789012345678901234"})
	s.memifs()
	s.Note("an unknown socket, an id taken, a ring of 1000, of 1, of 65536")
	s.Call(&binapi.MemifCreateV2{SocketID: 99})
	s.Call(&binapi.MemifCreateV2{ID: 9, SocketID: 7})
	s.Call(&binapi.MemifCreateV2{ID: 10, SocketID: 7, RingSize: 1000, HwAddr: hw(4)})
	s.Call(&binapi.MemifCreateV2{ID: 11, SocketID: 7, RingSize: 1, HwAddr: hw(5)})
	s.Call(&binapi.MemifCreateV2{ID: 12, SocketID: 7, RingSize: 65536, HwAddr: hw(6)})
	s.Note("a role that is none counts as slave")
	s.Call(&binapi.MemifCreateV2{ID: 13, SocketID: 8, Role: 5, HwAddr: hw(7)})
	s.Note("no address: a random one")
	r := s.Must(&binapi.MemifCreateV2{ID: 14, SocketID: 7}).(*binapi.MemifCreateV2Reply)
	a := s.Must(&interfaces.SwInterfaceGetMacAddress{SwIfIndex: r.SwIfIndex}).(*interfaces.SwInterfaceGetMacAddressReply).MacAddress
	s.Write("  begins with %02x:%02x, more follows: %t", a[0], a[1], [4]byte(a[2:]) != [4]byte{})
	s.Must(&binapi.MemifDelete{SwIfIndex: r.SwIfIndex})
	s.Note("deletion: of one, again, of what is none; its index serves again")
	s.Must(&interfaces.CreateLoopback{})
	s.Call(&binapi.MemifDelete{SwIfIndex: 2})
	s.Call(&binapi.MemifDelete{SwIfIndex: 2})
	s.Call(&binapi.MemifDelete{SwIfIndex: 7})
	s.Call(&binapi.MemifDelete{SwIfIndex: missing})
	s.Call(&interfaces.DeleteLoopback{SwIfIndex: 1})
	s.Call(&binapi.MemifCreateV2{ID: 9, SocketID: 7, HwAddr: hw(8)})
	s.memifs()
}

func memifSettings(s *Session) {
	s.Must(memifSocket(1, "one.sock"))
	s.Must(&binapi.MemifCreateV2{HwAddr: [6]byte{2, 0, 0, 0, 0, 1}})
	s.Must(&binapi.MemifCreateV2{SocketID: 1, Mode: binapi.MEMIF_MODE_API_IP})
	for _, index := range []interfaceIndex{1, 2} {
		s.Call(&interfaces.SwInterfaceSetMtu{SwIfIndex: index, Mtu: []uint32{1500, 0, 0, 0}})
		for _, mtu := range []uint16{1400, 9216, 64, 65535} {
			s.Call(&interfaces.HwInterfaceSetMtu{SwIfIndex: index, Mtu: mtu})
		}
		s.Call(&interfaces.SwInterfaceSetMacAddress{SwIfIndex: index, MacAddress: [6]byte{2, 1, 1, 1, 1, 1}})
		s.Call(&interfaces.SwInterfaceGetMacAddress{SwIfIndex: index})
		s.Call(&interfaces.SwInterfaceSetPromisc{SwIfIndex: index, PromiscOn: true})
		s.Call(&interfaces.SwInterfaceTagAddDel{IsAdd: true, SwIfIndex: index, Tag: "pod"})
		s.Call(&interfaces.SwInterfaceSetInterfaceName{SwIfIndex: index, Name: "renamed" + string(rune('0'+index))})
	}
	s.Dump(&binapi.MemifDump{})
	s.Dump(&interfaces.SwInterfaceDump{SwIfIndex: none, NameFilterValid: true, NameFilter: "renamed"})
}

// memifRoles: a socket has one role while it has an interface.
func memifRoles(s *Session) {
	s.Must(memifSocket(1, "one.sock"))
	s.Call(&binapi.MemifCreateV2{SocketID: 1, ID: 1, HwAddr: [6]byte{2, 0, 0, 0, 0, 1}})
	file := func() {
		info, err := os.Stat(filepath.Join(s.dir, "one.sock"))
		s.Write("  the socket's file is there: %t, for the group to write: %t", err == nil, err == nil && info.Mode()&0o020 != 0)
	}
	file()
	s.Call(&binapi.MemifCreateV2{SocketID: 1, ID: 2, Role: slave})
	s.Call(&binapi.MemifSocketFilenameAddDelV2{SocketID: 1})
	s.Call(&binapi.MemifDelete{SwIfIndex: 1})
	s.Call(&binapi.MemifCreateV2{SocketID: 1, ID: 2, Role: slave, HwAddr: [6]byte{2, 0, 0, 0, 0, 2}})
	s.Call(&binapi.MemifCreateV2{SocketID: 1, ID: 1})
	s.Call(&binapi.MemifDelete{SwIfIndex: 1})
	s.Call(&binapi.MemifSocketFilenameAddDelV2{SocketID: 1})
	s.Call(&binapi.MemifCreateV2{SocketID: 1, ID: 2})
}

// memifNoSocket: addresses that a master cannot listen on. A socket is not used again:
// VPP counts a failure as an interface less.
func memifNoSocket(s *Session) {
	if err := os.WriteFile(filepath.Join(s.dir, "file"), nil, 0o600); err != nil {
		s.T.Fatal(err)
	}
	for n, name := range []string{"file", "/tmp/no such name", "/nowhere/memif.sock", "abstract:a,netns_name=nowhere", "abstract:b,colour=red", "@c"} {
		s.Must(memifSocket(uint32(n+1), name))
		_, err := vpp.Call[binapi.MemifCreateV2Reply](s.T.Context(), s.Conn, &binapi.MemifCreateV2{SocketID: uint32(n + 1)})
		s.Write("memif_create_v2 on %q: retval %d", name, vpp.Retval(err))
	}
	s.Note("two sockets with one file")
	s.Must(memifSocket(10, "ten.sock"))
	s.Must(memifSocket(11, "ten.sock"))
	s.Call(&binapi.MemifCreateV2{SocketID: 10, HwAddr: [6]byte{2, 0, 0, 0, 0, 1}})
	_, err := vpp.Call[binapi.MemifCreateV2Reply](s.T.Context(), s.Conn, &binapi.MemifCreateV2{SocketID: 11})
	s.Write("memif_create_v2 on the other: retval %d", vpp.Retval(err))
	s.memifs()
}

// memifEvents shows the link of a memif as its peer comes, goes, and comes again, and as
// the interface is set down and up meanwhile.
func memifEvents(s *Session, role binapi.MemifRole) {
	sub, err := vpp.Subscribe[interfaces.SwInterfaceEvent](s.Conn)
	if err != nil {
		s.T.Fatal(err)
	}
	s.Must(&interfaces.WantInterfaceEvents{EnableDisable: 1, PID: 7})
	s.Must(memifSocket(1, "one.sock"))
	s.Call(&binapi.MemifCreateV2{Role: role, SocketID: 1, HwAddr: [6]byte{2, 0, 0, 0, 0, 1}, RingSize: 256, RxQueues: 2, TxQueues: 2, BufferSize: 4096})
	events(s, sub.Events(), 1)
	s.Call(&interfaces.SwInterfaceSetFlags{SwIfIndex: 1, Flags: adminUp})
	events(s, sub.Events(), 1)
	s.memifs()
	s.Note("the peer comes")
	peer := s.peer(far(role), "one.sock", memif.Config{RxQueues: 2, TxQueues: 2, RingSize: 512})
	peer.up(s)
	events(s, sub.Events(), 1)
	s.memifs()
	st := peer.Status()
	s.Write("  the peer sees %s by %d and %d rings of %d", st.PeerIfName, st.RxRings, st.TxRings, st.RingSize)
	s.Note("down and up with the peer there")
	for _, flags := range []interface_types.IfStatusFlags{0, adminUp} {
		s.Call(&interfaces.SwInterfaceSetFlags{SwIfIndex: 1, Flags: flags})
		events(s, sub.Events(), 1)
		s.memifs()
	}
	s.Write("  the peer's link: %t", peer.Status().Up && peer.Status().Links == 1)
	s.Note("the peer goes")
	peer.end()
	events(s, sub.Events(), 1)
	s.memifs()
	s.Note("another comes")
	peer = s.peer(far(role), "one.sock", memif.Config{})
	peer.up(s)
	events(s, sub.Events(), 1)
	s.Note("it goes while the interface is down")
	s.Call(&interfaces.SwInterfaceSetFlags{SwIfIndex: 1})
	events(s, sub.Events(), 1)
	peer.end()
	events(s, sub.Events(), 0)
	s.Call(&interfaces.SwInterfaceSetFlags{SwIfIndex: 1, Flags: adminUp})
	events(s, sub.Events(), 1)
	s.Note("the interface is deleted")
	peer = s.peer(far(role), "one.sock", memif.Config{})
	peer.up(s)
	events(s, sub.Events(), 1)
	s.Call(&binapi.MemifDelete{SwIfIndex: 1})
	deleted(s, sub.Events())
	s.link0(peer)
}

// deleted waits for the event of a deletion. Whether a link's end is told before is the
// machine's choice: VPP puts events of one moment together.
func deleted(s *Session, ch <-chan *interfaces.SwInterfaceEvent) {
	for {
		select {
		case e := <-ch:
			if e.Deleted {
				s.Write("  %s", describeMessage(e))
				return
			}
		case <-time.After(patience / 5):
			s.Write("  no event of the deletion")
			return
		}
	}
}

// link0 waits until the peer has lost its link.
func (s *Session) link0(p *memifPeer) {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(s.T.Context(), patience)
	defer cancel()
	for p.Status().Up {
		if ctx.Err() != nil {
			s.Write("  the peer keeps its link")
			return
		}
		s.pause(ctx)
	}
}

// memifRefused: what a peer may not do. The reason's text is each machine's own.
func memifRefused(s *Session) {
	s.Must(memifSocket(1, "one.sock"))
	s.Must(&binapi.MemifCreateV2{SocketID: 1, ID: 1, Secret: "open sesame"})
	s.Must(&binapi.MemifCreateV2{SocketID: 1, ID: 2, Mode: binapi.MEMIF_MODE_API_IP})
	for _, c := range []struct {
		what string
		memif.Config
	}{
		{"no secret", memif.Config{ID: 1}},
		{"a wrong secret", memif.Config{ID: 1, Secret: "open barley"}},
		{"half the secret", memif.Config{ID: 1, Secret: "open"}},
		{"the secret", memif.Config{ID: 1, Secret: "open sesame"}},
		{"a secret where none is wanted", memif.Config{ID: 2, Mode: memif.IP, Secret: "x"}},
		{"another mode", memif.Config{ID: 2}},
		{"no such id", memif.Config{ID: 3}},
	} {
		p := s.peer(memif.Client, "one.sock", c.Config)
		s.Write("%s: %s", c.what, s.outcome(p))
		p.end()
	}
	s.Note("one peer at a time")
	first := s.peer(memif.Client, "one.sock", memif.Config{ID: 2, Mode: memif.IP})
	first.up(s)
	second := s.peer(memif.Client, "one.sock", memif.Config{ID: 2, Mode: memif.IP})
	s.Write("second: %s", s.outcome(second))
	s.Write("first: up %t", first.Status().Up)
	first.end()
	second.up(s)
	s.Write("second, after the first has gone: up")
}

// outcome waits until a peer is connected or refused.
func (s *Session) outcome(p *memifPeer) string {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(s.T.Context(), patience)
	defer cancel()
	for ctx.Err() == nil {
		st := p.Status()
		if e, ok := errors.AsType[*memif.Error](st.Err); ok && !st.Up && (e.Kind == memif.Refused || e.Kind == memif.Ended) {
			return "refused"
		}
		if st.Up {
			return "up"
		}
		s.pause(ctx)
	}
	return "neither up nor refused"
}

// memifAbstract: sockets without a file, in the machine's namespace and in another.
func memifAbstract(s *Session) {
	for n, c := range []struct {
		name string
		role binapi.MemifRole
		in   string
	}{
		{"abstract:here/memif0", master, s.inside.Path}, {"abstract:here/memif1", slave, s.inside.Path},
		{"abstract:there,netns_name=" + s.outside.Path, master, s.outside.Path}, {"abstract:yonder,netns_name=" + s.outside.Path, slave, s.outside.Path},
	} {
		id := uint32(n + 1)
		s.Must(memifSocket(id, c.name))
		r := s.Must(&binapi.MemifCreateV2{SocketID: id, Role: c.role, Mode: binapi.MEMIF_MODE_API_IP}).(*binapi.MemifCreateV2Reply)
		s.Up(r.SwIfIndex)
		name, _, _ := strings.Cut(strings.TrimPrefix(c.name, "abstract:"), ",")
		p := s.peerAt(memif.SocketConfig{Role: far(c.role), Address: "@" + name, Netns: c.in}, memif.Config{Mode: memif.IP})
		p.up(s)
		s.link(r.SwIfIndex, true)
		s.Write("%s as %s: up", name, c.role)
	}
}
