package memif_test

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"github.com/millrace/millrace/memif"
)

// A judge says what one side of the protocol must answer to each message, from memif.h and
// the promises of the package; it shares no code with what it judges.

// serverJudge is a server of id 0, Ethernet, secret "s".
type serverJudge struct {
	*talk
	said    []int
	kind    memif.Kind // of the end
	greeted bool       // INIT was accepted: the interface knows of the connection
	up      bool
	gone    bool

	regions []file // as mapped, with their sizes
	mapped  uint64
	ups     uint16
	downs   uint16
	badRing bool // one has no cookie
}

// right is a message as a good client would say it next.
func (j *serverJudge) right(op int) line {
	if j.said == nil {
		j.said = []int{rawTypeHello}
	}
	switch op {
	case 0:
		return line{rawInit(0, 0, "s"), nil}
	case 1:
		return line{rawAddRegion(uint16(len(j.regions)), guestBytes), []int{mainFile}}
	case 2:
		return line{rawAddRing(true, j.ups, 0, 0, guestLog2), []int{eventsFile}}
	case 3:
		return line{rawAddRing(false, j.downs, 0, guestDownAt, guestLog2), []int{eventsFile}}
	case 4:
		return line{rawConnect(), nil}
	case 5:
		return line{rawDisconnect(3, "fuzz"), nil}
	case 6:
		return line{rawAddRegion(uint16(len(j.regions)), 4096), []int{smallFile}}
	}
	return line{newRaw(uint16(op)), nil}
}

func (j *serverJudge) leave(kind memif.Kind, say ...int) {
	j.gone, j.kind = true, kind
	j.said = append(j.said, say...)
}

// end is the end of the client's socket.
func (j *serverJudge) end() {
	if j.said == nil {
		j.said = []int{rawTypeHello}
	}
	if !j.gone { // it is told of, in case it still reads
		j.leave(memif.Ended, rawTypeDisconnect)
	}
}

func (j *serverJudge) answer(l line) {
	if j.gone {
		return
	}
	m := rawMessage(l.msg)
	if len(m) != rawBytes || j.greeted && !j.up && len(l.files) > 1 {
		j.leave(memif.Protocol, rawTypeDisconnect)
		return
	}
	if m.kind() == rawTypeDisconnect {
		j.leave(memif.Refused)
		return
	}
	switch ok := j.accepts(m, l.files); {
	case !ok:
		j.leave(memif.Protocol, rawTypeDisconnect)
	case m.kind() == rawTypeConnect:
		j.up = true
		j.said = append(j.said, rawTypeConnected)
	default:
		j.said = append(j.said, rawTypeAck)
	}
}

func (j *serverJudge) accepts(m rawMessage, files []int) bool {
	of := func() file {
		if len(files) == 0 {
			return file{}
		}
		return j.files[files[0]]
	}
	switch kind := m.kind(); {
	case j.up:
		return false
	case !j.greeted:
		secret := append([]byte("s"), make([]byte, 23)...)
		j.greeted = kind == rawTypeInit && le.Uint16(m[2:]) == 0x200 && le.Uint32(m[4:]) == 0 && m[8] == 0 && bytes.Equal(m[9:33], secret)
		return j.greeted
	case kind == rawTypeAddRegion:
		return j.region(le.Uint16(m[2:]), le.Uint64(m[4:]), of())
	case kind == rawTypeAddRing:
		return j.ring(m, of())
	case kind == rawTypeConnect:
		return !j.badRing
	}
	return false
}

func (j *serverJudge) region(index uint16, size uint64, f file) bool {
	if j.ups+j.downs > 0 || int(index) != len(j.regions) || size == 0 || size > f.size || size > j.most-j.mapped {
		return false
	}
	f.size = size
	j.regions = append(j.regions, f)
	j.mapped += size
	return true
}

