package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"github.com/millrace/millrace/dataplane"
)

// aclName is head/tail/hash, as much of it as a person needs and a machine's tag holds.
// The hash is of identity; where head had to be changed or cut, it is longer.
func aclName(head, tail string, identity []byte) string {
	const short, long = 8, 12
	id := hex.EncodeToString(identity)
	tail = "/" + tail + "/"
	if dataplane.CleanName(head) == head && len(head)+len(tail)+short <= dataplane.NameMax {
		return head + tail + id[:short]
	}
	head = dataplane.CleanName(head)
	if room := dataplane.NameMax - long - len(tail) - 1; len(head) > room {
		head = head[:room]
	}
	return head + ":" + tail + id[:long]
}

func hashText(parts ...string) []byte {
	h := sha256.New()
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p))))
		h.Write([]byte(p))
	}
	return h.Sum(nil)
}

// hashRules is the hash of an ACL's content, and of whom it is from.
func hashRules(identity string, rules []dataplane.Rule) []byte {
	h := sha256.New()
	buffer := append(make([]byte, 0, 64<<10), identity...)
	for _, r := range rules {
		buffer = append(buffer, byte(r.Action), r.Protocol)
		buffer = append(append(buffer, r.Src.Addr().AsSlice()...), byte(r.Src.Bits()))
		buffer = append(append(buffer, r.Dst.Addr().AsSlice()...), byte(r.Dst.Bits()))
		for _, port := range [...]uint16{r.SrcPorts.First, r.SrcPorts.Last, r.DstPorts.First, r.DstPorts.Last} {
			buffer = binary.BigEndian.AppendUint16(buffer, port)
		}
		if len(buffer) > 63<<10 {
			h.Write(buffer)
			buffer = buffer[:0]
		}
	}
	h.Write(buffer)
	return h.Sum(nil)
}
