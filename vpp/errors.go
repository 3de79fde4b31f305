package vpp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.fd.io/govpp/api"
)

var (
	// ErrDisconnected ends every call in flight when the peer goes, and every later call
	// on the same connection. Whether the peer executed a call in flight is unknown.
	ErrDisconnected = errors.New("disconnected from the dataplane")

	// ErrClosed is the reason in Conn.Err after Conn.Close.
	ErrClosed = errors.New("connection closed")

	// ErrSilent is the reason in Conn.Err when a keepalive ping stayed unanswered.
	ErrSilent = errors.New("the dataplane does not answer")

	// ErrUnsupported says that the peer's message table lacks a message (by name and
	// CRC): another version, or a plugin that is not loaded. Nothing was sent.
	ErrUnsupported = errors.New("not in the dataplane's message table")

	// ErrEventsLost ends a subscription whose reader fell behind: state that was
	// followed by its events must be observed anew.
	ErrEventsLost = errors.New("events lost: the reader fell behind")
)

// Error is a failed exchange. Either the peer answered with a non-zero return value
// (Retval, and Err is the same as api.VPPApiError, so that errors.Is(err,
// api.INVALID_SW_IF_INDEX) works), or there is no answer and Err says why.
type Error struct {
	Message string // the request's name: sw_interface_set_flags
	Retval  int32  // vnet/error.h; 0 when the peer gave none
	Err     error
}

func (e *Error) Error() string {
	if e.Retval == 0 {
		return fmt.Sprintf("%s: %v", e.Message, e.Err)
	}
	return fmt.Sprintf("%s: retval %d (%s)", e.Message, e.Retval, retvalText(e.Retval))
}

func (e *Error) Unwrap() error { return e.Err }

// Retval returns the return value in err's chain, 0 when there is none.
func Retval(err error) int32 {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Retval
	}
	return 0
}

func failed(msg api.Message, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Message: msg.GetMessageName(), Err: err}
}

// checkRetval makes an error of any return value but 0. VPP has positive ones too: +1
// from acl_interface_set_acl_list is a refusal.
func checkRetval(msg api.Message, retval int32) error {
	if retval == 0 {
		return nil
	}
	return &Error{Message: msg.GetMessageName(), Retval: retval, Err: api.VPPApiError(retval)}
}

// retvalText takes VPP's words out of "VPPApiError: Invalid sw_if_index (-2)".
func retvalText(retval int32) string {
	text := strings.TrimPrefix(api.VPPApiError(retval).Error(), "VPPApiError: ")
	text = strings.TrimSuffix(text, fmt.Sprintf(" (%d)", retval))
	if text == fmt.Sprint(retval) {
		return "no name"
	}
	return text
}

func silence(after time.Duration) error {
	return fmt.Errorf("no answer within %v: %w", after, context.DeadlineExceeded)
}
