package program

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/memif"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/internal/secret"
	"github.com/millrace/millrace/vpp"
)

func memifDeviceOf(netns string) dataplane.Memif {
	return dataplane.Memif{
		Netns: netns, Socket: "millrace/memif0", ID: 3, RxQueues: 1, TxQueues: 2, RingSize: 512, BufferSize: 4096,
		Secret: secret.New("open sesame", secret.Salt{1}), MAC: dataplane.MAC{2, 0, 0, 0, 0, 9},
	}
}

func TestTag(t *testing.T) {
	for _, d := range []dataplane.Memif{
		memifDeviceOf("/run/netns/a"),
		{RxQueues: 255, TxQueues: 255, RingSize: 32768, BufferSize: 65535, UseDMA: true},
		{RxQueues: 1, TxQueues: 1, RingSize: 2, BufferSize: 64, Secret: secret.New("x", secret.Salt{})},
	} {
		o := dataplane.Interface{Name: strings.Repeat("n", dataplane.MemifNameMax), Device: d}
		p := &Program{id: Agent("")}
		text := p.tag(o)
		if len(text) > 63 {
			t.Errorf("tag %s has %d bytes, and VPP keeps 63", text, len(text))
		}
		name, settings, ours := p.parseTag(text)
		back, ok := parseMemifSettings(settings)
		want := dataplane.Memif{
			RxQueues: d.RxQueues, TxQueues: d.TxQueues, RingSize: d.RingSize, BufferSize: d.BufferSize,
			UseDMA: d.UseDMA, Secret: d.Secret.Sealed(),
		}
		if name != o.Name || !ours || !ok || back.Memif != want {
			t.Errorf("tag %s is read back as %s %+v, %v %v", text, name, back, ours, ok)
		}
	}
	for _, foreign := range []string{"", "a", "AAAAAAA=", "AAAAAAAA", "AAAAAAAAAAAAAA"} {
		if s, ok := parseMemifSettings(foreign); ok {
			t.Errorf("%q is taken for settings: %+v", foreign, s)
		}
	}
	if name, settings, ours := (&Program{id: Agent("")}).parseTag("millrace/pod/a"); name != "pod/a" || settings != "" || !ours {
		t.Errorf("a plain tag is read as %s %s %v", name, settings, ours)
	}
}

// memifMachines are the machines that can make memifs.
func memifMachines(t *testing.T, run func(t *testing.T, m machinetest.Machine)) {
	for _, m := range machinetest.All(t) {
		t.Run(m.Name, func(t *testing.T) {
			netnstest.CheckLeaks(t)
			stop := m.Start(t)
			missing := m.Connect(t).Supports(&memif.MemifCreateV2{}, &memif.MemifSocketFilenameAddDelV2{})
			if stop(); len(missing) > 0 {
				t.Skipf("this %s lacks %s", m.Name, strings.Join(missing, ", "))
			}
			run(t, m)
		})
	}
}

