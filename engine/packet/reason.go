package packet

// Reason says why bytes are not a valid header, or why a packet may not be built. The
// zero value OK means that nothing is wrong.
type Reason uint8

const (
	OK              Reason = iota
	Truncated              // shorter than its header, or than the header says
	BadVersion             // IP version does not fit the ethertype
	BadHeaderLength        // IHL or TCP data offset out of range
	BadLength              // length field contradicts the bytes
	BadChecksum            // header or transport checksum is wrong
	BadFragment            // overlapping or overlong fragment (RFC 1858, RFC 8200 4.5)
	BadOption              // malformed IP or ND option, or too many extension headers
	BadOffload             // Offload contradicts the packet
	BadValue               // a field that a protocol fixes has another value
	Unsupported            // well formed, but not handled (jumbograms, other hardware types)
	NoRoom                 // the buffer's headroom or tail is too small
	MustNotFragment        // too big for the MTU and DF is set, or IPv6
	MustNotAnswer          // RFC 1122 3.2.2 or RFC 4443 2.4(e) forbids an ICMP error
	numReasons
)

// String is the reason in a few words, fit for a counter's name.
func (r Reason) String() string {
	names := [numReasons]string{
		OK:              "ok",
		Truncated:       "truncated",
		BadVersion:      "bad version",
		BadHeaderLength: "bad header length",
		BadLength:       "bad length",
		BadChecksum:     "bad checksum",
		BadFragment:     "bad fragment",
		BadOption:       "bad option",
		BadOffload:      "bad offload",
		BadValue:        "bad value",
		Unsupported:     "unsupported",
		NoRoom:          "no room",
		MustNotFragment: "must not fragment",
		MustNotAnswer:   "must not answer",
	}
	if r >= numReasons {
		return "unknown"
	}
	return names[r]
}
