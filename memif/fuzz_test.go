package memif

import (
	"encoding/binary"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// FuzzMessages decodes any 128 bytes as every message: nothing panics, and what is read is
// written back as it was.
func FuzzMessages(f *testing.F) {
	f.Add(addRing{s2m: true, index: 1, region: 2, offset: 3, log2Size: 4}.encode()[:])
	f.Add(hello{name: "x", maxLog2RingSize: 14}.encode()[:])
	f.Add(initiation{version: versionTwo, id: 7, name: "y"}.encode()[:])
	f.Fuzz(func(t *testing.T, data []byte) {
		var m message
		copy(m[:], data)
		if got := m.hello().encode().hello(); got != m.hello() {
			t.Errorf("hello %+v, then %+v", m.hello(), got)
		}
		if got := m.addRegion().encode().addRegion(); got != m.addRegion() {
			t.Errorf("region %+v, then %+v", m.addRegion(), got)
		}
		if got := m.addRing().encode().addRing(); got != m.addRing() {
			t.Errorf("ring %+v, then %+v", m.addRing(), got)
		}
		if got := m.initiation().encode().initiation(); got.id != m.initiation().id || got.secret != m.initiation().secret {
			t.Errorf("init %+v, then %+v", m.initiation(), got)
		}
		_, _, _ = m.ifName(), m.disconnect(), m.kind().String()
	})
}

// FuzzControl reads its input as messages of a client, and has a server answer them. Each
// begins with a byte that says which descriptor goes along.
func FuzzControl(f *testing.F) {
	var good []byte
	put := func(kind byte, m *message) { good = append(append(good, kind), m[:]...) }
	put(0, initiation{version: versionTwo}.encode())
	put(1, addRegion{size: 1 << 16}.encode())
	put(2, addRing{s2m: true, log2Size: 3}.encode())
	put(2, addRing{log2Size: 3, offset: 512}.encode())
	put(0, encodeConnect(typeConnect, "c"))
	put(0, disconnect{reason: "bye"}.encode())
	f.Add(good)
	f.Add(good[:300])
	f.Fuzz(func(t *testing.T, script []byte) {
		s := &Socket{config: SocketConfig{Role: Server, Address: "@fuzz"}, interfaces: map[uint32]*Interface{}}
		if err := s.config.complete(); err != nil {
			t.Fatal(err)
		}
		i, err := s.Add(Config{MaxMemory: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := connected(t)
		served := make(chan struct{})
		go func() {
			defer close(served)
			c, hall := newControl(ours), newLobby(1)
			hall.enter(c)
			s.serve(t.Context(), c, hall)
		}()
		play(t, theirs, script)
		if i.Status().Up {
			bufs := [][]byte{make([]byte, 100)}
			_, _ = i.RxQueue(0).Receive(bufs)
			_, _ = i.TxQueue(0).Send(bufs)
		}
		_ = theirs.Close()
		select {
		case <-served:
		case <-time.After(20 * time.Second):
			t.Fatal("the server does not end with its client")
		}
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	})
}

// connected is a pair of connected sockets.
func connected(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for n, fd := range fds {
		file := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(file)
		if err != nil {
			t.Fatal(err)
		}
		_ = file.Close()
		conns[n] = c.(*net.UnixConn)
	}
	return conns[0], conns[1]
}

// play sends the script's messages; the last may be short.
func play(t *testing.T, to *net.UnixConn, script []byte) {
	t.Helper()
	for n := 0; n < 12 && len(script) > 1; n++ {
		kind, rest := script[0], script[1:]
		size := min(len(rest), messageBytes)
		m := rest[:size]
		script = rest[size:]
		fd := -1
		var err error
		switch kind % 4 {
		case 1:
			if fd, err = unix.MemfdCreate("fuzz", unix.MFD_CLOEXEC); err == nil {
				err = unix.Ftruncate(fd, 1<<16)
			}
		case 2:
			fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		case 3:
			fd, err = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		var oob []byte
		if fd >= 0 {
			oob = unix.UnixRights(fd)
		}
		_, _, err = to.WriteMsgUnix(m, oob, nil)
		closeFD(fd)
		if err != nil {
			return // the server has had enough
		}
	}
}

// FuzzServerMemory and FuzzClientMemory read their input as a program: writes into the
// shared memory, between calls on the queues. The region ends where nothing is mapped, so
// that reading one byte too far is a fault; no call panics, and a link ends at most once.
func FuzzServerMemory(f *testing.F) { fuzzMemory(f, false) }
func FuzzClientMemory(f *testing.F) { fuzzMemory(f, true) }

const fuzzRing = 3 // log2

func fuzzMemory(f *testing.F, client bool) {
	f.Add([]byte{0, 4, 0, 0, 0, 3, 0, 8, 8, 9, 10, 11, 12, 13})
	f.Add([]byte{0, 128, 0, 0, 0, 64, 0, 0, 0, 6, 0, 1, 0, 8, 10, 11, 8, 12, 13, 9})
	f.Fuzz(func(t *testing.T, program []byte) {
		s := &Socket{config: SocketConfig{Role: Server, Address: "@fuzz"}, interfaces: map[uint32]*Interface{}}
		i, err := s.Add(Config{MaxFrame: 300})
		if err != nil {
			t.Fatal(err)
		}
		mem, free := guardedMemory(t, 8192)
		defer free()
		ended := 0
		l := newLink(func(error) { ended++ })
		l.addRegion(region{mem: mem, fd: -1, sealed: true})
		list := []*ring{fuzzedRing(t, l, 0, client), fuzzedRing(t, l, 512, client)}
		if client {
			list[1].publish(1 << fuzzRing)
		}
		l.rx, l.tx = list[1:], list[:1]
		if !client {
			l.rx, l.tx = list[:1], list[1:]
		}
		if err := i.up(l, "fuzz", "fuzz"); err != nil {
			t.Fatal(err)
		}
		execute(t, i, mem, program)
		i.down(l, nil)
		l.regions = nil // the memory is the test's
		if err := l.leave(); err != nil {
			t.Error(err)
		}
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	})
}

// guardedMemory is n bytes whose end is the end of what is mapped.
func guardedMemory(t *testing.T, n int) (mem []byte, free func()) {
	t.Helper()
	all, err := unix.Mmap(-1, 0, n+2*4096, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	mem = all[4096 : 4096+n : 4096+n]
	if err := unix.Mprotect(mem, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		t.Fatal(err)
	}
	return mem, func() {
		if err := unix.Munmap(all); err != nil {
			t.Error(err)
		}
	}
}

func fuzzedRing(t *testing.T, l *link, offset uint32, client bool) *ring {
	t.Helper()
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	r := &ring{event: event, client: client, memory: l.memory()}
	r.place(r.memory[0], offset, fuzzRing)
	place := ringPlace{bufferOffset: 8192 - 64*16, bufferSize: 60, stride: 64}
	if offset > 0 {
		place.bufferOffset += 64 * 8
	}
	r.setBuffers(r.memory[0], place)
	r.format()
	return r
}

// execute runs the program: an opcode, then what it needs.
func execute(t *testing.T, i *Interface, mem, program []byte) {
	rx, tx := i.RxQueue(0), i.TxQueue(0)
	bufs := [][]byte{make([]byte, 70), make([]byte, 300), make([]byte, 5)}
	views, room := make([]View, 5), make([]View, 5)
	borrowed, reserved := 0, 0
	take := func(n int) uint64 {
		var b [8]byte
		program = program[copy(b[:n], program):]
		return binary.LittleEndian.Uint64(b[:])
	}
	var sum byte
	for steps := 0; len(program) > 0 && steps < 200; steps++ {
		op := take(1)
		switch op % 14 {
		case 0, 1, 2, 3: // a word near the rings
			at := int(take(2)) % 1024 &^ 3
			binary.LittleEndian.PutUint32(mem[at:], uint32(take(4)))
		case 4: // an index
			at := []int{6, 64, 512 + 6, 512 + 64}[take(1)%4]
			binary.LittleEndian.PutUint16(mem[at:], uint16(take(2)))
		case 5, 6: // a descriptor that leads somewhere
			at := 128 + int(take(1)%16)*16
			if at >= 256 {
				at += 384
			}
			binary.LittleEndian.PutUint16(mem[at:], uint16(take(1)&1))
			binary.LittleEndian.PutUint16(mem[at+2:], 0)
			binary.LittleEndian.PutUint32(mem[at+4:], uint32(take(2)))
			binary.LittleEndian.PutUint32(mem[at+8:], uint32(take(2)))
		case 7:
			mem[int(take(2))%len(mem)] = byte(take(1))
		case 8:
			n, _ := rx.Receive(bufs)
			for _, b := range bufs[:n] {
				sum += b[len(b)-1]
			}
		case 9:
			_, _ = tx.Send([][]byte{make([]byte, 1+take(1)), make([]byte, 60)})
		case 10:
			n, _ := rx.Borrow(views)
			for _, v := range views[:n] {
				for _, c := range v.Bytes {
					sum += c
				}
			}
			borrowed += n
		case 11:
			n := int(take(1))
			rx.Release(n)
			borrowed -= min(n, borrowed)
		case 12:
			reserved, _ = tx.Reserve(room)
			for _, v := range room[:reserved] {
				for k := range v.Bytes {
					v.Bytes[k] = sum
				}
			}
		case 13:
			n := min(int(take(1)), reserved)
			_, _ = tx.Commit(room[:n])
			reserved = 0
		}
	}
	rx.Release(borrowed)
}
