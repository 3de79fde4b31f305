package api

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	govppapi "go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/memif"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/vnet"
	"github.com/millrace/millrace/internal/netnstest"
	library "github.com/millrace/millrace/memif"
)

const (
	master   = memif.MEMIF_ROLE_API_MASTER
	slave    = memif.MEMIF_ROLE_API_SLAVE
	ethernet = memif.MEMIF_MODE_API_ETHERNET
	ipMode   = memif.MEMIF_MODE_API_IP
)

// TestMemifRetvals: what VPP 25.10 answers, in order on one server.
func TestMemifRetvals(t *testing.T) {
	s, path := start(t)
	ch := channel(t, connect(t, path))
	add := func(id uint32, name string) *memif.MemifSocketFilenameAddDelV2 {
		return &memif.MemifSocketFilenameAddDelV2{IsAdd: true, SocketID: id, SocketFilename: name}
	}
	added := &memif.MemifSocketFilenameAddDelV2Reply{}
	old := &memif.MemifSocketFilenameAddDelReply{}
	made, madeOld := &memif.MemifCreateV2Reply{}, &memif.MemifCreateReply{}
	gone := &memif.MemifDeleteReply{}
	taken := filepath.Join(t.TempDir(), "no-socket")
	if err := os.WriteFile(taken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		q, r govppapi.Message
		want int32
	}{
		{"socket 0", add(0, "/tmp/x"), added, -73},
		{"socket without a name", add(1, ""), added, -73},
		{"socket", add(1, "one.sock"), added, 0},
		{"socket again", add(1, "one.sock"), added, 0},
		{"socket by another name", add(1, "two.sock"), added, -116},
		{"socket in directories", add(2, "a/b/two.sock"), added, 0},
		{"socket by @", add(3, "@three"), added, 0},
		{"abstract", add(4, "abstract:millrace-test-retvals"), added, 0},
		{"socket with odd characters", add(5, "/tmp/five sock"), added, 0},
		{"socket on a file", add(6, taken), added, 0},
		{"socket of no namespace", add(7, "abstract:seven,netns_name=no-such-namespace"), added, 0},
		{"delete no socket", &memif.MemifSocketFilenameAddDelV2{SocketID: 77}, added, -73},
		{"delete socket 0", &memif.MemifSocketFilenameAddDelV2{}, added, -73},
		{"delete socket ~0", &memif.MemifSocketFilenameAddDelV2{SocketID: none32}, added, -73},
		{"old: socket 0", &memif.MemifSocketFilenameAddDel{IsAdd: true, SocketFilename: "/tmp/x"}, old, -73},
		{"old: socket ~0", &memif.MemifSocketFilenameAddDel{IsAdd: true, SocketID: none32, SocketFilename: "/tmp/x"}, old, -73},
		{"old: socket", &memif.MemifSocketFilenameAddDel{IsAdd: true, SocketID: 8, SocketFilename: "eight.sock"}, old, 0},
		{"old: delete", &memif.MemifSocketFilenameAddDel{SocketID: 8}, old, 0},
		{"old: delete again", &memif.MemifSocketFilenameAddDel{SocketID: 8}, old, -73},

		{"on no socket", &memif.MemifCreateV2{SocketID: 77}, made, -73},
		{"ring of 1000", &memif.MemifCreateV2{SocketID: 1, RingSize: 1000}, made, -73},
		{"no mode", &memif.MemifCreateV2{SocketID: 1, Mode: 2}, made, -12},
		{"master", &memif.MemifCreateV2{SocketID: 1, Role: master, ID: 5}, made, 0},
		{"same id", &memif.MemifCreateV2{SocketID: 1, Role: master, ID: 5}, made, -68},
		{"slave beside a master", &memif.MemifCreateV2{SocketID: 1, Role: slave, ID: 6}, made, -68},
		{"master on an abstract socket", &memif.MemifCreateV2{SocketID: 4, ID: 1, Mode: ipMode}, made, 0},
		{"master on a file", &memif.MemifCreateV2{SocketID: 6}, made, -14},
		{"master by odd characters", &memif.MemifCreateV2{SocketID: 5}, made, -14},
		{"master in no namespace", &memif.MemifCreateV2{SocketID: 7}, made, -14},
		{"slave in no namespace", &memif.MemifCreateV2{SocketID: 7, Role: slave}, made, 0},
		{"slave", &memif.MemifCreateV2{SocketID: 2, Role: slave, RxQueues: 2, RingSize: 64, BufferSize: 4096, NoZeroCopy: true}, made, 0},
		{"slave with tiny buffers", &memif.MemifCreateV2{SocketID: 2, ID: 9, Role: slave, BufferSize: 8}, made, -73},
		{"old: master", &memif.MemifCreate{SocketID: 0, Role: master, HwAddr: [6]byte{2, 1, 1, 1, 1, 1}}, madeOld, 0},
		{"delete a socket in use", &memif.MemifSocketFilenameAddDelV2{SocketID: 1}, added, -74},
		{"delete local0", &memif.MemifDelete{SwIfIndex: 0}, gone, -2},
		{"delete nothing", &memif.MemifDelete{SwIfIndex: 77}, gone, -2},
		{"delete", &memif.MemifDelete{SwIfIndex: 1}, gone, 0},
		{"delete again", &memif.MemifDelete{SwIfIndex: 1}, gone, -2},
		{"slave where a master was", &memif.MemifCreateV2{SocketID: 1, Role: slave, ID: 6}, made, 0},
	} {
		if got := call(t, ch, c.q, c.r); got != c.want {
			t.Errorf("%s: retval %d, want %d", c.what, got, c.want)
		}
	}
	if got := call(t, ch, add(none32, "random.sock"), added); got != 0 || added.SocketID == none32 || added.SocketID == 0 {
		t.Errorf("socket of a free id: %d, id %d", got, added.SocketID)
	}
	if got := s.memifs.sockets[added.SocketID].filename; got != s.runtimeDir+"/random.sock" {
		t.Errorf("its name: %s", got)
	}
	if _, err := os.Stat(filepath.Join(s.runtimeDir, "a", "b")); err != nil {
		t.Errorf("directories of a socket: %v", err)
	}
}

