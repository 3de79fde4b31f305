// Package healthcheck owns the answers at the healthCheckNodePorts of services: whether
// this node has endpoints of a service, for load balancers outside that ask each node.
//
// What it says is what kube-proxy says (Kubernetes, pkg/proxy/healthcheck). It never decides
// which endpoints count and never speaks to a dataplane.
package healthcheck

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/millrace/millrace/service"
)

// Server answers at as many ports as it is told. Its ports are those of its process's
// network namespace, on all addresses.
type Server struct {
	healthy func() bool // whether this node does as services want

	mu   sync.Mutex
	open map[uint16]*port
}

// port is one that is listened on. The Server's lock guards check.
type port struct {
	check  service.HealthCheck
	server *http.Server
	ended  chan struct{}
}

// New returns a Server without ports. healthy is asked for each answer.
func New(healthy func() bool) *Server {
	return &Server{healthy: healthy, open: map[uint16]*port{}}
}

// Set makes it answer for checks and nothing else, and returns for which of them it cannot:
// somebody else has the port. Set them again to try again.
func (s *Server) Set(checks []service.HealthCheck) (failed []service.Problem) {
	wanted := map[uint16]service.HealthCheck{}
	for _, c := range checks {
		wanted[c.Port] = c
	}
	for _, p := range s.drop(wanted) {
		p.close()
	}
	for number, c := range wanted {
		if s.change(c) {
			continue
		}
		if err := s.listen(c); err != nil {
			err = fmt.Errorf("healthCheckNodePort %d is not answered: %w", number, err)
			failed = append(failed, service.Problem{About: c.About, Reason: service.HealthCheckUnserved, Err: err})
		}
	}
	return failed
}

// Close ends all ports, and returns when they have ended.
func (s *Server) Close() { s.Set(nil) }

// drop takes out the ports that are not wanted.
func (s *Server) drop(wanted map[uint16]service.HealthCheck) (unwanted []*port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for number, p := range s.open {
		if _, ok := wanted[number]; !ok {
			unwanted = append(unwanted, p)
			delete(s.open, number)
		}
	}
	return unwanted
}

// change has an open port answer for c from now on.
func (s *Server) change(c service.HealthCheck) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.open[c.Port]
	if ok {
		p.check = c
	}
	return ok
}

func (s *Server) listen(c service.HealthCheck) error {
	listener, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(int(c.Port))))
	if err != nil {
		return err
	}
	p := &port{check: c, ended: make(chan struct{})}
	p.server = &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { s.answer(w, p) }),
		ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 1 << 13,
	}
	s.mu.Lock()
	s.open[c.Port] = p
	s.mu.Unlock()
	go func() {
		defer close(p.ended)
		if err := p.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.mu.Lock() // it can be opened again
			defer s.mu.Unlock()
			if s.open[c.Port] == p {
				delete(s.open, c.Port)
			}
		}
	}()
	return nil
}

func (p *port) close() {
	_ = p.server.Close() // what it says of its connections is of no use any more
	<-p.ended
}

// report is the body of an answer.
type report struct {
	Service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"service"`
	LocalEndpoints      int  `json:"localEndpoints"`
	ServiceProxyHealthy bool `json:"serviceProxyHealthy"`
}

func (s *Server) answer(w http.ResponseWriter, p *port) {
	s.mu.Lock()
	c := p.check
	s.mu.Unlock()
	r := report{LocalEndpoints: c.Local, ServiceProxyHealthy: s.healthy()}
	r.Service.Namespace, r.Service.Name = c.About.Namespace, c.About.Name
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(c.Local))
	if c.Local == 0 || !r.ServiceProxyHealthy {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(r) // a client that is gone needs no answer
}
