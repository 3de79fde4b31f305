package api

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/codec"
)

// Message ids that are the same for every server; all others are given out from
// firstID in the order of the table.
const (
	idSockclntCreate      = 15
	idSockclntCreateReply = 16
	firstID               = 17
)

// message is a generated binapi message *T.
type message[T any] interface {
	*T
	wireMessage
}

type wireMessage interface {
	api.Message
	codec.Marshaler
	codec.Unmarshaler
}

// entry is one message of the table. Its serve is nil when only the server sends it.
type entry struct {
	id    uint16
	name  string // name_crc, as in the handshake
	kind  api.MessageType
	proto api.Message
	guard guard
	// retvalAt is where a reply's retval is, in bytes after its first field.
	retvalAt int
	serve    func(c *session, fields []byte, context uint32)
}

// entryOf makes an entry that the server sends.
func entryOf[T any, M message[T]]() *entry {
	m := M(new(T))
	return &entry{
		name:  m.GetMessageName() + "_" + m.GetCrcString(),
		kind:  m.GetMessageType(),
		proto: m,
	}
}

// handle pairs a request with its reply. What f returns becomes the reply's retval,
// which is the first field of most replies.
func handle[Q, R any, PQ message[Q], PR message[R]](f func(*session, PQ, PR) error) []*entry {
	return handleAt(0, f)
}

// handleAt is handle for a reply whose retval is that many bytes after its first field.
func handleAt[Q, R any, PQ message[Q], PR message[R]](at int, f func(*session, PQ, PR) error) []*entry {
	request, reply := entryOf[Q, PQ](), entryOf[R, PR]()
	reply.retvalAt = at
	request.serve = func(c *session, fields []byte, context uint32) {
		q, r := PQ(new(Q)), PR(new(R))
		if !c.decode(request, fields, q) {
			return
		}
		err := f(c, q, r)
		c.send(reply, r, context, c.retval(request, err))
	}
	return []*entry{request, reply}
}

// noRetval is the place of a retval that a reply does not have.
const noRetval = -1

// handlePlain pairs a request with a reply that has no retval.
func handlePlain[Q, R any, PQ message[Q], PR message[R]](f func(PQ, PR)) []*entry {
	return handleAt(noRetval, func(_ *session, q PQ, r PR) error {
		f(q, r)
		return nil
	})
}

// handleDump pairs a dump with its details, of which f sends any number. The end is not
// marked: clients put a control_ping behind the dump.
func handleDump[Q, D any, PQ message[Q], PD message[D]](f func(c *session, q PQ, send func(PD))) []*entry {
	request, details := entryOf[Q, PQ](), entryOf[D, PD]()
	request.serve = func(c *session, fields []byte, context uint32) {
		q := PQ(new(Q))
		if !c.decode(request, fields, q) {
			return
		}
		f(c, q, func(d PD) { c.send(details, d, context, 0) })
	}
	return []*entry{request, details}
}

// retval turns a handler's error into VPP's number. An error that is none of VPP's
// (a syscall that a device needed) is told to the log: the client sees a number only.
func (c *session) retval(e *entry, err error) int32 {
	if err == nil {
		return 0
	}
	code, ok := errors.AsType[api.VPPApiError](err)
	if !ok {
		code = api.UNSPECIFIED
	}
	if error(code) != err {
		c.server.log.Warn("api request failed", "message", e.proto.GetMessageName(), "client", c.name, "err", err)
	}
	return int32(code)
}

// decode reads the fields of a request. A malformed one is dropped without an answer,
// as VPP does.
func (c *session) decode(e *entry, fields []byte, m wireMessage) bool {
	if e.guard != nil && !e.guard.check(fields) {
		c.malformed(e, errCount)
		return false
	}
	if err := unmarshal(m, fields); err != nil {
		c.malformed(e, err)
		return false
	}
	return true
}

var errCount = errors.New("a count exceeds the message")

// unmarshal contains the panics of generated decoders, which index without checking.
// They also slice up to the capacity, and behind a short message lies the next one.
func unmarshal(m wireMessage, fields []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("message is truncated: %v", r)
		}
	}()
	return m.Unmarshal(slices.Clip(fields))
}

func (c *session) malformed(e *entry, err error) {
	c.server.log.LogAttrs(c.ctx, slog.LevelDebug, "malformed api message ignored",
		slog.String("message", e.proto.GetMessageName()), slog.String("client", c.name), slog.Any("err", err))
}

// putRetval overwrites the retval of an encoded reply.
func (e *entry) putRetval(msg []byte, retval int32) {
	binary.BigEndian.PutUint32(msg[fieldsOffset(e.kind)+e.retvalAt:], uint32(retval))
}

// table finds entries by id and names them for the handshake.
type table struct {
	entries []*entry
	byID    []*entry
}

// newTable gives every message its id, in order. The fixed two come first in messages.
func newTable(messages []*entry) (*table, error) {
	t := &table{byID: make([]*entry, firstID, firstID+len(messages))}
	seen := map[string]bool{}
	for _, e := range messages {
		if seen[e.name] {
			continue // want_* of two versions share an event
		}
		seen[e.name] = true
		switch e.proto.GetMessageName() {
		case "sockclnt_create":
			e.id = idSockclntCreate
		case "sockclnt_create_reply":
			e.id = idSockclntCreateReply
		default:
			e.id = uint16(len(t.byID))
			t.byID = append(t.byID, nil)
		}
		t.byID[e.id] = e
		t.entries = append(t.entries, e)
		if e.serve == nil {
			continue
		}
		var err error
		if e.guard, err = newGuard(reflect.TypeOf(e.proto).Elem()); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// find returns the entry of an id, or nil.
func (t *table) find(id uint16) *entry {
	if int(id) >= len(t.byID) {
		return nil
	}
	return t.byID[id]
}