func TestMemifDumps(t *testing.T) {
	s, path := start(t)
	ch := channel(t, connect(t, path))
	for _, q := range []govppapi.Message{
		&memif.MemifSocketFilenameAddDelV2{IsAdd: true, SocketID: 9, SocketFilename: "abstract:millrace-test-dumps"},
		&memif.MemifCreateV2{ID: 3, HwAddr: [6]byte{2, 0, 0, 0, 0, 3}},
		&memif.MemifCreateV2{ID: 1, SocketID: 9, Role: slave, Mode: ipMode, RingSize: 64},
	} {
		r := govppapi.Message(&memif.MemifCreateV2Reply{})
		if _, ok := q.(*memif.MemifSocketFilenameAddDelV2); ok {
			r = &memif.MemifSocketFilenameAddDelV2Reply{}
		}
		if got := call(t, ch, q, r); got != 0 {
			t.Fatalf("%s: %d", q.GetMessageName(), got)
		}
	}
	var sockets []memif.MemifSocketFilenameDetails
	for _, r := range details[*memif.MemifSocketFilenameDetails](t, ch, &memif.MemifSocketFilenameDump{}, func() govppapi.Message { return &memif.MemifSocketFilenameDetails{} }) {
		sockets = append(sockets, *r)
	}
	if diff := cmp.Diff([]memif.MemifSocketFilenameDetails{
		{SocketID: 0, SocketFilename: s.runtimeDir + "/memif.sock"}, {SocketID: 9, SocketFilename: "abstract:millrace-test-dumps"},
	}, sockets); diff != "" {
		t.Error(diff)
	}
	var devices []memif.MemifDetails
	for _, r := range details[*memif.MemifDetails](t, ch, &memif.MemifDump{}, func() govppapi.Message { return &memif.MemifDetails{} }) {
		devices = append(devices, *r)
	}
	if diff := cmp.Diff([]memif.MemifDetails{
		{SwIfIndex: 1, HwAddr: [6]byte{2, 0, 0, 0, 0, 3}, ID: 3, RingSize: 1, IfName: "memif0/3"},
		{SwIfIndex: 2, ID: 1, Role: slave, Mode: ipMode, ZeroCopy: true, SocketID: 9, RingSize: 1, IfName: "memif9/1"},
	}, devices); diff != "" {
		t.Error(diff)
	}
	text, err := s.runCommand("show memif")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"  0   yes (1)     " + s.runtimeDir + "/memif.sock\n", "  9   no          abstract:", "interface memif9/1\n", "  socket-id 9 id 1 mode ip\n  flags slave zero-copy\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("show memif lacks %q:\n%s", want, text)
		}
	}
	if _, err := s.runCommand("show memif local0"); err == nil {
		t.Error("show memif of another interface")
	}
}

