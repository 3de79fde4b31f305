package afpacket

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/millrace/millrace/engine/packet"
	"golang.org/x/sys/unix"
)

// Offsets in a TPACKET_V2 frame (linux/if_packet.h). The kernel puts the virtio-net
// header directly before the packet:
//
//	0      4   8       12  14  16       24       26        32          52
//	status len snaplen mac net time     vlan_tci vlan_tpid sockaddr_ll   ... virtio packet
//	                   \________________________________________________________^
const (
	frameStatus   = 0
	frameLen      = 4
	frameSnap     = 8
	frameMAC      = 12
	frameVLANTCI  = 24
	frameVLANTPID = 26
	framePktType  = 32 + 10 // sockaddr_ll.sll_pkttype

	packetOutgoing = 4 // PACKET_OUTGOING
	statusUser     = unix.TP_STATUS_USER
)

// idleChecks is after how many empty calls in a row a ring asks for the socket's state:
// a pending error makes the descriptor readable for ever.
const idleChecks = 16

// geometry is how a ring is cut: blocks of whole frames, frames that cross no block.
type geometry struct {
	frameSize, framesPerBlock, blockSize, blocks int
}

func newGeometry(frameSize, frames int) geometry {
	page := os.Getpagesize()
	block := max(64<<10, (frameSize+page-1)/page*page)
	per := block / frameSize
	return geometry{frameSize: frameSize, framesPerBlock: per, blockSize: block, blocks: max(1, (frames+per-1)/per)}
}

func (g geometry) bytes() int  { return g.blockSize * g.blocks }
func (g geometry) frames() int { return g.framesPerBlock * g.blocks }

// ring is one receive queue: a socket and the memory it shares with the kernel.
type ring struct {
	fd    int
	mem   []byte
	g     geometry
	head  int // next frame
	empty int // calls in a row that found nothing
	name  unix.RawSockaddrLinklayer

	// lost counts packets that the kernel could only hand over cut off, because the
	// socket's queue for long ones was full.
	lost atomic.Uint64
}

func (r *ring) frame(i int) []byte {
	at := i/r.g.framesPerBlock*r.g.blockSize + i%r.g.framesPerBlock*r.g.frameSize
	return r.mem[at : at+r.g.frameSize : at+r.g.frameSize]
}

// status is the word by which the kernel and we hand a frame to each other.
func status(frame []byte) *uint32 { return (*uint32)(unsafe.Pointer(&frame[frameStatus])) }

func u32(frame []byte, at int) uint32 { return *(*uint32)(unsafe.Pointer(&frame[at : at+4][0])) }
func u16(frame []byte, at int) uint16 { return *(*uint16)(unsafe.Pointer(&frame[at : at+2][0])) }

func (r *ring) receive(bufs []*packet.Buffer) (int, error) {
	n := 0
	for n < len(bufs) {
		f := r.frame(r.head)
		s := atomic.LoadUint32(status(f))
		if s&statusUser == 0 {
			break
		}
		if r.take(f, s, bufs[n]) {
			n++
		}
		atomic.StoreUint32(status(f), unix.TP_STATUS_KERNEL)
		if r.head++; r.head == r.g.frames() {
			r.head = 0
		}
	}
	if n > 0 {
		r.empty = 0
		return n, nil
	}
	if r.empty++; r.empty < idleChecks {
		return 0, nil
	}
	r.empty = 0
	return 0, r.check()
}

// discard gives everything received so far back to the kernel unread.
func (r *ring) discard() {
	b := packet.FromBytes(nil)
	for {
		f := r.frame(r.head)
		s := atomic.LoadUint32(status(f))
		if s&statusUser == 0 {
			return
		}
		r.take(f, s, b)
		atomic.StoreUint32(status(f), unix.TP_STATUS_KERNEL)
		r.head = (r.head + 1) % r.g.frames()
	}
}

// take makes b the packet of frame f and reports whether there was a whole one.
func (r *ring) take(f []byte, s uint32, b *packet.Buffer) bool {
	length, snap, mac := int(u32(f, frameLen)), int(u32(f, frameSnap)), int(u16(f, frameMAC))
	if f[framePktType] == packetOutgoing {
		return false
	}
	b.Reset(packet.Headroom)
	switch {
	case s&unix.TP_STATUS_COPY != 0:
		if !r.takeLong(length, b) {
			r.lost.Add(1)
			return false
		}
	case snap < length || mac < packet.VirtioLen || mac+length > len(f):
		r.lost.Add(1)
		return false
	default:
		b.Append(f[mac : mac+length])
		b.Offload = packet.OffloadFromVirtio(f[mac-packet.VirtioLen:])
	}
	if s&unix.TP_STATUS_VLAN_VALID != 0 {
		tpid := packet.EtherTypeVLAN
		if s&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
			tpid = u16(f, frameVLANTPID)
		}
		return packet.PushVLAN(b, tpid, u16(f, frameVLANTCI))
	}
	return true
}

// takeLong reads the packet of length bytes that did not fit its frame from the socket's
// queue, where the kernel put it whole before it filled the frame. A packet of another
// length belongs to a frame that was lost; it is passed over.
func (r *ring) takeLong(length int, b *packet.Buffer) bool {
	for {
		b.Reset(packet.Headroom - packet.VirtioLen)
		space := b.Space()
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(r.fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(space))), uintptr(len(space)))
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return false
		}
		if int(n) != length+packet.VirtioLen {
			continue
		}
		b.SetLen(int(n))
		b.Pull(packet.VirtioLen)
		b.Offload = packet.OffloadFromVirtio(b.Front(packet.VirtioLen))
		return true
	}
}

// check reads and clears the socket's pending error, and asks whether the kernel took
// the interface away from under the socket. The interface being down is no error: it
// may come up again. Its being gone is final.
func (r *ring) check() error {
	errno, err := unix.GetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return fmt.Errorf("receive from af_packet: %w", err)
	}
	size := uint32(unix.SizeofSockaddrLinklayer)
	if _, _, e := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(r.fd),
		uintptr(unsafe.Pointer(&r.name)), uintptr(unsafe.Pointer(&size))); e != 0 {
		return fmt.Errorf("receive from af_packet: %w", e)
	}
	if r.name.Ifindex > 0 {
		return nil
	}
	if errno == 0 {
		errno = int(unix.ENODEV)
	}
	return fmt.Errorf("receive from af_packet: the host's interface is gone: %w", unix.Errno(errno))
}

func (r *ring) close() error {
	var errs []error
	if r.mem != nil {
		errs = append(errs, unix.Munmap(r.mem))
		r.mem = nil
	}
	return errors.Join(append(errs, unix.Close(r.fd))...)
}
