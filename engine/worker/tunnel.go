package worker

import (
	"encoding/binary"
	"math/bits"

	"github.com/millrace/millrace/engine/packet"
)

// Tunnels. What goes out by an interface with a Tunnel gets that one's headers and is sent
// on by the route to its other end. What comes in for a tunnel loses them and is taken for
// what came in by the tunnel's interface, from the first stage on.
//
// GSO packets are cut before, so that each segment is a packet of the tunnel; one that comes
// in whole, from a kernel that cuts tunnelled packets late, stays whole inside.

// Tunnel is the sending side of an interface that is a VXLAN tunnel.
type Tunnel struct {
	Header packet.VXLANHeader
	// Table4 or Table6 is where the route to Remote is.
	Table4 *Table4
	Table6 *Table6
	Remote [16]byte // an IPv4 address is the first four bytes
}

// Decap is what is done with the packets of a tunnel: VPP's decap_next_index.
type Decap uint8

const (
	DecapDrop     Decap = iota
	DecapBridge         // nothing here bridges
	DecapEthernet       // ethernet-input
	DecapIP4            // ip4-input
	DecapIP6            // ip6-input
)

// TunnelKey is what tells the packets of a tunnel.
type TunnelKey struct {
	Remote, Local [16]byte // who sends, and to which address; IPv4 in the first four bytes
	Table         uint32
	VNI           uint32 // as packet.VXLAN's
	Port          uint16 // that it is sent to
	V6            bool
}

// Entrance is a tunnel as a packet finds it.
type Entrance struct {
	Key       TunnelKey
	Interface uint32
	Decap     Decap
}

// Entrances finds tunnels; it is immutable.
type Entrances struct {
	slots []Entrance // a power of two, at most half of them in use
	ports []uint16   // that any tunnel has or had
}

// NewEntrances makes the index of tunnels.
func NewEntrances(list []Entrance, ports []uint16) *Entrances {
	e := &Entrances{ports: ports}
	if len(list) == 0 {
		return e
	}
	e.slots = make([]Entrance, 1<<bits.Len(uint(2*len(list)-1)))
	for _, t := range list {
		at := t.Key.hash() & uint64(len(e.slots)-1)
		for e.slots[at].Key.Port != 0 {
			at = (at + 1) & uint64(len(e.slots)-1)
		}
		e.slots[at] = t
	}
	return e
}

func (k *TunnelKey) hash() uint64 {
	h := binary.LittleEndian.Uint64(k.Remote[:]) ^ bits.RotateLeft64(binary.LittleEndian.Uint64(k.Remote[8:]), 29)
	h ^= bits.RotateLeft64(binary.LittleEndian.Uint64(k.Local[:]), 13) ^ uint64(k.VNI)<<17
	hi, lo := bits.Mul64(h^0x243f6a8885a308d3, 0x9e3779b97f4a7c15)
	return hi ^ lo
}

func (e *Entrances) find(k *TunnelKey) *Entrance {
	if len(e.slots) == 0 {
		return nil
	}
	for at := k.hash() & uint64(len(e.slots)-1); ; at = (at + 1) & uint64(len(e.slots)-1) {
		s := &e.slots[at]
		if s.Key == *k {
			return s
		}
		if s.Key.Port == 0 {
			return nil
		}
	}
}

// hears says whether packets to a port are some tunnel's business.
func (e *Entrances) hears(port uint16) bool {
	for _, p := range e.ports {
		if p == port {
			return true
		}
	}
	return false
}