// details collects a dump.
func details[T govppapi.Message](t testing.TB, ch govppapi.Channel, q govppapi.Message, blank func() govppapi.Message) (list []T) {
	t.Helper()
	stream := ch.SendMultiRequest(q)
	for {
		m := blank()
		last, err := stream.ReceiveReply(m)
		if err != nil {
			t.Fatal(err)
		}
		if last {
			return list
		}
		list = append(list, m.(T))
	}
}

func TestMemifAddress(t *testing.T) {
	for _, c := range []struct{ name, address, netns, err string }{
		{"/run/vpp/memif.sock", "/run/vpp/memif.sock", "", ""},
		{"unix:/run/memif.sock", "/run/memif.sock", "", ""},
		{"abstract:millrace/memif0", "@millrace/memif0", "", ""},
		{"abstract:a_b-c.d,netns_name=pod1", "@a_b-c.d", "/var/run/netns/pod1", ""},
		{"abstract:a,netns_name=/var/run/netns/cni-12", "@a", "/var/run/netns/cni-12", ""},
		{"abstract:a,netns_pid=4711", "@a", "/proc/4711/ns/net", ""},
		{"abstract:a,netns_pid=4711,netns_name=b", "", "", "unknown input"},
		{"abstract:a,netns_pid=", "", "", "unknown input"},
		{"abstract:a,netns_name=", "", "", "is empty"},
		{"abstract:a,mode=3", "", "", "unknown input"},
		{"abstract:", "", "", "no name"},
		{"abstract:a b", "", "", "unknown input"},
		{"/run/@x", "", "", "unknown input"},
		{"tcp:localhost:5", "", "", "unknown input"},
	} {
		address, netns, err := memifAddress(c.name)
		if address != c.address || netns != c.netns || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q in %q, %v", c.name, address, netns, err)
		}
	}
}

// function is a network function: the far end of a memif, by the library.
type function struct {
	*library.Interface
	end func()
}