func memifWish(t *testing.T, devices ...dataplane.Memif) dataplane.State {
	t.Helper()
	var objects []dataplane.Object
	for i, d := range devices {
		name := fmt.Sprintf("pod/%d", i)
		objects = append(objects, dataplane.Interface{Name: name, Device: d, MTU: 1500, RPF: dataplane.RPFStrict}, dataplane.Up{Interface: name})
	}
	s, err := dataplane.NewState(objects...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestIntegrationMemif(t *testing.T) {
	memifMachines(t, func(t *testing.T, m machinetest.Machine) {
		stop := m.Start(t)
		ns, other := netnstest.New(t), netnstest.New(t)
		p := program(t, m.Connect(t))
		base := memifDeviceOf(ns.Path)
		reach(t, p, memifWish(t, base))
		hello(t, ns, base)
		refused(t, other, base.Socket)
		if m.Name != "vpp" { // VPP 25.10 does not survive it
			ns.Run(t, func() error {
				fd, err := connect(base.Socket)
				if err == nil {
					err = unix.Close(fd)
				}
				return err
			})
			hello(t, ns, base)
		}
		for _, name := range slices.Sorted(maps.Keys(memifChanges(other.Path))) {
			d := base
			memifChanges(other.Path)[name](&d)
			plan := reach(t, p, memifWish(t, d))
			verbs := ""
			for _, step := range plan {
				verbs += step.Verb.String() + " " + step.Object.Key().Kind.String() + " "
			}
			if verbs != "delete up delete interface create interface create up " {
				t.Errorf("another %s leads to the plan\n%s", name, plan)
			}
			// Another life of the agent finds it as it is.
			p = program(t, m.Connect(t))
			same(t, memifWish(t, d), observe(t, p))
			where := ns
			if name == "netns" {
				where = other
				refused(t, ns, d.Socket)
			}
			hello(t, where, d)
			reach(t, p, memifWish(t, base))
		}
		// Several, on sockets of their own, survive the machine's restart.
		second, third := base, base
		second.Socket, third.Netns = "millrace/memif1", other.Path
		want := memifWish(t, base, second, third)
		for _, f := range []dataplane.Family{dataplane.IPv4, dataplane.IPv6} { // one in a table of its own
			want.Put(dataplane.Table{Family: f, ID: 5})
		}
		last, _ := want.Object(dataplane.InterfaceKey("pod/2"))
		bound := last.(dataplane.Interface)
		bound.Table = 5
		want.Put(bound)
		reach(t, p, want)
		stop()
		stop = m.Start(t)
		p = program(t, m.Connect(t))
		if s := observe(t, p); s.Len() != 0 {
			t.Fatalf("a machine made anew has something of ours:\n%s", s)
		}
		reach(t, p, want)
		hello(t, ns, second)
		hello(t, other, third)
		reach(t, p, memifWish(t, base))
		refused(t, ns, second.Socket)
		reach(t, p, dataplane.State{})
		refused(t, ns, base.Socket)
		noSockets(t, p)
		stop()
	})
}

// memifChanges change one field each.
func memifChanges(otherNetns string) map[string]func(*dataplane.Memif) {
	return map[string]func(*dataplane.Memif){
		"netns":       func(d *dataplane.Memif) { d.Netns = otherNetns },
		"socket":      func(d *dataplane.Memif) { d.Socket = "millrace/memif9" },
		"id":          func(d *dataplane.Memif) { d.ID = 0 },
		"mode":        func(d *dataplane.Memif) { d.Mode, d.MAC = dataplane.MemifIP, dataplane.MAC{} },
		"rx queues":   func(d *dataplane.Memif) { d.RxQueues = 4 },
		"tx queues":   func(d *dataplane.Memif) { d.TxQueues = 1 },
		"ring size":   func(d *dataplane.Memif) { d.RingSize = 1024 },
		"buffer size": func(d *dataplane.Memif) { d.BufferSize = 2048 },
		"secret":      func(d *dataplane.Memif) { d.Secret = secret.New("close sesame", secret.Salt{1}) },
		"no secret":   func(d *dataplane.Memif) { d.Secret = secret.Text{} },
		"mac":         func(d *dataplane.Memif) { d.MAC[5]++ },
	}
}

// TestIntegrationMemifRefused: what a machine cannot do leaves nothing behind, and works
// as soon as the reason is gone.
func TestIntegrationMemifRefused(t *testing.T) {
	memifMachines(t, func(t *testing.T, m machinetest.Machine) {
		m.Start(t)
		ns := netnstest.New(t)
		p := program(t, m.Connect(t))
		base := memifDeviceOf(ns.Path)
		noDMA, gone, sealed := base, base, base
		noDMA.UseDMA = true
		gone.Netns = "/run/netns/millrace-never-was"
		sealed.Secret = base.Secret.Sealed()
		for _, tt := range []struct {
			device dataplane.Memif
			want   string
		}{
			{noDMA, "this dataplane has nothing"}, {gone, "millrace-never-was"}, {sealed, "digest only"},
		} {
			err := attempt(t, p, memifWish(t, tt.device))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%+v: error %v, want %q", tt.device, err, tt.want)
			}
			noSockets(t, p)
		}
		// Somebody has the name already.
		var fd int
		ns.Run(t, func() (err error) {
			fd, err = listen(base.Socket)
			return err
		})
		for range 2 {
			if err := attempt(t, p, memifWish(t, base)); vpp.Retval(err) == 0 {
				t.Errorf("with the socket's name taken: %v", err)
			}
			noSockets(t, p)
		}
		if err := unix.Close(fd); err != nil {
			t.Fatal(err)
		}
		reach(t, p, memifWish(t, base))
		hello(t, ns, base)
	})
}

// TestIntegrationMemifRemains: what a crash left of ours goes, what others made stays.
func TestIntegrationMemifRemains(t *testing.T) {
	memifMachines(t, func(t *testing.T, m machinetest.Machine) {
		m.Start(t)
		ns := netnstest.New(t)
		conn := m.Connect(t)
		foreign := "/" + strings.Trim(t.TempDir(), "/") + "/foreign.sock"
		add := func(id uint32, file string) {
			t.Helper()
			if _, err := vpp.Call[memif.MemifSocketFilenameAddDelV2Reply](t.Context(), conn, socketExchange(id, file, true).Request); err != nil {
				t.Fatal(err)
			}
		}
		untagged := memifDeviceOf(ns.Path)
		add(1, foreign)
		add(2, untagged.SocketFile())
		add(3, "abstract:millrace/unused,netns_name="+ns.Path)
		for socket, d := range map[uint32]dataplane.Memif{1: {RingSize: 2, BufferSize: 64}, 2: untagged} {
			if _, err := vpp.Call[memif.MemifCreateV2Reply](t.Context(), conn, memifExchange(d, socket).Request); err != nil {
				t.Fatal(err)
			}
		}
		p := program(t, conn)
		if have := observe(t, p); have.Len() != 1 || !strings.Contains(have.String(), "untagged:") {
			t.Errorf("observed\n%s, want the untagged one alone", have)
		}
		if err := p.Sweep(t.Context(), dataplane.State{}); err != nil {
			t.Fatal(err)
		}
		reach(t, p, memifWish(t, untagged))
		hello(t, ns, untagged)
		reach(t, p, dataplane.State{})
		if diff := cmp.Diff([]string{foreign}, sockets(t, p)); diff != "" {
			t.Errorf("sockets that are left (-want +got):\n%s", diff)
		}
		n := 0
		for range vpp.Dump[memif.MemifDetails](t.Context(), conn, &memif.MemifDump{}) {
			n++
		}
		if n != 1 {
			t.Errorf("%d interfaces are left, want the foreign one", n)
		}
	})
}

// attempt applies the wish and returns the first error.
func attempt(t *testing.T, p *Program, want dataplane.State) (first error) {
	t.Helper()
	p.Apply(t.Context(), dataplane.Diff(observe(t, p), want), nil, func(_ dataplane.Step, err error) {
		if first == nil {
			first = err
		}
	})
	return first
}

// sockets are the machine's but its own number 0.
func sockets(t *testing.T, p *Program) []string {
	t.Helper()
	var files []string
	for d, err := range vpp.Dump[memif.MemifSocketFilenameDetails](t.Context(), p.conn, &memif.MemifSocketFilenameDump{}) {
		if err != nil {
			t.Fatal(err)
		}
		if d.SocketID != 0 {
			files = append(files, d.SocketFilename)
		}
	}
	return files
}

func noSockets(t *testing.T, p *Program) {
	t.Helper()
	if s := observe(t, p); s.Len() != 0 {
		t.Errorf("something of ours is left:\n%s", s)
	}
	if files := sockets(t, p); len(files) != 0 {
		t.Errorf("sockets are left: %v", files)
	}
}

const (
	ack        = 1
	disconnect = 8
)

// hello introduces itself as a client would, and wants to be taken; with a wrong secret or
// mode it wants to be refused.
func hello(t *testing.T, ns *netnstest.Namespace, d dataplane.Memif) {
	t.Helper()
	text, _, _ := d.Secret.Reveal()
	if got := introduce(t, ns, d, text); got != ack {
		t.Errorf("%+v answers the client with message %d, want an ACK", d, got)
	}
	if text != "" {
		if got := introduce(t, ns, d, text+"?"); got != disconnect {
			t.Errorf("%+v answers a client with another secret with message %d, want a DISCONNECT", d, got)
		}
	}
	if d.Mode = dataplane.MemifIP - d.Mode; introduce(t, ns, d, text) != disconnect {
		t.Errorf("a client in mode %s is not refused", d.Mode)
	}
}

// introduce returns the type of the server's answer to INIT. A client that leaves before
// its INIT would end VPP 25.10: its memif_master_conn_fd_read_ready forgets the connection
// and reads from it once more.
func introduce(t *testing.T, ns *netnstest.Namespace, d dataplane.Memif, secret string) (answer byte) {
	t.Helper()
	ns.Run(t, func() error {
		fd, err := connect(d.Socket)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		b := make([]byte, 256)
		n, err := unix.Read(fd, b)
		if err == nil && (n != 128 || b[0] != 2) {
			err = fmt.Errorf("%d bytes of type %d came, want a HELLO", n, b[0])
		}
		if err != nil {
			return err
		}
		init := make([]byte, 128)
		init[0], init[8] = 3, byte(d.Mode)
		binary.LittleEndian.PutUint16(init[2:], 0x0200)
		binary.LittleEndian.PutUint32(init[4:], d.ID)
		copy(init[9:32], secret)
		copy(init[33:64], "test")
		if _, err = unix.Write(fd, init); err == nil {
			n, err = unix.Read(fd, b)
		}
		if err == nil && n != 128 {
			err = fmt.Errorf("%d bytes came after INIT", n)
		}
		answer = b[0]
		return err
	})
	return answer
}

func refused(t *testing.T, ns *netnstest.Namespace, socket string) {
	t.Helper()
	ns.Run(t, func() error {
		fd, err := connect(socket)
		if errors.Is(err, unix.ECONNREFUSED) {
			return nil
		}
		if err == nil {
			unix.Close(fd)
		}
		return fmt.Errorf("connecting to %s in %s: %v, want it refused", socket, ns.Name, err)
	})
}

func connect(socket string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	timeout := unix.Timeval{Sec: 10}
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: "@" + socket})
	}
	if err != nil {
		unix.Close(fd)
	}
	return fd, err
}

func listen(socket string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + socket}); err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		unix.Close(fd)
	}
	return fd, err
}

func TestSocketGone(t *testing.T) {
	socket := &vpp.Error{Message: "memif_socket_filename_add_del_v2", Err: api.INVALID_ARGUMENT}
	create := &vpp.Error{Message: "memif_create_v2", Err: api.INVALID_ARGUMENT}
	if !isGone(socket) || isGone(create) {
		t.Errorf("unknown socket: gone %v; bad argument of another message: gone %v", isGone(socket), isGone(create))
	}
}
