package api

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"go.fd.io/govpp/api"
)

// A frame on the socket:
//
//	0       8           12     16
//	| queue | length BE | mark | message: u16 id BE, then by kind
//
// length counts the message alone. Queue and mark mean something to VPP's own memory
// only; clients send zero.
const (
	frameHeader = 16
	// maxFrame bounds a message in bytes. The largest known, an ACL of 100,000 rules,
	// needs half of it.
	maxFrame = 16 << 20
	// inBuffer is what is read at once; frames that fit are handled in place.
	inBuffer = 64 << 10
)

// errFrame says that a client sent a length which no message has.
var errFrame = errors.New("frame exceeds the limit")

// Offsets of a message's fields after its u16 id, by kind. The kind follows the fields,
// not the name: sockclnt_create counts as a reply.
//
//	RequestMessage   id, u32 client_index, u32 context, fields at 10
//	ReplyMessage     id, u32 context,                   fields at 6
//	EventMessage     id, u32 client_index,              fields at 6
//	OtherMessage     id,                                fields at 2
func fieldsOffset(kind api.MessageType) int {
	switch kind {
	case api.RequestMessage:
		return 10
	case api.ReplyMessage, api.EventMessage:
		return 6
	default:
		return 2
	}
}

// messageContext is the context of a received message that is at least as long as its
// fieldsOffset.
func messageContext(kind api.MessageType, msg []byte) uint32 {
	switch kind {
	case api.RequestMessage:
		return binary.BigEndian.Uint32(msg[6:])
	case api.ReplyMessage:
		return binary.BigEndian.Uint32(msg[2:])
	default:
		return 0
	}
}

// putHeader writes what stands before the fields of a sent message.
func putHeader(kind api.MessageType, msg []byte, id uint16, context, client uint32) {
	binary.BigEndian.PutUint16(msg, id)
	switch kind {
	case api.RequestMessage:
		binary.BigEndian.PutUint32(msg[6:], context)
	case api.ReplyMessage:
		binary.BigEndian.PutUint32(msg[2:], context)
	case api.EventMessage:
		binary.BigEndian.PutUint32(msg[2:], client)
	}
}

// frameReader cuts frames out of a stream.
type frameReader struct {
	r    *bufio.Reader
	used int // bytes of the frame given out in place, to be discarded
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, inBuffer)}
}

// next returns the message of the next frame, valid until the next call. Memory grows
// with the bytes that arrive, never with the length a client claims. An io.EOF is the
// clean end between two frames.
func (f *frameReader) next() ([]byte, error) {
	if _, err := f.r.Discard(f.used); err != nil {
		return nil, fmt.Errorf("read frame: %w", err)
	}
	f.used = 0
	header, err := f.r.Peek(frameHeader)
	if err != nil {
		if len(header) > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	length := int(binary.BigEndian.Uint32(header[8:]))
	if length > maxFrame {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", errFrame, length, maxFrame)
	}
	if frameHeader+length <= inBuffer {
		frame, err := f.r.Peek(frameHeader + length)
		if err != nil {
			return nil, fmt.Errorf("read frame of %d bytes: %w", length, io.ErrUnexpectedEOF)
		}
		f.used = len(frame)
		return frame[frameHeader:], nil
	}
	if _, err := f.r.Discard(frameHeader); err != nil {
		return nil, fmt.Errorf("read frame: %w", err)
	}
	var body bytes.Buffer
	if n, err := body.ReadFrom(io.LimitReader(f.r, int64(length))); err != nil || n != int64(length) {
		return nil, fmt.Errorf("read frame of %d bytes: %w", length, errors.Join(err, io.ErrUnexpectedEOF))
	}
	return body.Bytes(), nil
}

// ready reports whether a further whole frame is already buffered, so that its answer
// may share a write with that of the present one.
func (f *frameReader) ready() bool {
	have := f.r.Buffered() - f.used
	if have < frameHeader {
		return false
	}
	buffered, err := f.r.Peek(f.used + frameHeader)
	if err != nil {
		return false
	}
	length := binary.BigEndian.Uint32(buffered[f.used+8:])
	return int64(length) <= int64(have-frameHeader)
}
