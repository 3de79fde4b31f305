package api

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

func (s *Server) showVersionCommand([]string) (string, error) {
	return fmt.Sprintf("millrace engine %s, binary API of VPP 25.10", s.version), nil
}

func (s *Server) showThreadsCommand([]string) (string, error) {
	var out strings.Builder
	fmt.Fprintf(&out, "%-7s%-20s%-12s%-8s%-7s\n", "ID", "Name", "Type", "LWP", "lcore")
	for n, t := range s.threads() {
		cpu := "n/a"
		if t.CPU >= 0 {
			cpu = fmt.Sprint(t.CPU)
		}
		fmt.Fprintf(&out, "%-7d%-20s%-12s%-8d%-7s\n", n, t.Name, t.Type, t.TID, cpu)
	}
	return out.String(), nil
}

// showErrors lists the counters per thread that are not zero since they were cleared.
func (s *Server) showErrors([]string) (string, error) {
	var out strings.Builder
	fmt.Fprintf(&out, "%s%s%s%s\n", center("Count", 10), center("Node", 35), center("Reason", 35), center("Severity", 10))
	for thread, e := range s.plane.Errors() {
		if e.Count = s.cleared.since(errorKey{thread, e.Node, e.Reason}, e.Count); e.Count == 0 {
			continue
		}
		fmt.Fprintf(&out, "%10d%s%s%s\n", e.Count, center(e.Node, 35), center(e.Reason, 35), center(e.Severity, 10))
	}
	return out.String(), nil
}

// showRuntime prints packet rates since the start, per thread.
func (s *Server) showRuntime([]string) (string, error) {
	past := time.Since(s.started).Seconds()
	var out strings.Builder
	for n, t := range s.threads() {
		if n >= len(s.counters) {
			break
		}
		c := &s.counters[n]
		var in, sent, dropped, punted uint64
		for i := range c.RX {
			in += atomic.LoadUint64(&c.RX[i].Packets)
			sent += atomic.LoadUint64(&c.TX[i].Packets)
			dropped += atomic.LoadUint64(&c.Drops[i])
			punted += atomic.LoadUint64(&c.Punt[i])
		}
		fmt.Fprintf(&out, "Thread %d %s\nTime %.1f\n  vector rates in %.4e, out %.4e, drop %.4e, punt %.4e\n",
			n, t.Name, past, float64(in)/past, float64(sent)/past, float64(dropped)/past, float64(punted)/past)
	}
	return out.String(), nil
}