// encapsulate sends packets, whole and finished, into the tunnel that ifc is. When it
// returns it holds none of them.
func (w *Worker) encapsulate(ifc *Interface, bufs []*packet.Buffer) {
	t, bytes, to := ifc.Tunnel, uint64(0), NoIndex
	for _, buf := range bufs {
		entropy := entropyOf(buf.L3Bytes())
		if buf.Room() < t.Header.Len()+packet.EthLen {
			roomy := w.take()
			if roomy == nil || !roomy.CopyFrom(buf) {
				w.drop(NoBuffers, buf.RxInterface)
				continue
			}
			buf = roomy
		}
		bytes += uint64(buf.Len() + t.Header.Len())
		t.Header.Wrap(buf, entropy, !w.isOwn(buf))
		buf.Meta = [2]uint16{metaOwn: ownBit}
		a := w.underlay(t, entropy)
		if a == nil {
			w.drop(Blackholed, buf.RxInterface)
			continue
		}
		if a.Interface != to {
			w.hurry(to)
			to = a.Interface
		}
		w.carry(buf, a)
	}
	w.hurry(to)
	encapsulated := VXLAN4Encapsulated
	if t.Table6 != nil {
		encapsulated = VXLAN6Encapsulated
	}
	w.count.Errors[encapsulated] += uint64(len(bufs))
	w.count.TX[ifc.Index].add(uint64(len(bufs)), bytes)
}

// hurry sends what waits for an interface: the buffers are needed.
func (w *Worker) hurry(tx uint32) {
	if uint64(tx) < uint64(len(w.outbox.boxes)) && w.outbox.boxes[tx].n > 0 {
		w.emptyBox(tx)
	}
}

// underlay is the adjacency by which a tunnel's packets leave.
func (w *Worker) underlay(t *Tunnel, entropy uint32) *Adjacency {
	t4, t6 := t.Table4, t.Table6
	for range 8 {
		var r *Route
		if t4 != nil {
			r = w.route4(t4, binary.BigEndian.Uint32(t.Remote[:]))
		} else if t6 != nil {
			r = w.route6(t6, t.Remote[:])
		}
		if r == nil {
			return nil
		}
		a := w.state.adjs.Load(r.Balance.Pick(entropy))
		if a == nil || a.Kind != KindLookup {
			return a
		}
		t4, t6 = a.Table4, a.Table6
	}
	return nil
}

// carry sends a packet of a tunnel by the adjacency of its other end. One that is too long
// is cut over IPv4, as VPP does.
func (w *Worker) carry(buf *packet.Buffer, a *Adjacency) {
	rx := buf.RxInterface
	if out := w.batch.interfaceAt(a.Interface); out != nil && out.Tunnel != nil {
		w.drop(TunnelInTunnel, rx)
		return
	}
	switch a.Kind {
	case KindRewrite:
		if buf.Len() > a.MTU {
			if buf.Bytes()[0]>>4 == 6 {
				w.drop(IP6MTU, rx)
				return
			}
			w.fragmentID++
			packet.IPv4(buf.Bytes()).SetID(uint16(w.fragmentID))
			packet.IPv4(buf.Bytes()).UpdateHeaderChecksum()
			buf.Meta[metaFragment] = uint16(min(a.MTU, 0xffff))
		}
		if w.mayLeave(buf, a) {
			w.frame(buf, a)
		}
	case KindUnresolved:
		w.solicit(buf, a, a.NextHop)
	case KindGlean:
		w.glean(buf, a)
	default:
		w.drop(Blackholed, rx)
	}
}

// entropyOf is a hash of the flow of an IP packet; 0 of anything else.
func entropyOf(p []byte) uint32 {
	k := flowKey{}
	var u packet.Upper
	switch {
	case len(p) >= packet.IPv4Len && p[0]>>4 == 4:
		k.a = binary.LittleEndian.Uint64(p[12:])
		u = packet.IPv4(p).Upper()
	case len(p) >= packet.IPv6Len && p[0]>>4 == 6:
		k.a, k.b = binary.LittleEndian.Uint64(p[8:]), binary.LittleEndian.Uint64(p[16:])
		k.c, k.d = binary.LittleEndian.Uint64(p[24:]), binary.LittleEndian.Uint64(p[32:])
		k.f = keyV6
		r := packet.OK
		if u, r = packet.IPv6(p).Upper(); r != packet.OK {
			return 0
		}
	default:
		return 0
	}
	k.f |= uint32(u.Proto)
	if !u.Fragment && len(p) >= u.Offset+4 {
		k.e = uint64(ports(u.Proto, p[u.Offset:]))
	}
	return uint32(k.hash() >> 32)
}
