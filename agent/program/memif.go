package program

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/memif"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/secret"
	"github.com/millrace/millrace/vpp"
)

// ourSockets begins the file name of every memif socket that is ours.
const ourSockets = "abstract:" + dataplane.MemifSockets

// memifSettings are what an interface was made with and no dump returns: VPP's memif_dump
// has ring and buffer size of the present connection only, and queues, secret and the use
// of DMA not at all. They stand in the tag, behind the name, so that a changed wish makes
// the interface anew also when the agent has been away meanwhile. They are written out,
// not hashed: a plan can then say what changes.
//
// Five bytes, or eleven with a secret's digest, in base64: receive queues, transmit
// queues, log2 of the ring size with the use of DMA above it, buffer size.
type memifSettings struct{ dataplane.Memif }

const (
	settingsMark = "#" // may not stand in a name
	settingsDMA  = 0x80
	settingsSize = 5
)

func (s memifSettings) String() string {
	b := []byte{s.RxQueues, s.TxQueues, byte(bits.TrailingZeros32(s.RingSize))}
	if s.UseDMA {
		b[2] |= settingsDMA
	}
	b = binary.BigEndian.AppendUint16(b, s.BufferSize)
	if !s.Secret.IsZero() {
		digest := s.Secret.Digest()
		b = append(b, digest[:]...)
	}
	return settingsMark + base64.RawURLEncoding.EncodeToString(b)
}

func parseMemifSettings(text string) (s memifSettings, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) != settingsSize && len(b) != settingsSize+secret.DigestSize {
		return memifSettings{}, false
	}
	s.RxQueues, s.TxQueues, s.UseDMA = b[0], b[1], b[2]&settingsDMA != 0
	s.RingSize = 1 << (b[2] &^ settingsDMA & 31)
	s.BufferSize = binary.BigEndian.Uint16(b[3:])
	if rest := b[settingsSize:]; len(rest) > 0 {
		s.Secret = secret.Of(secret.Digest(rest))
	}
	return s, true
}

// tag is what an interface carries in the machine.
func (p *Program) tag(o dataplane.Interface) string {
	switch d := o.Device.(type) {
	case dataplane.Memif:
		return p.id.Mark + o.Name + memifSettings{d}.String()
	case dataplane.NIC:
		return p.id.Mark + o.Name + nicSettings{d}.String()
	}
	return p.id.Mark + o.Name
}

// parseTag returns the name in a tag of ours, and what stands behind it.
func (p *Program) parseTag(tag string) (name, settings string, ours bool) {
	rest, ours := strings.CutPrefix(tag, p.id.Mark)
	name, settings, _ = strings.Cut(rest, settingsMark)
	return name, settings, ours
}

// memifSockets are the sockets of the machine by their numbers, everybody's: a number that
// is taken must not be given out again.
type memifSockets map[uint32]string

// unused is the smallest number that is free; 0 is VPP's own.
func (m memifSockets) unused() uint32 {
	for id := uint32(1); ; id++ {
		if _, taken := m[id]; !taken {
			return id
		}
	}
}

// lackForMemifs is why no memif is made: one that could not be looked at would be made
// again and again.
func (p *Program) lackForMemifs() error {
	missing := p.conn.Supports(
		&memif.MemifCreateV2{}, &memif.MemifCreateV2Reply{}, &memif.MemifDelete{}, &memif.MemifDeleteReply{}, &memif.MemifDump{}, &memif.MemifDetails{},
		&memif.MemifSocketFilenameAddDelV2{}, &memif.MemifSocketFilenameAddDelV2Reply{}, &memif.MemifSocketFilenameDump{}, &memif.MemifSocketFilenameDetails{},
	)
	if len(missing) > 0 {
		return fmt.Errorf("memif interfaces are off: the dataplane lacks %s: %w", strings.Join(missing, ", "), vpp.ErrUnsupported)
	}
	return nil
}

