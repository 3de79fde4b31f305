package stats

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/engine/vnet"
)

// Config says what a Segment has room for.
type Config struct {
	Threads    int // the control thread and the workers
	Interfaces int // highest sw_if_index + 1
	Routes     int // highest stats_index + 1
	// Translations is the highest id + 1 of translations; 0 = 1.
	Translations int
	Errors       []vnet.ErrorCounter // in the order of vnet.Counters.Errors
}

// Segment is the engine's statistics in shared memory.
type Segment struct {
	s        *segment
	counters []vnet.Counters
	started  time.Time

	// entries of the counters per interface, in the order of interfaceCounters
	perInterface []counter
	names        int   // offset of the vector of name pointers
	slots        []int // offset of each interface's name bytes
	symlinks     map[uint32][]int
	visible      int // length of the vectors per interface

	growing map[string]*growing // by name
	rules   rules

	heartbeat, lastUpdate, inputRate *uint64
	lastRX                           uint64
	lastTick                         time.Time
}

// counter is one counter entry of the directory.
type counter struct {
	name  string
	entry int
	rows  []int // offset per thread
	width int   // words per element
}

// Names of the counters that Grow knows.
const (
	RouteCounter       = "/net/route/to"
	TranslationCounter = "/net/cnat-translation"
)

// growing is a counter whose rows get longer as more are needed, up to a limit.
type growing struct {
	counter
	length, limit int
}

// interfaceName is the room for one name in /if/names, the NUL included.
const interfaceName = 64

// growStep is how many elements a growing counter has at first. It doubles, so that a new
// element seldom changes the layout.
const growStep = 256

// simpleFields and combinedFields name the counters per interface under /if/.
func simpleFields(c *vnet.Counters) map[string]*[]uint64 {
	return map[string]*[]uint64{
		"drops": &c.Drops, "punt": &c.Punt, "ip4": &c.IP4, "ip6": &c.IP6,
		"rx-no-buf": &c.RxNoBuf, "rx-miss": &c.RxMiss, "rx-error": &c.RxError, "tx-error": &c.TxError,
	}
}

func combinedFields(c *vnet.Counters) map[string]*[]vnet.Combined {
	return map[string]*[]vnet.Combined{
		"rx": &c.RX, "rx-unicast": &c.RxUnicast, "rx-multicast": &c.RxMulticast, "rx-broadcast": &c.RxBroadcast,
		"tx": &c.TX, "tx-unicast": &c.TxUnicast, "tx-multicast": &c.TxMulticast, "tx-broadcast": &c.TxBroadcast,
	}
}

var (
	simpleNames   = [...]string{"drops", "punt", "ip4", "ip6", "rx-no-buf", "rx-miss", "rx-error", "tx-error"}
	combinedNames = [...]string{"rx", "rx-unicast", "rx-multicast", "rx-broadcast",
		"tx", "tx-unicast", "tx-multicast", "tx-broadcast"}
)

