package vpp

import (
	"context"
	"fmt"
	"iter"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/memclnt"
)

// Dump sends req and yields its details in the order they come:
//
//	for intf, err := range vpp.Dump[interfaces.SwInterfaceDetails](ctx, conn, &interfaces.SwInterfaceDump{}) {
//
// A dump has no end mark; a control_ping sent behind it serves as one. An error is
// yielded once, with a nil message, and is the last. The loop's body may call on the
// same connection; leaving the loop early is fine. Each range sends the request anew.
func Dump[T any, P message[T]](ctx context.Context, conn *Conn, req api.Message) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		for msg, err := range conn.Details(ctx, req, func() api.Message { return P(new(T)) }) {
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield((*T)(msg.(P)), nil) {
				return
			}
		}
	}
}

// Details is Dump for details whose type is not known at compile time; blank makes one.
func (c *Conn) Details(ctx context.Context, req api.Message, blank func() api.Message) iter.Seq2[api.Message, error] {
	return func(yield func(api.Message, error) bool) {
		w, err := c.await(blank(), &memclnt.ControlPingReply{})
		if err != nil {
			yield(nil, failed(req, err))
			return
		}
		defer c.forget(w)
		if err := c.send(ctx, w, req, &memclnt.ControlPing{}); err != nil {
			yield(nil, failed(req, err))
			return
		}
		for {
			frame, err := c.wait(ctx, w)
			if err != nil {
				yield(nil, failed(req, err))
				return
			}
			if frameID(frame) == c.pingReply {
				return
			}
			details := blank()
			if err := decode(frame, details); err != nil {
				yield(nil, failed(req, err))
				return
			}
			if !yield(details, nil) {
				return
			}
		}
	}
}

// Stream yields the details of a request that the peer answers in portions (the *_get
// messages): details, then a reply R that either ends the stream (retval 0) or holds a
// cursor to go on from (retval -165, try again). req's Cursor is set by Stream.
func Stream[T, R any, P message[T], Q message[R]](ctx context.Context, conn *Conn, req api.Message) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		if !conn.field(req, cursorField).CanSet() {
			yield(nil, failed(req, fmt.Errorf("it has no cursor: use Dump or Call")))
			return
		}
		for cursor := uint64(0); ; {
			conn.field(req, cursorField).SetUint(cursor)
			reply := Q(new(R))
			if !portion[T, P](ctx, conn, req, reply, yield) {
				return
			}
			if retval := conn.retval(reply); retval != int32(api.EAGAIN) {
				if err := checkRetval(req, retval); err != nil {
					yield(nil, err)
				}
				return
			}
			cursor = conn.field(reply, cursorField).Uint()
		}
	}
}

// portion yields one portion's details and fills reply; false ends the stream.
func portion[T any, P message[T]](ctx context.Context, conn *Conn, req, reply api.Message, yield func(*T, error) bool) bool {
	end := func(err error) bool {
		yield(nil, failed(req, err))
		return false
	}
	w, err := conn.await(P(new(T)), reply)
	if err != nil {
		return end(err)
	}
	defer conn.forget(w)
	if err := conn.send(ctx, w, req); err != nil {
		return end(err)
	}
	for {
		frame, err := conn.wait(ctx, w)
		if err != nil {
			return end(err)
		}
		if frameID(frame) == w.ids[1] {
			if err := decode(frame, reply); err != nil {
				return end(err)
			}
			return true
		}
		details := new(T)
		if err := decode(frame, P(details)); err != nil {
			return end(err)
		}
		if !yield(details, nil) {
			return false
		}
	}
}
