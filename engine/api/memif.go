package api

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"math/rand/v2"
	"net"
	"slices"
	"sync"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/memif"

	"github.com/millrace/millrace/engine/port"
	memifport "github.com/millrace/millrace/engine/port/memif"
	"github.com/millrace/millrace/engine/vnet"
	library "github.com/millrace/millrace/memif"
)

// memifMessages are those of memif.api.
func (s *Server) memifMessages() []*entry {
	return slices.Concat(
		handle(s.memifSocketFilenameAddDel),
		handle(s.memifSocketFilenameAddDelV2),
		handleDump(s.memifSocketFilenameDump),
		handle(s.memifCreate),
		handle(s.memifCreateV2),
		handle(s.memifDelete),
		handleDump(s.memifDump),
	)
}

// memifs are the registered sockets and the interfaces on them.
type memifs struct {
	// mu is held over whole requests: a socket's role and its ids are decided while a
	// device opens. The devices' links change without it.
	mu      sync.Mutex
	sockets map[uint32]*memifSocket
	devices map[uint32]*memifDevice // by sw_if_index
}

// memifDevice is one memif_create that succeeded.
type memifDevice struct {
	id       uint32
	socket   *memifSocket
	port     *memifport.Port
	zeroCopy bool
}

func (s *Server) memifCreate(c *session, q *memif.MemifCreate, r *memif.MemifCreateReply) (err error) {
	r.SwIfIndex, err = s.addMemif(&memif.MemifCreateV2{
		Role: q.Role, Mode: q.Mode, RxQueues: q.RxQueues, TxQueues: q.TxQueues, ID: q.ID, SocketID: q.SocketID,
		RingSize: q.RingSize, BufferSize: q.BufferSize, NoZeroCopy: q.NoZeroCopy, HwAddr: q.HwAddr, Secret: q.Secret,
	})
	return err
}

// memifCreateV2: there is no DMA engine here, and use_dma is ignored as VPP does where it
// finds none.
func (s *Server) memifCreateV2(_ *session, q *memif.MemifCreateV2, r *memif.MemifCreateV2Reply) (err error) {
	r.SwIfIndex, err = s.addMemif(q)
	return err
}

// addMemif makes memif<socket>/<id>. As in VPP, the index that goes with an error is 0.
func (s *Server) addMemif(q *memif.MemifCreateV2) (interface_types.InterfaceIndex, error) {
	if bits.OnesCount32(q.RingSize) > 1 {
		return 0, api.INVALID_ARGUMENT
	}
	s.memifs.mu.Lock()
	defer s.memifs.mu.Unlock()
	on, ok := s.memifs.sockets[q.SocketID]
	role := library.Client
	if q.Role == memif.MEMIF_ROLE_API_MASTER {
		role = library.Server
	}
	switch {
	case !ok:
		return 0, api.INVALID_ARGUMENT
	case len(on.ids) > 0 && on.role != role, on.ids[q.ID]:
		return 0, api.SUBIF_ALREADY_EXISTS
	case q.Mode != memif.MEMIF_MODE_API_ETHERNET && q.Mode != memif.MEMIF_MODE_API_IP:
		return 0, api.SYSCALL_ERROR_2
	}
	d, err := s.openMemif(on, role, q)
	if err != nil {
		return 0, err
	}
	index, err := s.addInterface(vnet.InterfaceSpec{
		Name: fmt.Sprintf("memif%d/%d", on.id, q.ID), DeviceType: deviceMemif,
		NoMTU: d.port.Link() == port.IP, MaxLinkMTU: math.MaxUint16,
	}, d.port, nil)
	if err != nil {
		on.leave()
		return 0, err
	}
	on.ids[q.ID] = true
	s.memifs.devices[index] = d
	d.port.Follow(func(up bool) { s.followMemif(index, up) })
	return interface_types.InterfaceIndex(index), nil
}