// New makes the segment with every entry that does not depend on configuration.
func New(c Config) (*Segment, error) {
	if c.Threads < 1 || c.Interfaces < 1 || c.Routes < 1 {
		return nil, fmt.Errorf("make stats segment: %d threads, %d interfaces, %d routes; want at least 1 of each",
			c.Threads, c.Interfaces, c.Routes)
	}
	c.Translations = max(1, c.Translations)
	perInterface := len(simpleNames) + len(combinedNames)
	entries := 64 + len(c.Errors) + perInterface*(c.Interfaces+1) + ruleLists
	size := len(simpleNames)*rowsSize(c.Threads, c.Interfaces, 1) +
		len(combinedNames)*rowsSize(c.Threads, c.Interfaces, 2) +
		rowsSize(c.Threads, max(1, len(c.Errors)), 1) +
		rowsSize(c.Threads, c.Routes, 2) + rowsSize(c.Threads, c.Translations, 2) +
		8 + c.Interfaces*8 + c.Interfaces*(8+interfaceName) +
		rulesSize(c.Threads)
	seg, err := newSegment(size, entries)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	s := &Segment{
		s: seg, counters: make([]vnet.Counters, c.Threads), started: now, lastTick: now,
		slots: make([]int, c.Interfaces), symlinks: map[uint32][]int{}, growing: map[string]*growing{},
		rules: rules{threads: c.Threads, lists: map[uint32]block{}},
	}
	err = seg.change(func() error {
		return errors.Join(s.addSystem(c), s.addInterfaces(c), s.addErrors(c), s.addGrowing(c))
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lay out stats segment: %w", err), seg.close())
	}
	return s, nil
}

// Close unmaps the memory: no row may be written any more.
func (s *Segment) Close() error { return s.s.close() }

// Counters is one set of rows per thread.
func (s *Segment) Counters() []vnet.Counters { return s.counters }

// addSystem adds the scalars; the first three must be these, in this order.
func (s *Segment) addSystem(c Config) error {
	for _, e := range []struct {
		name  string
		value uint64
		keep  **uint64
	}{
		{"/sys/heartbeat", 0, &s.heartbeat},
		{"/sys/last_stats_clear", 0, nil},
		{"/sys/boottime", uint64(s.started.Unix()), nil},
		{"/sys/num_worker_threads", uint64(c.Threads - 1), nil},
		{"/sys/last_update", 0, &s.lastUpdate},
		{"/sys/input_rate", 0, &s.inputRate},
	} {
		i, err := s.s.entry(typeScalar, e.name, e.value)
		if err != nil {
			return err
		}
		if e.keep != nil {
			*e.keep = s.s.scalar(i)
		}
	}
	return nil
}

func (s *Segment) addInterfaces(c Config) error {
	for _, name := range simpleNames {
		i, at, err := s.s.rows(typeSimple, "/if/"+name, c.Threads, 0, c.Interfaces, 1)
		if err != nil {
			return err
		}
		for t := range at {
			*simpleFields(&s.counters[t])[name] = s.s.w[at[t]/8:][:c.Interfaces:c.Interfaces]
		}
		s.perInterface = append(s.perInterface, counter{name, i, at, 1})
	}
	for _, name := range combinedNames {
		i, at, err := s.s.rows(typeCombined, "/if/"+name, c.Threads, 0, c.Interfaces, 2)
		if err != nil {
			return err
		}
		for t := range at {
			*combinedFields(&s.counters[t])[name] = pairs[vnet.Combined](s.s.w[at[t]/8:][:2*c.Interfaces])
		}
		s.perInterface = append(s.perInterface, counter{name, i, at, 2})
	}
	var err error
	if s.names, err = s.s.vector(0, c.Interfaces*8); err != nil {
		return err
	}
	for i := range s.slots {
		if s.slots[i], err = s.s.vector(0, interfaceName); err != nil {
			return err
		}
	}
	_, err = s.s.entry(typeNames, "/if/names", base+uint64(s.names))
	return err
}

func (s *Segment) addErrors(c Config) error {
	i, at, err := s.s.rows(typeSimple, "/node/errors", c.Threads, len(c.Errors), max(1, len(c.Errors)), 1)
	if err != nil {
		return err
	}
	for t := range at {
		s.counters[t].Errors = s.s.w[at[t]/8:][:len(c.Errors):len(c.Errors)]
	}
	for n, e := range c.Errors {
		name := "/err/" + e.Node + "/" + strings.ReplaceAll(e.Reason, "/", "_")
		if _, err := s.s.entry(typeSymlink, name, symlink(i, n)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Segment) addGrowing(c Config) error {
	for _, g := range []struct {
		name  string
		limit int
		field func(*vnet.Counters) *[]vnet.Combined
	}{
		{RouteCounter, c.Routes, func(c *vnet.Counters) *[]vnet.Combined { return &c.RouteTo }},
		{TranslationCounter, c.Translations, func(c *vnet.Counters) *[]vnet.Combined { return &c.Translations }},
	} {
		length := min(growStep, g.limit)
		i, at, err := s.s.rows(typeCombined, g.name, c.Threads, length, g.limit, 2)
		if err != nil {
			return err
		}
		for t := range at {
			*g.field(&s.counters[t]) = pairs[vnet.Combined](s.s.w[at[t]/8:][:2*g.limit])
		}
		s.growing[g.name] = &growing{counter{g.name, i, at, 2}, length, g.limit}
	}
	return nil
}

func symlink(entry, index int) uint64 { return uint64(uint32(entry)) | uint64(index)<<32 }

// Tick is called about once a second: it moves the heartbeat, by which readers see that
// the engine lives, and the rates.
func (s *Segment) Tick(now time.Time) {
	s.s.mu.Lock()
	visible := s.visible
	s.s.mu.Unlock()
	rx := uint64(0)
	for t := range s.counters {
		for i := range s.counters[t].RX[:visible] {
			rx += atomic.LoadUint64(&s.counters[t].RX[i].Packets)
		}
	}
	// A deleted interface takes its packets out of the sum.
	if past := now.Sub(s.lastTick).Seconds(); past > 0 && rx >= s.lastRX {
		atomic.StoreUint64(s.inputRate, uint64(float64(rx-s.lastRX)/past))
	}
	s.lastRX, s.lastTick = rx, now
	atomic.StoreUint64(s.lastUpdate, uint64(now.Sub(s.started).Seconds()))
	atomic.AddUint64(s.heartbeat, 1)
}
