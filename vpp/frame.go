package vpp

import (
	"encoding/binary"
	"fmt"
	"io"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/codec"
)

// On the socket a message is preceded by 16 bytes (struct msgbuf in vlibapi/api.h):
// u64 unused, u32 length of the message that follows, big endian, u32 unused.
// The message starts with u16 id, then by kind (see api.MessageType):
//
//	RequestMessage  u32 client_index, u32 context
//	ReplyMessage    u32 context
//	EventMessage    u32 client_index
const (
	frameHeader  = 16
	frameLength  = 8 // offset of the length in it
	maxFrame     = 64 << 20
	replyContext = 2 // offset of the context in a ReplyMessage
	wideContext  = 6 // and in a RequestMessage: some replies are of that kind
	shortest     = wideContext + 4
)

// Fixed by the protocol, since they are used before the table is known.
const (
	idSockclntCreate      = 15
	idSockclntCreateReply = 16
)

// appendFrame adds one request with its frame header to out.
func appendFrame(out []byte, msg api.Message, id uint16, client, context uint32) ([]byte, error) {
	data, err := codec.EncodeMsg(msg, id)
	if err != nil {
		return out, fmt.Errorf("encode message: %w", err)
	}
	if msg.GetMessageType() == api.RequestMessage {
		binary.BigEndian.PutUint32(data[2:], client)
		binary.BigEndian.PutUint32(data[6:], context)
	} else { // sockclnt_create is typed as a reply
		binary.BigEndian.PutUint32(data[replyContext:], context)
	}
	at := len(out)
	out = append(out, make([]byte, frameHeader)...)
	binary.BigEndian.PutUint32(out[at+frameLength:], uint32(len(data)))
	return append(out, data...), nil
}

// readFrame returns the next message, in memory of its own.
func readFrame(r io.Reader) ([]byte, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(header[frameLength:])
	if length < replyContext || length > maxFrame {
		return nil, fmt.Errorf("read frame: a message of %d bytes is announced, between %d and %d are possible", length, replyContext, maxFrame)
	}
	frame := make([]byte, length)
	if _, err := io.ReadFull(r, frame); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return frame, nil
}

func frameID(frame []byte) uint16 { return binary.BigEndian.Uint16(frame) }