// observeMemifs reads sockets and interfaces. One on a socket of ours that has no tag is
// what a crash left between making and tagging it; it comes back under a name that no wish
// has.
func (p *Program) observeMemifs(ctx context.Context, seen *observed) error {
	p.sockets = memifSockets{}
	if p.lackForMemifs() != nil {
		return nil // the plugin is not loaded, or of another version: none was made
	}
	for d, err := range vpp.Dump[memif.MemifSocketFilenameDetails](ctx, p.conn, &memif.MemifSocketFilenameDump{}) {
		if err != nil {
			return err
		}
		p.sockets[d.SocketID] = d.SocketFilename
	}
	p.unusedSockets = map[uint32]bool{}
	for id, file := range p.sockets {
		p.unusedSockets[id] = strings.HasPrefix(file, ourSockets)
	}
	for d, err := range vpp.Dump[memif.MemifDetails](ctx, p.conn, &memif.MemifDump{}) {
		if err != nil {
			return err
		}
		delete(p.unusedSockets, d.SocketID)
		index, file := uint32(d.SwIfIndex), p.sockets[d.SocketID]
		own := port{index: index, driver: driverMemif}
		if strings.HasPrefix(file, ourSockets) {
			own.socket = d.SocketID
		}
		name, tagged := seen.names[index]
		if !tagged {
			if own.socket == 0 || seen.all[index] == nil || seen.all[index].Tag != "" {
				continue
			}
			name = fmt.Sprintf("untagged:%d", index)
			seen.details[name] = seen.all[index]
		}
		p.ports[name] = own
		if device, ok := memifDevice(d, file, seen.settings[name]); ok {
			seen.devices[name] = device
		}
	}
	return nil
}

// memifDevice is not ok for one that is not as we make them: it is made anew.
func memifDevice(d *memif.MemifDetails, file, settings string) (dataplane.Memif, bool) {
	s, ok := parseMemifSettings(settings)
	socket, isAbstract := strings.CutPrefix(file, "abstract:")
	if !ok || !isAbstract || d.Role != memif.MEMIF_ROLE_API_MASTER {
		return dataplane.Memif{}, false
	}
	m := s.Memif
	m.ID = d.ID
	m.Socket, m.Netns, _ = strings.Cut(socket, ",netns_name=")
	switch d.Mode {
	case memif.MEMIF_MODE_API_ETHERNET:
		m.Mode, m.MAC = dataplane.MemifEthernet, dataplane.MAC(d.HwAddr)
	case memif.MEMIF_MODE_API_IP:
		m.Mode = dataplane.MemifIP
	default:
		return dataplane.Memif{}, false
	}
	return m, true
}

// addSockets makes a socket for each memif among the interfaces to be made, and returns
// their numbers by step. It is a round trip of its own: the answer to each must be known
// before an interface is put on it, lest that lands on somebody else's socket.
func (p *Program) addSockets(ctx context.Context, steps []dataplane.Step, errs []error) map[int]uint32 {
	ids := map[int]uint32{}
	b := newBatch(len(steps))
	for i, step := range steps {
		d, ok := step.Object.(dataplane.Interface).Device.(dataplane.Memif)
		if !ok {
			continue
		}
		if err := p.checkMemif(ctx, d); err != nil {
			b.fail(i, err)
			continue
		}
		ids[i] = p.sockets.unused()
		p.sockets[ids[i]] = d.SocketFile()
		b.add(i, socketExchange(ids[i], d.SocketFile(), true), nil)
	}
	b.run(ctx, p.conn)
	for i, err := range b.errs {
		if errs[i] = err; err != nil {
			// A number that somebody took since the last look stays noted as taken.
			if !errors.Is(err, api.ENTRY_ALREADY_EXISTS) {
				delete(p.sockets, ids[i])
			}
			delete(ids, i)
		}
	}
	return ids
}

// checkMemif finds what the machine would not refuse, and yet not do.
func (p *Program) checkMemif(ctx context.Context, d dataplane.Memif) error {
	if err := p.lackForMemifs(); err != nil {
		return err
	}
	if _, _, known := d.Secret.Reveal(); !known {
		return fmt.Errorf("its secret is known by the digest only: this wish was read from a text")
	}
	// VPP lets an interface that cannot listen exist on its socket for ever after.
	h, err := handle(d.Netns)
	if err != nil {
		return err
	}
	h.Close()
	if !d.UseDMA {
		return nil
	}
	backends, err := p.conn.CLI(ctx, "show dma backends")
	if backends = strings.TrimSpace(backends); err != nil || backends == "" || strings.HasPrefix(backends, "No ") {
		return fmt.Errorf("it is to copy by DMA, for which this dataplane has nothing: set memif.useDMA to false, or give VPP a DMA engine and load its plugin (dma_intel)")
	}
	return nil
}