// openMemif opens the device, and the socket when it is the first on it.
func (s *Server) openMemif(on *memifSocket, role library.Role, q *memif.MemifCreateV2) (*memifDevice, error) {
	if err := on.enter(role); err != nil {
		return nil, &deviceError{api.SYSCALL_ERROR_4, err}
	}
	c := s.memifConfig(on, role, q)
	p, err := on.port.Open(c)
	if err == nil {
		return &memifDevice{id: q.ID, socket: on, port: p, zeroCopy: role == library.Client && !q.NoZeroCopy}, nil
	}
	on.leave()
	code := api.SYSCALL_ERROR_4
	if e, ok := errors.AsType[*library.Error](err); ok && e.Kind == library.BadConfig {
		code = api.INVALID_ARGUMENT
	}
	return nil, &deviceError{code, err}
}

// memifConfig translates the message. VPP takes ring sizes beyond those of the protocol
// and uses less, too.
func (s *Server) memifConfig(on *memifSocket, role library.Role, q *memif.MemifCreateV2) memifport.Config {
	c := memifport.Config{
		ID: q.ID, Mode: library.Mode(q.Mode), Name: fmt.Sprintf("memif%d/%d", on.id, q.ID),
		Secret: q.Secret[:min(len(q.Secret), library.MaxSecret)],
	}
	if c.Mode == library.Ethernet {
		c.HardwareAddr = macOf(q.HwAddr)
		if c.HardwareAddr == nil {
			r := rand.Uint32()
			c.HardwareAddr = net.HardwareAddr{2, 0xfe, byte(r), byte(r >> 8), byte(r >> 16), byte(r >> 24)}
		}
	}
	if role == library.Server {
		c.RxQueues = max(1, len(s.threads())-1)
		c.TxQueues = c.RxQueues
		return c
	}
	c.RxQueues, c.TxQueues = max(1, int(q.RxQueues)), max(1, int(q.TxQueues))
	c.BufferSize = int(q.BufferSize)
	if q.RingSize != 0 {
		c.RingSize = int(max(2, min(q.RingSize, library.MaxRingSize)))
	}
	return c
}

// followMemif gives the interface the state of its link.
func (s *Server) followMemif(index uint32, up bool) {
	if err := s.plane.SetLinkUp(index, up); err != nil {
		s.log.Warn("interface does not follow its memif link", "interface", index, "err", err)
	}
}

func (s *Server) memifDelete(_ *session, q *memif.MemifDelete, _ *memif.MemifDeleteReply) error {
	s.memifs.mu.Lock()
	defer s.memifs.mu.Unlock()
	index := uint32(q.SwIfIndex)
	d, ok := s.memifs.devices[index]
	if !ok {
		return api.INVALID_SW_IF_INDEX
	}
	d.port.Follow(nil) // the index may serve another interface before the link is down
	if err := s.deleteInterface(index); err != nil {
		d.port.Follow(func(up bool) { s.followMemif(index, up) })
		return err
	}
	delete(s.memifs.devices, index)
	delete(d.socket.ids, d.id)
	d.socket.leave()
	return nil
}

// memifDump tells of a ring's size and a buffer's only what was agreed with the peer: as in
// VPP, nothing before a client's first link, and never for a server.
func (s *Server) memifDump(_ *session, _ *memif.MemifDump, send func(*memif.MemifDetails)) {
	s.memifs.mu.Lock()
	defer s.memifs.mu.Unlock()
	for _, index := range slices.Sorted(maps.Keys(s.memifs.devices)) {
		i, err := s.plane.Interface(index)
		if err != nil {
			continue
		}
		send(memifDetails(i, s.memifs.devices[index]))
	}
}

func memifDetails(i vnet.Interface, d *memifDevice) *memif.MemifDetails {
	r := &memif.MemifDetails{
		SwIfIndex: interface_types.InterfaceIndex(i.Index), HwAddr: wireMAC(i.HardwareAddr), ID: d.id,
		Mode: memif.MEMIF_MODE_API_ETHERNET, ZeroCopy: d.zeroCopy, SocketID: d.socket.id, RingSize: 1,
		Flags: statusFlags(i.AdminUp, i.LinkUp), IfName: i.Name,
	}
	if i.HardwareAddr == nil {
		r.Mode = memif.MEMIF_MODE_API_IP
	}
	if d.socket.role == library.Client {
		r.Role = memif.MEMIF_ROLE_API_SLAVE
		if st := d.port.Status(); st.Links > 0 {
			r.RingSize = cmp.Or(uint32(st.RingSize), 1)
			r.BufferSize = uint16(d.port.Config().BufferSize)
		}
	}
	return r
}