func (j *serverJudge) ring(m rawMessage, f file) bool {
	n := &j.downs
	if m[2]&1 != 0 {
		n = &j.ups
	}
	region, offset, log2 := int(le.Uint16(m[6:])), uint64(le.Uint32(m[8:])), m[12]
	if le.Uint16(m[4:]) != *n || !f.event || region >= len(j.regions) || log2 < 1 || log2 > 15 ||
		le.Uint16(m[13:]) != 0 || offset%16 != 0 || offset+128+16<<log2 > j.regions[region].size {
		return false
	}
	*n++
	j.badRing = j.badRing || !slices.Contains(j.regions[region].cookie, offset)
	return true
}

// clientJudge is a client with two rings of 4 each way and buffers of 64 bytes.
type clientJudge struct {
	said    []int
	kind    memif.Kind
	gone    bool
	acks    int // that came
	rings   [2]int
	log2    uint8
	started bool
	up      bool
}

func (j *clientJudge) right(op int) line {
	switch op {
	case 0:
		return line{rawHello(), nil}
	case 1:
		return line{rawAck(), nil}
	case 2:
		return line{rawConnected(), nil}
	case 5:
		return line{rawDisconnect(3, "fuzz"), nil}
	}
	return line{newRaw(uint16(op)), nil}
}

func (j *clientJudge) leave(kind memif.Kind, say ...int) {
	j.gone, j.kind = true, kind
	j.said = append(j.said, say...)
}

func (j *clientJudge) end() {
	if !j.gone {
		j.leave(memif.Ended, rawTypeDisconnect)
	}
}

func (j *clientJudge) answer(l line) {
	m := rawMessage(l.msg)
	switch {
	case j.gone:
	case len(m) != rawBytes:
		j.leave(memif.Protocol, rawTypeDisconnect)
	case m.kind() == rawTypeDisconnect:
		j.leave(memif.Refused)
	case !j.accepts(m):
		j.leave(memif.Protocol, rawTypeDisconnect)
	default:
		j.said = append(j.said, j.next()...)
	}
}

func (j *clientJudge) accepts(m rawMessage) bool {
	switch {
	case j.up:
		return false
	case !j.started:
		j.rings = [2]int{min(2, int(le.Uint16(m[42:]))+1), min(2, int(le.Uint16(m[40:]))+1)}
		j.log2 = min(2, m[44])
		j.started = m.kind() == rawTypeHello && le.Uint16(m[34:]) <= 0x200 && le.Uint16(m[36:]) >= 0x200 && m[44] > 0
		return j.started
	case j.acks < j.requests():
		j.acks++
		return m.kind() == rawTypeAck
	}
	j.up = m.kind() == rawTypeConnected
	return j.up
}

// requests are those that an ACK answers: INIT, one region, the rings.
func (j *clientJudge) requests() int { return 2 + j.rings[0] + j.rings[1] }

// next is what the client says to what it accepted.
func (j *clientJudge) next() []int {
	switch {
	case j.up:
		return nil
	case j.acks == 0:
		return []int{rawTypeInit}
	case j.acks == 1:
		return []int{rawTypeAddRegion}
	case j.acks < j.requests():
		return []int{rawTypeAddRing}
	}
	return []int{rawTypeConnect}
}

// check looks at what the client says of its memory.
func (j *clientJudge) check(t *testing.T, said []rawMessage) {
	size, at, seen := uint64(math.MaxUint64), uint64(0), [2]uint16{}
	for _, m := range said {
		switch m.kind() {
		case rawTypeAddRegion:
			size = le.Uint64(m[4:])
		case rawTypeAddRing:
			isUp := int(1 - m[2]&1)
			offset := uint64(le.Uint32(m[8:]))
			if le.Uint16(m[4:]) != seen[isUp] || le.Uint16(m[6:]) != 0 || m[12] != j.log2 || offset < at || offset+128+16<<m[12] > size {
				t.Errorf("a ring %x behind %d in %d bytes", m[:16], at, size)
			}
			at = offset + 128 + 16<<m[12]
			seen[isUp]++
		}
	}
}
