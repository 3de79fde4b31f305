package vppmanager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/millrace/millrace/vppmanager/startup"
	"github.com/millrace/millrace/vppmanager/supervise"
)

// serveHealth answers GET /readyz for Kubernetes probes: 200 while the dataplane's API
// answers, 503 with the phase otherwise.
func serveHealth(ctx context.Context, l net.Listener, status func() supervise.Status) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		st := status()
		if st.Phase != supervise.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		// The client may be gone; there is nobody else to tell.
		fmt.Fprintf(w, "%s since %s, pid %d, %d restarts\n", st.Phase, st.Since.UTC().Format(time.RFC3339), st.PID, st.Restarts)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve readiness: %w", err)
	}
	return nil
}

// notifier speaks systemd's protocol (sd_notify): one datagram of lines per message.
type notifier struct {
	socket string
	log    *slog.Logger
}

// tell never holds the dataplane up: systemd gets a moment, then the message is dropped.
func (n notifier) tell(message string) {
	if n.socket == "" {
		return
	}
	if err := n.send(message); err != nil {
		n.log.Warn("systemd was not told", "message", message, "error", err)
	}
}

func (n notifier) send(message string) error {
	// A name that begins with @ is abstract; net turns it into a NUL byte.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(message))
	return err
}

// readiness is what systemd shows for a status. READY=1 is understood once and may be
// repeated.
func readiness(p startup.Plan, st supervise.Status) string {
	text := fmt.Sprintf("STATUS=%s dataplane %s", p.Dataplane, st.Phase)
	if st.Restarts > 0 {
		text += fmt.Sprintf(", %d restarts, the last one %s", st.Restarts, st.Last)
	}
	if st.Phase == supervise.Ready {
		return "READY=1\n" + text
	}
	return text
}
