package packet

// Fragmenter cuts one IPv4 packet into fragments (RFC 791, section 2.3), one at a time,
// into buffers of the caller. It starts at the network header: fragments have no L2
// header, but as much headroom as the packet had with one.
type Fragmenter struct {
	src  *Buffer
	ip   IPv4
	at   int // next payload byte
	size int // payload bytes per fragment, a multiple of 8
	// later is the header of all fragments but the first: options without the copied
	// flag are left out (RFC 791, section 3.1).
	later    [60]byte
	laterLen int
}

// Start begins the cutting of b, whose L3 is set, for an L3 MTU. MustNotFragment: DF is
// set. A pending checksum is finished first, since no fragment could finish it. A GSO
// packet is BadOffload: segment it before. A packet that fits gives one fragment, itself.
func (f *Fragmenter) Start(b *Buffer, mtu int) Reason {
	if b.Offload.GSO&^GSOECN != GSONone {
		return BadOffload
	}
	ip, r := ParseIPv4(b.L3Bytes())
	if r != OK {
		return r
	}
	if ip.DontFragment() && len(ip) > mtu {
		return MustNotFragment
	}
	hl := ip.HeaderLen()
	size := (mtu - hl) &^ 7
	if len(ip) <= mtu {
		size = len(ip) - hl
	} else if size < 8 {
		return NoRoom
	}
	if r := FinishChecksum(b); r != OK {
		return r
	}
	*f = Fragmenter{src: b, ip: ip, size: size}
	copy(f.later[:], ip[:IPv4Len])
	n, r := copiedOptions(f.later[IPv4Len:], ip.Options())
	if r != OK {
		return r
	}
	f.laterLen = IPv4Len + n
	f.later[ip4VerIHL] = 0x40 | byte(f.laterLen/4)
	return OK
}

// Remaining is how many more fragments Next will make.
func (f *Fragmenter) Remaining() int {
	left := len(f.ip) - f.ip.HeaderLen() - f.at
	if f.at == 0 && left == 0 {
		return 1
	}
	return (left + max(f.size, 1) - 1) / max(f.size, 1)
}

// Next makes dst the next fragment and reports whether there was one. dst gets the
// learned values of the packet, with L3 0, and L4 in the first fragment only.
func (f *Fragmenter) Next(dst *Buffer) bool {
	if f.src == nil || f.Remaining() == 0 {
		return false
	}
	header := f.later[:f.laterLen]
	if f.at == 0 {
		header = f.ip[:f.ip.HeaderLen()]
	}
	payload := f.ip.Payload()[f.at:]
	n := min(f.size, len(payload))
	if Headroom+len(header)+n > len(*dst.own) {
		return false
	}
	dst.Reset(Headroom)
	dst.SetLen(len(header) + n)
	p := IPv4(dst.Bytes())
	copy(p, header)
	copy(p[len(header):], payload[:n])
	f.finishHeader(p, n < len(payload))
	dst.CopyMeta(f.src)
	dst.Offload = Offload{}
	dst.L3, dst.L4 = 0, 0
	if f.at == 0 && f.src.L4 != 0 {
		dst.L4 = f.src.L4 - f.src.L3
	}
	f.at += n
	if f.at == len(f.ip)-f.ip.HeaderLen() {
		f.src = nil
	}
	return true
}

func (f *Fragmenter) finishHeader(p IPv4, more bool) {
	field := f.ip.fragmentField()
	offset := field&ip4FragMask + uint16(f.at/8)
	flags := field & (ip4DF | ip4MF)
	if more {
		flags |= ip4MF
	}
	p.setFragment(flags | offset)
	p.SetTotalLen(len(p))
	p.UpdateHeaderChecksum()
}

// IPv4 options of one byte (RFC 791, section 3.1).
const (
	optEnd  = 0
	optNop  = 1
	optCopy = 0x80
)

// copiedOptions writes those of opts that every fragment must carry, padded to a
// multiple of four bytes, and returns the length.
func copiedOptions(dst, opts []byte) (int, Reason) {
	n := 0
	for len(opts) > 0 && opts[0] != optEnd {
		if opts[0] == optNop {
			opts = opts[1:]
			continue
		}
		if len(opts) < 2 || int(opts[1]) < 2 || int(opts[1]) > len(opts) {
			return 0, BadOption
		}
		l := int(opts[1])
		if opts[0]&optCopy != 0 {
			n += copy(dst[n:], opts[:l])
		}
		opts = opts[l:]
	}
	for n%4 != 0 {
		dst[n] = optEnd
		n++
	}
	return n, OK
}
