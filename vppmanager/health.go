package vppmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// serveHealth answers Kubernetes probes and people:
//
//	GET /readyz  200 while the dataplane answers and its uplinks are set up, else 503
//	GET /livez   200 while the manager makes progress, whatever the dataplane does: it is
//	             the manager that restarts that, and the kubelet would only take it away
//	GET /status  the Status as JSON
func serveHealth(ctx context.Context, l net.Listener, s *state) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		st := s.read()
		if !st.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		// The client may be gone; there is nobody else to tell, here and below.
		fmt.Fprintf(w, "%s since %s, pid %d, %d restarts\n", st.Phase, st.Since.UTC().Format(time.RFC3339), st.PID, st.Restarts)
	})
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.stuck(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		_ = out.Encode(s.read())
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve readiness: %w", err)
	}
	return nil
}
