package vpp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"go.fd.io/govpp/adapter"
)

// DefaultStatsSocket is where VPP and the embedded engine hand out the statistics segment.
const DefaultStatsSocket = "/run/vpp/stats.sock"

// busyPause is waited when the segment is being changed while it is read.
const busyPause = time.Millisecond

// Stats reads the statistics segment, shared memory that the peer writes: reading costs
// the peer nothing. It is safe for concurrent use. After a restart of the peer the next
// read maps the new segment; counters then begin at zero again.
//
// GoVPP's reader of the segment is not used: it follows pointers without checking them
// (a peer that dies at the wrong moment takes the reader along) and keeps a goroutine.
type Stats struct {
	socket string

	// mu guards segment and seen; a read holds it, so that the map stays while it is read.
	mu      sync.Mutex
	segment segment
	seen    os.FileInfo // the socket file that segment was got from
}

// DialStats maps the segment behind socket ("" = DefaultStatsSocket).
func DialStats(ctx context.Context, socket string) (*Stats, error) {
	if socket == "" {
		socket = DefaultStatsSocket
	}
	s := &Stats{socket: socket}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Close unmaps the segment.
func (s *Stats) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.disconnect()
}

func (s *Stats) disconnect() error {
	old := s.segment
	s.segment, s.seen = segment{}, nil
	if err := old.unmap(); err != nil {
		return fmt.Errorf("unmap statistics of %s: %w", s.socket, err)
	}
	return nil
}

// connect maps the segment, anew when the socket is another file than before.
func (s *Stats) connect(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("map statistics of %s: %w", s.socket, context.Cause(ctx))
	}
	info, err := os.Stat(s.socket)
	if err == nil && s.seen != nil && os.SameFile(info, s.seen) && info.ModTime().Equal(s.seen.ModTime()) {
		return nil
	}
	if err := s.disconnect(); err != nil {
		return err
	}
	if s.segment, s.seen, err = mapSegment(ctx, s.socket); err != nil {
		return fmt.Errorf("map statistics: %w", err)
	}
	return nil
}

// Entries returns copies of the entries whose name matches one of the regular
// expressions, symlinks resolved; all named entries when none is given.
func (s *Stats) Entries(ctx context.Context, patterns ...string) ([]adapter.StatEntry, error) {
	var compiled []*regexp.Regexp
	for _, p := range patterns {
		re, err := regexp.Compile(p)
		if err != nil {
			return nil, fmt.Errorf("read statistics: pattern %q: %w", p, err)
		}
		compiled = append(compiled, re)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if err := s.connect(ctx); err != nil {
			return nil, err
		}
		entries, err := s.segment.read(compiled)
		if err == nil {
			return entries, nil
		}
		if !errors.Is(err, errBusy) {
			return nil, fmt.Errorf("read statistics of %s: %w", s.socket, err)
		}
		if !sleep(ctx, busyPause) {
			return nil, fmt.Errorf("read statistics of %s: %w (%w)", s.socket, context.Cause(ctx), err)
		}
	}
}

// Count is packets with their bytes (L2 header included).
type Count struct{ Packets, Bytes uint64 }

// InterfaceCounters are the sums over all threads for one sw_if_index.
type InterfaceCounters struct {
	Index uint32
	Name  string

	RX, RxUnicast, RxMulticast, RxBroadcast Count
	TX, TxUnicast, TxMulticast, TxBroadcast Count

	Drops, Punt, IP4, IP6                   uint64
	RxNoBuf, RxMiss, RxError, TxError, MPLS uint64
}

// Interfaces reads the /if/* counters. Deleted interfaces are left out.
func (s *Stats) Interfaces(ctx context.Context) ([]InterfaceCounters, error) {
	entries, err := s.Entries(ctx, "^/if/")
	if err != nil {
		return nil, err
	}
	var names adapter.NameStat
	for _, e := range entries {
		if n, ok := e.Data.(adapter.NameStat); ok && string(e.Name) == "/if/names" {
			names = n
		}
	}
	counters := make([]InterfaceCounters, len(names))
	for _, e := range entries {
		fillInterfaces(counters, strings.TrimPrefix(string(e.Name), "/if/"), e.Data)
	}
	live := counters[:0]
	for i, c := range counters {
		c.Index, c.Name = uint32(i), string(names[i])
		if c.Name != "" && c.Name != "deleted" {
			live = append(live, c)
		}
	}
	return live, nil
}

func fillInterfaces(counters []InterfaceCounters, name string, data adapter.Stat) {
	switch rows := data.(type) {
	case adapter.SimpleCounterStat:
		for _, row := range rows {
			for i := range min(len(row), len(counters)) {
				if p := counters[i].simple(name); p != nil {
					*p += uint64(row[i])
				}
			}
		}
	case adapter.CombinedCounterStat:
		for _, row := range rows {
			for i := range min(len(row), len(counters)) {
				if p := counters[i].combined(name); p != nil {
					p.Packets += row[i].Packets()
					p.Bytes += row[i].Bytes()
				}
			}
		}
	}
}

func (c *InterfaceCounters) simple(name string) *uint64 {
	switch name {
	case "drops":
		return &c.Drops
	case "punt":
		return &c.Punt
	case "ip4":
		return &c.IP4
	case "ip6":
		return &c.IP6
	case "rx-no-buf":
		return &c.RxNoBuf
	case "rx-miss":
		return &c.RxMiss
	case "rx-error":
		return &c.RxError
	case "tx-error":
		return &c.TxError
	case "mpls":
		return &c.MPLS
	}
	return nil
}

func (c *InterfaceCounters) combined(name string) *Count {
	switch name {
	case "rx":
		return &c.RX
	case "rx-unicast":
		return &c.RxUnicast
	case "rx-multicast":
		return &c.RxMulticast
	case "rx-broadcast":
		return &c.RxBroadcast
	case "tx":
		return &c.TX
	case "tx-unicast":
		return &c.TxUnicast
	case "tx-multicast":
		return &c.TxMulticast
	case "tx-broadcast":
		return &c.TxBroadcast
	}
	return nil
}

// Errors returns the counts of all threads per graph node and reason, keyed
// "<node>/<reason>", those at zero left out: /err/<node>/<reason> in the segment.
func (s *Stats) Errors(ctx context.Context) (map[string]uint64, error) {
	entries, err := s.Entries(ctx, "^/err/")
	if err != nil {
		return nil, err
	}
	counts := make(map[string]uint64)
	for _, e := range entries {
		name := strings.TrimPrefix(string(e.Name), "/err/")
		rows, ok := e.Data.(adapter.SimpleCounterStat)
		if !ok {
			continue
		}
		for _, row := range rows {
			for _, n := range row {
				if n > 0 {
					counts[name] += uint64(n)
				}
			}
		}
	}
	return counts, nil
}
