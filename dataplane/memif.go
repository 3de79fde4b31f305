package dataplane

import (
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/secret"
	"github.com/millrace/millrace/internal/textline"
)

// Memif is the server end (master) of a memif link: the dataplane listens on an abstract
// socket in a network namespace, and a client there brings the shared memory. How many
// rings of which size there are is the client's to say; the numbers here are the most that
// a machine which cares will take. Fields as in VPP's memif.api, memif_create_v2.
type Memif struct {
	Netns      string // where the socket listens: absolute path; empty = the dataplane's own
	Socket     string // abstract name without the leading @ or zero; begins with MemifSockets
	ID         uint32 // tells the links of one socket apart
	Mode       MemifMode
	RxQueues   uint8 // that the dataplane reads, 1 to 255
	TxQueues   uint8 // that it writes, 1 to 255
	RingSize   uint32
	BufferSize uint16      // bytes, 64 to 65535
	Secret     secret.Text // what the client has to know, at most MemifSecretMax bytes; zero = nothing
	UseDMA     bool        // copy by a DMA engine
	MAC        MAC         // the dataplane's own; in ethernet mode only
}

// MemifMode is what a link carries.
type MemifMode uint8

const (
	MemifEthernet MemifMode = iota // Ethernet frames
	MemifIP                        // IP packets without a header of any link
)

const (
	// MemifSockets begins the name of every socket of ours: it marks it in the machine.
	MemifSockets = "millrace/"
	// MemifNameMax is the longest name of an interface made of a Memif: the machine's tag
	// has to hold, beside it, what no dump returns.
	MemifNameMax = 38
	// MemifSecretMax is in bytes: the protocol has 24 for it with a final zero.
	MemifSecretMax = 23
	// memifFileMax is what memif_socket_filename_details returns of a socket's name.
	memifFileMax = 107
)

var memifModeNames = [...]string{MemifEthernet: "ethernet", MemifIP: "ip"}

func (m MemifMode) String() string {
	if int(m) < len(memifModeNames) {
		return memifModeNames[m]
	}
	return fmt.Sprintf("mode-%d", uint8(m))
}

// ParseMemifMode reads ethernet or ip.
func ParseMemifMode(s string) (MemifMode, error) {
	if i := slices.Index(memifModeNames[:], s); i >= 0 {
		return MemifMode(i), nil
	}
	return 0, fmt.Errorf("mode %q: want ethernet or ip", s)
}

// SocketFile is the socket as memif_socket_filename_add_del_v2 takes it.
func (d Memif) SocketFile() string {
	if d.Netns == "" {
		return "abstract:" + d.Socket
	}
	return "abstract:" + d.Socket + ",netns_name=" + d.Netns
}

func (d Memif) device(l *textline.Line) {
	l.Add("device", "memif")
	l.Add("netns", d.Netns)
	l.Add("socket", d.Socket)
	l.AddUint("id", uint64(d.ID))
	l.Add("mode", d.Mode.String())
	l.AddUint("rx-queues", uint64(d.RxQueues))
	l.AddUint("tx-queues", uint64(d.TxQueues))
	l.AddUint("ring", uint64(d.RingSize))
	l.AddUint("buffer", uint64(d.BufferSize))
	l.Add("secret", d.Secret.String())
	if d.UseDMA {
		l.Add("dma", "true")
	}
	if d.Mode == MemifEthernet {
		l.Add("mac", d.MAC.String())
	}
}

func (Memif) hasHost() bool { return false }

func (d Memif) sealed() Device {
	d.Secret = d.Secret.Sealed()
	return d
}

func (d Memif) check() error {
	if err := d.checkSocket(); err != nil {
		return err
	}
	if d.RxQueues == 0 || d.TxQueues == 0 {
		return fmt.Errorf("queues %d and %d: want 1 to 255 each way", d.RxQueues, d.TxQueues)
	}
	if n := d.RingSize; n < 2 || n > 32768 || n&(n-1) != 0 {
		return fmt.Errorf("ring of %d descriptors: want a power of two, 2 to 32768", n)
	}
	if d.BufferSize < 64 {
		return fmt.Errorf("buffers of %d bytes: want 64 to 65535", d.BufferSize)
	}
	if text, _, ok := d.Secret.Reveal(); ok && (len(text) > MemifSecretMax || strings.ContainsRune(text, 0)) {
		return fmt.Errorf("secret of %d bytes: want at most %d, none of them zero", len(text), MemifSecretMax)
	}
	switch d.Mode {
	case MemifEthernet:
		if d.MAC == (MAC{}) || d.MAC[0]&1 != 0 {
			return fmt.Errorf("MAC %s: want a unicast address", d.MAC)
		}
	case MemifIP:
		if d.MAC != (MAC{}) {
			return fmt.Errorf("MAC %s: in ip mode there is none", d.MAC)
		}
	default:
		return fmt.Errorf("%s: want ethernet or ip", d.Mode)
	}
	return nil
}

// checkSocket applies what VPP's reader of socket names takes (vppinfra/socket.c), and
// that what it was told can be read back whole.
func (d Memif) checkSocket() error {
	if err := checkNetns(d.Netns, 200); err != nil {
		return err
	}
	if name, ours := strings.CutPrefix(d.Socket, MemifSockets); !ours || name == "" {
		return fmt.Errorf("socket %q: want %sNAME", d.Socket, MemifSockets)
	}
	for _, s := range []string{d.Socket, d.Netns} {
		for _, c := range []byte(s) {
			letter := c|0x20 >= 'a' && c|0x20 <= 'z'
			if !letter && (c < '0' || c > '9') && !strings.ContainsRune("_/.-", rune(c)) {
				return fmt.Errorf("socket %q in %q has %q: only letters, digits and _ / . - may stand there", d.Socket, d.Netns, c)
			}
		}
	}
	if n := len(d.SocketFile()); n > memifFileMax {
		return fmt.Errorf("socket %s in %s: %d bytes too long for the dataplane, which keeps %d of %q",
			d.Socket, d.Netns, n-memifFileMax, memifFileMax, d.SocketFile())
	}
	return nil
}

func readMemif(r *textline.Reader) Memif {
	return Memif{
		Netns: r.String("netns"), Socket: r.String("socket"),
		ID: textline.One(r, "id", parseUint[uint32]), Mode: textline.One(r, "mode", ParseMemifMode),
		RxQueues: textline.One(r, "rx-queues", parseUint[uint8]), TxQueues: textline.One(r, "tx-queues", parseUint[uint8]),
		RingSize: textline.One(r, "ring", parseUint[uint32]), BufferSize: textline.One(r, "buffer", parseUint[uint16]),
		Secret: textline.One(r, "secret", secret.Parse), UseDMA: textline.One(r, "dma", parseTrue),
		MAC: textline.One(r, "mac", ParseMAC),
	}
}

func parseTrue(s string) (bool, error) {
	if s != "true" {
		return false, fmt.Errorf("%q: want true, or leave it out", s)
	}
	return true, nil
}