func attach(t testing.TB, role library.Role, address string, c library.Config) *function {
	t.Helper()
	s, err := library.NewSocket(library.SocketConfig{Role: role, Address: address, Retry: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	i, err := s.Add(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	ended := false
	f := &function{Interface: i, end: func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run socket: %v", err)
		}
		if err := i.Close(); err != nil {
			t.Errorf("close interface: %v", err)
		}
	}}
	t.Cleanup(f.end)
	return f
}

// ping sends an echo request until it is answered.
func (f *function) ping(t testing.TB) {
	t.Helper()
	b := packet.FromBytes(nil)
	if r := packet.MakeEchoRequest4(b, [4]byte{10, 5, 0, 2}, [4]byte{10, 5, 0, 1}, packet.EchoRequest{ID: 1}); r != packet.OK {
		t.Fatal(r)
	}
	bufs := [][]byte{make([]byte, 2048)}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if _, err := f.TxQueue(0).Send([][]byte{b.Bytes()}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		err := f.RxQueue(0).Wait(ctx)
		cancel()
		if err != nil {
			continue
		}
		if n, err := f.RxQueue(0).Receive(bufs); n == 1 && err == nil && len(bufs[0]) >= 21 && bufs[0][20] == 0 {
			return
		}
	}
	t.Fatalf("no answer; link: %+v", f.Status())
}

// TestMemifTraffic: the engine as server and as client answers pings; its link follows the
// peer; interfaces go while traffic flows.
func TestMemifTraffic(t *testing.T) {
	netnstest.CheckLeaks(t)
	for _, role := range []memif.MemifRole{master, slave} {
		t.Run(role.String(), func(t *testing.T) { memifTraffic(t, role) })
	}
}

func memifTraffic(t *testing.T, role memif.MemifRole) {
	s, path := start(t)
	ch := channel(t, connect(t, path))
	events := make(chan vnet.InterfaceEvent, 64)
	t.Cleanup(s.plane.WatchInterfaces(func(e vnet.InterfaceEvent) { events <- e }))
	at := filepath.Join(t.TempDir(), "memif.sock")
	if got := call(t, ch, &memif.MemifSocketFilenameAddDelV2{IsAdd: true, SocketID: 1, SocketFilename: at}, &memif.MemifSocketFilenameAddDelV2Reply{}); got != 0 {
		t.Fatal(got)
	}
	other := library.Client
	if role == slave {
		other = library.Server
	}
	for round := range 2 {
		made := &memif.MemifCreateV2Reply{}
		if got := call(t, ch, &memif.MemifCreateV2{Role: role, Mode: ipMode, SocketID: 1, Secret: "mill"}, made); got != 0 {
			t.Fatal(got)
		}
		up := &interfaces.SwInterfaceSetFlags{SwIfIndex: made.SwIfIndex, Flags: interface_types.IF_STATUS_API_FLAG_ADMIN_UP}
		if got := call(t, ch, up, &interfaces.SwInterfaceSetFlagsReply{}); got != 0 {
			t.Fatal(got)
		}
		address := &interfaces.SwInterfaceAddDelAddress{SwIfIndex: made.SwIfIndex, IsAdd: true, Prefix: withLength(t, "10.5.0.1/24")}
		if got := call(t, ch, address, &interfaces.SwInterfaceAddDelAddressReply{}); got != 0 {
			t.Fatal(got)
		}
		for range 2 {
			f := attach(t, other, at, library.Config{Mode: library.IP, Secret: "mill"})
			f.ping(t)
			if st := f.Status(); st.PeerIfName != "memif1/0" {
				t.Errorf("the peer sees %+v", st)
			}
			f.end()
		}
		admin1, up1, down1 := vnet.InterfaceEvent{Index: 1, AdminUp: true}, vnet.InterfaceEvent{Index: 1, LinkUp: true}, vnet.InterfaceEvent{Index: 1}
		for n, w := range []vnet.InterfaceEvent{{Index: 1}, admin1, up1, down1, up1, down1} {
			if got := <-events; got != w {
				t.Fatalf("round %d, event %d: %+v, want %+v", round, n, got, w)
			}
		}
		f := attach(t, other, at, library.Config{Mode: library.IP, Secret: "mill"})
		f.ping(t)
		stop := make(chan struct{})
		flood := make(chan error, 1)
		go func() { flood <- floodUntil(stop, f) }()
		if got := call(t, ch, &memif.MemifDelete{SwIfIndex: made.SwIfIndex}, &memif.MemifDeleteReply{}); got != 0 {
			t.Fatal(got)
		}
		close(stop)
		if err := <-flood; err != nil {
			t.Error(err)
		}
		for got := up1; !got.Deleted; {
			got = <-events
		}
		f.end()
	}
}

func floodUntil(stop chan struct{}, f *function) error {
	frames, bufs := [][]byte{make([]byte, 64), make([]byte, 64)}, [][]byte{make([]byte, 2048)}
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if _, err := f.TxQueue(0).Send(frames); err != nil {
			return err
		}
		if _, err := f.RxQueue(0).Receive(bufs); err != nil {
			return err
		}
	}
}
