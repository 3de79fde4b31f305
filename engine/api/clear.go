package api

import (
	"sync"

	"go.fd.io/govpp/binapi/interface"

	"github.com/millrace/millrace/engine/vnet"
)

// swInterfaceClearStats clears one interface's counters, or all for ~0.
func (s *Server) swInterfaceClearStats(_ *session, q *interfaces.SwInterfaceClearStats, _ *interfaces.SwInterfaceClearStatsReply) error {
	return s.plane.ClearCounters(uint32(q.SwIfIndex))
}

func (s *Server) clearInterfaces([]string) (string, error) {
	return "", s.plane.ClearCounters(vnet.NoIndex)
}

// errorKey names one counter of "show errors".
type errorKey struct {
	thread       int
	node, reason string
}

// clearedErrors are the counts at the last "clear errors". As in VPP the counters
// themselves run on: only what the command shows starts anew.
type clearedErrors struct {
	mu   sync.Mutex // guards last
	last map[errorKey]uint64
}

func (s *Server) clearErrors([]string) (string, error) {
	last := map[errorKey]uint64{}
	for thread, e := range s.plane.Errors() {
		last[errorKey{thread, e.Node, e.Reason}] = e.Count
	}
	s.cleared.mu.Lock()
	defer s.cleared.mu.Unlock()
	s.cleared.last = last
	return "", nil
}

// since returns what a counter that stands at n counted after the last clearing.
func (c *clearedErrors) since(k errorKey, n uint64) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return n - c.last[k]
}