func socketExchange(id uint32, file string, add bool) vpp.Exchange {
	return vpp.Exchange{
		Request: &memif.MemifSocketFilenameAddDelV2{IsAdd: add, SocketID: id, SocketFilename: file},
		Reply:   &memif.MemifSocketFilenameAddDelV2Reply{},
	}
}

func memifExchange(d dataplane.Memif, socket uint32) vpp.Exchange {
	req := &memif.MemifCreateV2{
		Role: memif.MEMIF_ROLE_API_MASTER, Mode: memif.MEMIF_MODE_API_ETHERNET, ID: d.ID, SocketID: socket,
		RxQueues: d.RxQueues, TxQueues: d.TxQueues, RingSize: d.RingSize, BufferSize: d.BufferSize,
		UseDma: d.UseDMA, HwAddr: [6]byte(d.MAC),
	}
	if d.Mode == dataplane.MemifIP {
		req.Mode = memif.MEMIF_MODE_API_IP
	}
	req.Secret, _, _ = d.Secret.Reveal() // checkMemif has made sure that it is known
	return vpp.Exchange{Request: req, Reply: &memif.MemifCreateV2Reply{}}
}

func createdMemif(socket uint32, e vpp.Exchange) (port, bool) {
	r, ok := e.Reply.(*memif.MemifCreateV2Reply)
	if !ok || e.Err != nil {
		return port{}, false
	}
	return port{index: uint32(r.SwIfIndex), driver: driverMemif, socket: socket}, true
}

// asksNeighbors says that an interface finds out by itself who is at its other end. For
// IPv6 that takes a link-local address to ask from, which borrowed addresses do not bring.
func (p *Program) asksNeighbors(o dataplane.Interface) bool {
	switch d := o.Device.(type) {
	case dataplane.Memif:
		return d.Mode == dataplane.MemifEthernet
	case dataplane.Veth:
		return p.id.HostLinks // else the wish names who is there
	case dataplane.Tap:
		return true
	}
	return false
}

func enableIP6(index interface_types.InterfaceIndex) vpp.Exchange {
	return vpp.Exchange{
		Request: &ip.SwInterfaceIP6EnableDisable{SwIfIndex: index, Enable: true},
		Reply:   &ip.SwInterfaceIP6EnableDisableReply{},
	}
}

// deleteMemif removes the interface, then its socket if that is ours.
func deleteMemif(index interface_types.InterfaceIndex, socket uint32) []vpp.Exchange {
	all := []vpp.Exchange{{Request: &memif.MemifDelete{SwIfIndex: index}, Reply: &memif.MemifDeleteReply{}}}
	if socket != 0 {
		all = append(all, socketExchange(socket, "", false))
	}
	return all
}

// isSocketGone tells the refusal that means there is no such socket: VPP's invalid argument,
// which no other field of a deletion can bring about.
func isSocketGone(err error) bool {
	e, ok := errors.AsType[*vpp.Error](err)
	return ok && e.Message == (&memif.MemifSocketFilenameAddDelV2{}).GetMessageName() && errors.Is(err, api.INVALID_ARGUMENT)
}

// removeSockets deletes sockets that no interface uses. One that is gone already is fine.
func (p *Program) removeSockets(ctx context.Context, ids ...uint32) error {
	b := newBatch(len(ids))
	b.asDone = isGone
	for i, id := range ids {
		b.add(i, socketExchange(id, "", false), nil)
	}
	b.run(ctx, p.conn)
	for i, err := range b.errs {
		if err == nil {
			delete(p.sockets, ids[i])
		}
	}
	return errors.Join(b.errs...)
}

// sweepSockets deletes the sockets of ours that a crash left without an interface.
func (p *Program) sweepSockets(ctx context.Context) error {
	var ids []uint32
	for id, unused := range p.unusedSockets {
		if unused {
			ids = append(ids, id)
		}
	}
	p.unusedSockets = nil
	if err := p.removeSockets(ctx, ids...); err != nil {
		return fmt.Errorf("sweep memif sockets: %w", err)
	}
	return nil
}
