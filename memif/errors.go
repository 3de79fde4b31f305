package memif

import (
	"errors"
	"fmt"
)

// ErrClosed is what queues answer after their Interface or Socket has ended.
var ErrClosed = errors.New("memif: closed")

// Kind says whose fault an Error is.
type Kind uint8

const (
	BadConfig Kind = iota + 1 // a field of a configuration; nothing was tried
	System                    // the operating system refused: no such path, no privilege, no memory
	Protocol                  // the peer broke the protocol on the socket
	Refused                   // the peer ended the connection with a DISCONNECT
	Ended                     // the peer's socket ended
	Silent                    // the peer did not answer in time
	Corrupt                   // the peer broke the protocol in the shared memory
	Fault                     // the shared memory went away under a read or write
)

var kindNames = [...]string{
	BadConfig: "bad configuration", System: "system", Protocol: "protocol", Refused: "refused",
	Ended: "ended", Silent: "silent", Corrupt: "corrupt", Fault: "fault",
}

func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("kind-%d", uint8(k))
}

// Error is every error of this package but ErrClosed and those of a context.
type Error struct {
	Kind Kind
	Err  error
}

func (e *Error) Error() string { return "memif: " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

func fail(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Err: fmt.Errorf(format, args...)}
}

func badConfig(format string, args ...any) error { return fail(BadConfig, format, args...) }
