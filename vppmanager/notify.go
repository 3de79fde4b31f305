package vppmanager

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/millrace/millrace/vppmanager/supervise"
)

// notifier speaks systemd's protocol (sd_notify(3)): one datagram of lines per message.
type notifier struct {
	socket   string
	watchdog time.Duration
	log      *slog.Logger
	state    *state

	mu      sync.Mutex // keeps messages in order
	last    string     // what was said of the status
	leaving bool       // systemd knows that this is the end
}

func newNotifier(opt Options, s *state) *notifier {
	return &notifier{socket: opt.NotifySocket, watchdog: opt.Watchdog, log: opt.Log, state: s}
}

const (
	// How often systemd hears that a start or an end goes on, and how much longer it is
	// asked to wait each time.
	extendEach = 5 * time.Second
	extendBy   = 30 * time.Second
)

// run tells systemd from time to time that all is well, until ctx ends.
func (n *notifier) run(ctx context.Context) {
	each := extendEach
	if n.watchdog > 0 {
		each = min(each, n.watchdog/2)
	}
	tick := time.NewTicker(each)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			n.changed()
		}
	}
}

// changed tells systemd the status, if it is another one, and that all is well.
func (n *notifier) changed() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if text := n.message(); text != "" {
		n.tell(text)
	}
}

// stopping tells systemd that this is the end.
func (n *notifier) stopping() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.leaving {
		n.leaving = true
		n.tell("STOPPING=1")
	}
}

// message is what is to be said now.
func (n *notifier) message() string {
	st, stuck := n.state.read(), n.state.stuck()
	text := ""
	if now := describe(st); now != n.last {
		n.last = now
		text = now
		if st.Ready {
			text = "READY=1\n" + now // understood once, and may be repeated
		}
	}
	add := func(line string) {
		if text != "" {
			text += "\n"
		}
		text += line
	}
	if stuck != nil {
		return text // neither a sign of life nor more time
	}
	if n.watchdog > 0 {
		add("WATCHDOG=1")
	}
	switch st.Phase {
	case Stopped, supervise.Ready, supervise.Waiting:
	default:
		add(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", extendBy.Microseconds()))
	}
	return text
}

// describe is what systemctl status shows.
func describe(st Status) string {
	text := "STATUS="
	if st.Dataplane != "" {
		text += st.Dataplane + " dataplane "
	}
	text += string(st.Phase)
	if st.Restarts > 0 {
		text += fmt.Sprintf(", %d restarts, the last one %s", st.Restarts, st.LastEnd)
	}
	return text
}

// tell never holds the dataplane up: systemd gets a moment, then the message is dropped.
func (n *notifier) tell(message string) {
	if n.socket == "" {
		return
	}
	if err := n.send(message); err != nil {
		n.log.Warn("systemd was not told", "message", message, "error", err)
	}
}

func (n *notifier) send(message string) error {
	// A name that begins with @ is abstract; net turns it into a NUL byte.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(message))
	return err
}
