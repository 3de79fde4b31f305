package conformance

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	binapi "go.fd.io/govpp/binapi/memif"

	"github.com/millrace/millrace/memif"
)

const (
	master = binapi.MEMIF_ROLE_API_MASTER
	slave  = binapi.MEMIF_ROLE_API_SLAVE
)

// far is the other side's role.
func far(role binapi.MemifRole) memif.Role {
	if role == master {
		return memif.Client
	}
	return memif.Server
}

// memifPeer is the test's end of a memif, by package memif. It satisfies cable. In IP mode
// it takes frames with an Ethernet header and gives such ones, with zeros for MACs.
type memifPeer struct {
	*memif.Interface
	bufs [][]byte
	end  func() // of the peer: what a process does that leaves
}

// peer attaches to the machine's memif with the given socket in the runtime directory.
func (s *Session) peer(role memif.Role, file string, c memif.Config) *memifPeer {
	s.T.Helper()
	return s.peerAt(memif.SocketConfig{Role: role, Address: filepath.Join(s.dir, file)}, c)
}

func (s *Session) peerAt(at memif.SocketConfig, c memif.Config) *memifPeer {
	s.T.Helper()
	at.Retry = 20 * time.Millisecond
	socket, err := memif.NewSocket(at)
	if err != nil {
		s.T.Fatal(err)
	}
	i, err := socket.Add(c)
	if err != nil {
		s.T.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- socket.Run(ctx) }()
	p := &memifPeer{Interface: i, bufs: [][]byte{make([]byte, 1<<17)}}
	ended := false
	p.end = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := errors.Join(<-done, i.Close()); err != nil {
			s.T.Errorf("end memif peer: %v", err)
		}
	}
	s.T.Cleanup(p.end)
	return p
}

// up waits for the peer's link.
func (p *memifPeer) up(s *Session) {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(s.T.Context(), patience)
	defer cancel()
	if err := p.WaitUp(ctx); err != nil {
		s.T.Fatalf("memif link: %v; so far:\n%s", err, s.Transcript())
	}
}

func (p *memifPeer) isIP() bool { return p.Config().Mode == memif.IP }

func (p *memifPeer) send(frame []byte) error {
	if p.isIP() {
		frame = frame[14:]
	}
	for end := time.Now().Add(patience / 5); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if n, err := p.TxQueue(0).Send([][]byte{frame}); n == 1 || err != nil {
			return err
		}
		if !p.Status().Up {
			return nil
		}
	}
	return nil // the machine does not read
}

func (p *memifPeer) read(within time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for {
		n, err := p.RxQueue(0).Receive(p.bufs)
		switch {
		case errors.Is(err, memif.ErrClosed):
			return nil, nil // the peer is played no more
		case err != nil:
			return nil, fmt.Errorf("receive: %w", err)
		}
		if n == 1 {
			break
		}
		if err := p.RxQueue(0).Wait(ctx); errors.Is(err, context.DeadlineExceeded) {
			return nil, nil
		} else if err != nil {
			return nil, fmt.Errorf("wait: %w", err)
		}
	}
	if !p.isIP() {
		return append([]byte(nil), p.bufs[0]...), nil
	}
	frame := append(make([]byte, 14), p.bufs[0]...)
	kind := uint16(0x0800)
	if frame[14]>>4 == 6 {
		kind = 0x86dd
	}
	binary.BigEndian.PutUint16(frame[12:], kind)
	return frame, nil
}

// Memif makes a memif with the machine in the given role, and sets it up. The n-th port
// has socket n, id n and the MACs of Port.
func (s *Session) Memif(role binapi.MemifRole, mode binapi.MemifMode) *Port {
	s.T.Helper()
	n := uint32(len(s.ports) + 1)
	file := fmt.Sprintf("m%d.sock", n)
	p := &Port{
		s: s, Name: fmt.Sprintf("memif%d/%d", n, n),
		MAC: net.HardwareAddr{2, 0xfe, 0, 0, 0, byte(n)}, Peer: net.HardwareAddr{2, 0, 0, 0, 0, byte(n)},
	}
	s.Must(&binapi.MemifSocketFilenameAddDelV2{IsAdd: true, SocketID: n, SocketFilename: file})
	q := &binapi.MemifCreateV2{Role: role, Mode: mode, ID: n, SocketID: n}
	if mode == binapi.MEMIF_MODE_API_ETHERNET {
		q.HwAddr = mac(p.MAC)
	}
	p.Index = s.Must(q).(*binapi.MemifCreateV2Reply).SwIfIndex
	s.ports = append(s.ports, p)
	s.Up(p.Index)
	peer := s.peer(far(role), file, memif.Config{ID: n, Mode: memif.Mode(mode)})
	peer.up(s)
	p.cable = peer
	s.link(p.Index, true)
	return p
}

// link waits until the machine sees the link of an interface up, or down.
func (s *Session) link(index interfaceIndex, up bool) {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(s.T.Context(), patience)
	defer cancel()
	for ctx.Err() == nil {
		for _, d := range s.Details(&interfaces.SwInterfaceDump{SwIfIndex: index}) {
			if (d.(*interfaces.SwInterfaceDetails).Flags&interface_types.IF_STATUS_API_FLAG_LINK_UP != 0) == up {
				return
			}
		}
		s.pause(ctx)
	}
	s.T.Fatalf("link of interface %d is never up=%t; so far:\n%s", index, up, s.Transcript())
}
