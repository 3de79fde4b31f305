package memif_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The raw peer speaks memif by hand, in either role. It shares no code with what it tests:
// messages and memory are put together here once more, from memif.h, so that both would
// have to be wrong in the same way. It sends and writes whatever it is told to.

const (
	rawBytes  = 128
	rawCookie = 0x3E31F20
	rawVer    = 0x0200
)

// Types of messages, in the order of memif_msg_type_t.
const (
	rawNone = iota
	rawTypeAck
	rawTypeHello
	rawTypeInit
	rawTypeAddRegion
	rawTypeAddRing
	rawTypeConnect
	rawTypeConnected
	rawTypeDisconnect
)

// rawMessage is a message of 128 bytes; set writes the bytes of a field.
type rawMessage []byte

func newRaw(kind uint16) rawMessage { return make(rawMessage, rawBytes).u16(0, kind) }

func (m rawMessage) u8(at int, v uint8) rawMessage { m[at] = v; return m }
func (m rawMessage) u16(at int, v uint16) rawMessage {
	m[at], m[at+1] = byte(v), byte(v>>8)
	return m
}

func (m rawMessage) u32(at int, v uint32) rawMessage {
	return m.u16(at, uint16(v)).u16(at+2, uint16(v>>16))
}

func (m rawMessage) u64(at int, v uint64) rawMessage {
	return m.u32(at, uint32(v)).u32(at+4, uint32(v>>32))
}
func (m rawMessage) text(at int, s string) rawMessage { copy(m[at:], s); return m }

func (m rawMessage) kind() int { return int(m[0]) | int(m[1])<<8 }

func rawAck() rawMessage { return newRaw(rawTypeAck) }

func rawHello() rawMessage {
	return newRaw(rawTypeHello).text(2, "raw").u16(34, rawVer).u16(36, rawVer).u16(38, 255).u16(40, 255).u16(42, 255).u8(44, 14)
}

func rawInit(id uint32, mode uint8, secret string) rawMessage {
	return newRaw(rawTypeInit).u16(2, rawVer).u32(4, id).u8(8, mode).text(9, secret).text(33, "raw")
}

func rawAddRegion(index uint16, size uint64) rawMessage {
	return newRaw(rawTypeAddRegion).u16(2, index).u64(4, size)
}

func rawAddRing(s2m bool, index, region uint16, offset uint32, log2 uint8) rawMessage {
	m := newRaw(rawTypeAddRing).u16(4, index).u16(6, region).u32(8, offset).u8(12, log2)
	if s2m {
		m.u16(2, 1)
	}
	return m
}

func rawConnect() rawMessage   { return newRaw(rawTypeConnect).text(2, "raw0") }
func rawConnected() rawMessage { return newRaw(rawTypeConnected).text(2, "raw0") }
func rawDisconnect(code uint32, text string) rawMessage {
	return newRaw(rawTypeDisconnect).u32(2, code).text(6, text)
}

// reason is the text of a DISCONNECT.
func (m rawMessage) reason() string {
	end := 6
	for end < 102 && m[end] != 0 {
		end++
	}
	return string(m[6:end])
}

// wire is one end of a control socket. Reading and writing give up after patience, so that
// a test whose peer hangs fails instead of hanging too.
type wire struct{ fd int }

const patience = 10 * time.Second

func newWire(fd int) (wire, error) {
	tv := unix.NsecToTimeval(int64(patience))
	return wire{fd}, errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv))
}

func rawSocket() (int, error) {
	return unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
}

func dialRaw(path string) (wire, error) {
	fd, err := rawSocket()
	if err != nil {
		return wire{}, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return wire{}, errors.Join(err, unix.Close(fd))
	}
	return newWire(fd)
}

func (w wire) close() error { return unix.Close(w.fd) }

// send writes b, whatever its length, with fds.
func (w wire) send(b []byte, fds ...int) error {
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	for {
		err := unix.Sendmsg(w.fd, b, oob, nil, unix.MSG_NOSIGNAL)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

var errSilence = errors.New("nothing came")

// receive returns the next message and what descriptors it brought; net.ErrClosed at the
// end of the socket.
func (w wire) receive() (rawMessage, []int, error) {
	b, oob := make([]byte, 4096), make([]byte, 4096)
	n, oobn, _, _, err := unix.Recvmsg(w.fd, b, oob, unix.MSG_CMSG_CLOEXEC)
	switch {
	case errors.Is(err, unix.EINTR):
		return w.receive()
	case errors.Is(err, unix.EAGAIN):
		return nil, nil, errSilence
	case errors.Is(err, unix.ECONNRESET), err == nil && n == 0:
		return nil, nil, net.ErrClosed
	case err != nil:
		return nil, nil, err
	case n != rawBytes:
		return nil, nil, fmt.Errorf("a message of %d bytes", n)
	}
	var fds []int
	list, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, nil, err
	}
	for i := range list {
		got, err := unix.ParseUnixRights(&list[i])
		if err != nil {
			return nil, nil, err
		}
		fds = append(fds, got...)
	}
	return b[:n], fds, nil
}

// memoryFile makes a memfd of n bytes with the given seals.
func memoryFile(t testing.TB, n int64, seals int) int {
	t.Helper()
	fd, err := unix.MemfdCreate("hostile", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, fd)
	if err := unix.Ftruncate(fd, n); err != nil {
		t.Fatal(err)
	}
	if seals != 0 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
			t.Fatal(err)
		}
	}
	return fd
}

func mapFile(t testing.TB, fd int, n int) []byte {
	t.Helper()
	mem, err := unix.Mmap(fd, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	return mem
}

func eventFile(t testing.TB) int {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, fd)
	return fd
}

func closeLater(t testing.TB, fd int) {
	t.Cleanup(func() {
		if err := unix.Close(fd); err != nil {
			t.Error(err)
		}
	})
}

// openFile opens what a test passes off as memory or as an eventfd.
func openFile(t testing.TB, path string, flags int) int {
	t.Helper()
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(os.NewSyscallError("open "+path, err))
	}
	closeLater(t, fd)
	return fd
}

// rawRing is a ring in mapped memory, seen from outside.
type rawRing struct {
	mem  []byte // from the ring's first byte to the end of its region
	size int
}

var le = binary.LittleEndian

func (r rawRing) setCookie(v uint32) { le.PutUint32(r.mem, v) }
func (r rawRing) flags() uint16      { return le.Uint16(r.mem[4:]) }
func (r rawRing) setFlags(v uint16)  { le.PutUint16(r.mem[4:], v) }
func (r rawRing) head() uint16       { return le.Uint16(r.mem[6:]) }
func (r rawRing) setHead(v uint16)   { le.PutUint16(r.mem[6:], v) }
func (r rawRing) tail() uint16       { return le.Uint16(r.mem[64:]) }
func (r rawRing) setTail(v uint16)   { le.PutUint16(r.mem[64:], v) }

// rawDesc is a descriptor.
type rawDesc struct {
	flags, region  uint16
	length, offset uint32
	meta           uint32
}

func (r rawRing) slot(i int) []byte { return r.mem[128+16*(i&(r.size-1)):][:16] }

func (r rawRing) desc(i int) rawDesc {
	b := r.slot(i)
	return rawDesc{le.Uint16(b), le.Uint16(b[2:]), le.Uint32(b[4:]), le.Uint32(b[8:]), le.Uint32(b[12:])}
}

func (r rawRing) setDesc(i int, d rawDesc) {
	b := r.slot(i)
	le.PutUint16(b, d.flags)
	le.PutUint16(b[2:], d.region)
	le.PutUint32(b[4:], d.length)
	le.PutUint32(b[8:], d.offset)
	le.PutUint32(b[12:], d.meta)
}
