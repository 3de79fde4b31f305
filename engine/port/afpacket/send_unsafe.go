package afpacket

import (
	"fmt"
	"unsafe"

	"github.com/millrace/millrace/engine/packet"
	"golang.org/x/sys/unix"
)

// sendBatch is how many packets one sendmmsg carries.
const sendBatch = 64

// mmsghdr is the kernel's struct mmsghdr.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// sender is one transmit queue. Its arrays are filled anew for each batch and pointed to
// each other once.
type sender struct {
	fd      int
	mode    Mode
	names   [2]unix.RawSockaddrLinklayer // IPv4, IPv6: IP mode tells the kernel by them
	msgs    [sendBatch]mmsghdr
	iovs    [sendBatch][2]unix.Iovec
	headers [sendBatch][packet.VirtioLen]byte // for packets without headroom
}

func newSender(fd, ifIndex int, mode Mode) *sender {
	s := &sender{fd: fd, mode: mode}
	for i, proto := range []uint16{unix.ETH_P_IP, unix.ETH_P_IPV6} {
		s.names[i] = unix.RawSockaddrLinklayer{Family: unix.AF_PACKET, Protocol: htons(proto), Ifindex: int32(ifIndex)}
	}
	for i := range s.msgs {
		s.msgs[i].hdr.Iov = &s.iovs[i][0]
	}
	return s
}

func (s *sender) transmit(bufs []*packet.Buffer) (int, error) {
	taken := 0
	for len(bufs) > 0 {
		n := min(len(bufs), sendBatch)
		for i, b := range bufs[:n] {
			s.point(i, b)
		}
		sent, done, err := s.send(n)
		taken += sent
		if done || err != nil {
			return taken, err
		}
		bufs = bufs[n:]
	}
	return taken, nil
}

// point makes message i the packet b with its virtio-net header before it.
func (s *sender) point(i int, b *packet.Buffer) {
	m, iov := &s.msgs[i].hdr, &s.iovs[i]
	if s.mode == ModeIP && b.Len() > 0 {
		name := &s.names[0]
		if b.Bytes()[0]>>4 == 6 {
			name = &s.names[1]
		}
		m.Name = (*byte)(unsafe.Pointer(name))
		m.Namelen = unix.SizeofSockaddrLinklayer
	}
	if whole := b.FrontAndBytes(packet.VirtioLen); whole != nil {
		b.Offload.PutVirtio(whole[:packet.VirtioLen])
		iov[0].Base = unsafe.SliceData(whole)
		iov[0].SetLen(len(whole))
		m.SetIovlen(1)
		return
	}
	b.Offload.PutVirtio(s.headers[i][:])
	p := b.Bytes()
	iov[0].Base = &s.headers[i][0]
	iov[0].SetLen(packet.VirtioLen)
	iov[1].Base = unsafe.SliceData(p)
	iov[1].SetLen(len(p))
	m.SetIovlen(2)
}

// send hands messages 0 to n-1 over. done means that the host takes no more for now.
func (s *sender) send(n int) (sent int, done bool, err error) {
	for i := 0; i < n; {
		got, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(s.fd),
			uintptr(unsafe.Pointer(&s.msgs[i])), uintptr(n-i), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			sent += int(got)
			i += int(got)
		case unix.EAGAIN, unix.ENETDOWN:
			return sent, true, nil
		case unix.EINTR:
		case unix.ENXIO, unix.ENODEV, unix.EBADF:
			return sent, true, fmt.Errorf("send to af_packet: the host's interface is gone: %w", errno)
		default:
			i++ // this packet is refused, the next may not be
		}
	}
	return sent, false, nil
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }
