package memif

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode"
)

// Messages of the control socket, as in memif.h (memif_msg_t): 128 bytes, packed, in host
// order, which is little endian.

type messageType uint16

const (
	typeAck        messageType = 1
	typeHello      messageType = 2
	typeInit       messageType = 3
	typeAddRegion  messageType = 4
	typeAddRing    messageType = 5
	typeConnect    messageType = 6
	typeConnected  messageType = 7
	typeDisconnect messageType = 8
)

var typeNames = [...]string{
	typeAck: "ACK", typeHello: "HELLO", typeInit: "INIT", typeAddRegion: "ADD_REGION", typeAddRing: "ADD_RING",
	typeConnect: "CONNECT", typeConnected: "CONNECTED", typeDisconnect: "DISCONNECT",
}

func (t messageType) String() string {
	if int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return "unknown message"
}

// message is one datagram. Its fields are read through the typed values below.
type message [messageBytes]byte

func (m *message) kind() messageType { return messageType(binary.LittleEndian.Uint16(m[0:])) }

func newMessage(t messageType) *message {
	m := new(message)
	binary.LittleEndian.PutUint16(m[0:], uint16(t))
	return m
}

// hello is what a server offers. The limits are highest indices, not numbers of things.
type hello struct {
	name                              string
	minVersion, maxVersion            uint16
	maxRegion, maxM2SRing, maxS2MRing uint16
	maxLog2RingSize                   uint8
}

func (h hello) encode() *message {
	m := newMessage(typeHello)
	putText(m[2:34], h.name)
	binary.LittleEndian.PutUint16(m[34:], h.minVersion)
	binary.LittleEndian.PutUint16(m[36:], h.maxVersion)
	binary.LittleEndian.PutUint16(m[38:], h.maxRegion)
	binary.LittleEndian.PutUint16(m[40:], h.maxM2SRing)
	binary.LittleEndian.PutUint16(m[42:], h.maxS2MRing)
	m[44] = h.maxLog2RingSize
	return m
}

func (m *message) hello() hello {
	return hello{
		name:            text(m[2:34]),
		minVersion:      binary.LittleEndian.Uint16(m[34:]),
		maxVersion:      binary.LittleEndian.Uint16(m[36:]),
		maxRegion:       binary.LittleEndian.Uint16(m[38:]),
		maxM2SRing:      binary.LittleEndian.Uint16(m[40:]),
		maxS2MRing:      binary.LittleEndian.Uint16(m[42:]),
		maxLog2RingSize: m[44],
	}
}

// initiation is the INIT message: who the client is.
type initiation struct {
	version uint16
	id      uint32
	mode    Mode
	secret  [24]byte
	name    string
}

func (i initiation) encode() *message {
	m := newMessage(typeInit)
	binary.LittleEndian.PutUint16(m[2:], i.version)
	binary.LittleEndian.PutUint32(m[4:], i.id)
	m[8] = uint8(i.mode)
	copy(m[9:33], i.secret[:])
	putText(m[33:65], i.name)
	return m
}

func (m *message) initiation() initiation {
	return initiation{
		version: binary.LittleEndian.Uint16(m[2:]),
		id:      binary.LittleEndian.Uint32(m[4:]),
		mode:    Mode(m[8]),
		secret:  [24]byte(m[9:33]),
		name:    text(m[33:65]),
	}
}

// addRegion goes with the descriptor of the region's memory.
type addRegion struct {
	index uint16
	size  uint64
}

func (a addRegion) encode() *message {
	m := newMessage(typeAddRegion)
	binary.LittleEndian.PutUint16(m[2:], a.index)
	binary.LittleEndian.PutUint64(m[4:], a.size)
	return m
}

func (m *message) addRegion() addRegion {
	return addRegion{index: binary.LittleEndian.Uint16(m[2:]), size: binary.LittleEndian.Uint64(m[4:])}
}

// addRing goes with the ring's eventfd.
type addRing struct {
	s2m               bool
	index, region     uint16
	offset            uint32
	log2Size          uint8
	privateHeaderSize uint16
}

func (a addRing) encode() *message {
	m := newMessage(typeAddRing)
	if a.s2m {
		binary.LittleEndian.PutUint16(m[2:], 1)
	}
	binary.LittleEndian.PutUint16(m[4:], a.index)
	binary.LittleEndian.PutUint16(m[6:], a.region)
	binary.LittleEndian.PutUint32(m[8:], a.offset)
	m[12] = a.log2Size
	binary.LittleEndian.PutUint16(m[13:], a.privateHeaderSize)
	return m
}

func (m *message) addRing() addRing {
	return addRing{
		s2m:               binary.LittleEndian.Uint16(m[2:])&1 != 0,
		index:             binary.LittleEndian.Uint16(m[4:]),
		region:            binary.LittleEndian.Uint16(m[6:]),
		offset:            binary.LittleEndian.Uint32(m[8:]),
		log2Size:          m[12],
		privateHeaderSize: binary.LittleEndian.Uint16(m[13:]),
	}
}

// connect is a CONNECT or CONNECTED message: the name of the sender's interface.
func encodeConnect(t messageType, ifName string) *message {
	m := newMessage(t)
	putText(m[2:34], ifName)
	return m
}

func (m *message) ifName() string { return text(m[2:34]) }

// disconnect says why a connection ends.
type disconnect struct {
	code   uint32
	reason string
}

func (d disconnect) encode() *message {
	m := newMessage(typeDisconnect)
	binary.LittleEndian.PutUint32(m[2:], d.code)
	putText(m[6:102], d.reason)
	return m
}

func (m *message) disconnect() disconnect {
	return disconnect{code: binary.LittleEndian.Uint32(m[2:]), reason: text(m[6:102])}
}

// putText writes s with a final zero, cut where it does not fit.
func putText(field []byte, s string) { copy(field[:len(field)-1], s) }

// text reads a field up to its first zero. What does not print becomes a question mark:
// the peer's words end up in logs.
func text(field []byte) string {
	if i := bytes.IndexByte(field, 0); i >= 0 {
		field = field[:i]
	}
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, string(field))
}
