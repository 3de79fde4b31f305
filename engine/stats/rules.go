package stats

import (
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"

	"github.com/millrace/millrace/engine/vnet"
)

// rules is the room for /acl/<n>/matches: per list a vector of thread pointers and a row
// for each thread, in blocks whose capacity is a power of two, so that one that is given
// back fits others. As in VPP the entry of a deleted list stays until its index is used
// again.
type rules struct {
	threads int
	lists   map[uint32]block
	free    [32][]block // by class
	old     []block     // replaced, perhaps still counted on
}

// block is the counters of one list.
type block struct {
	entry    int
	pointers int
	rows     []int // offset of each
	class    int   // 1<<class counters each
}

// leastClass is that of the smallest block.
const leastClass = 2

// Room for access lists. What is not used is not resident.
const (
	ruleLists    = 32 << 10
	ruleCounters = 4 << 20
)

// rulesSize is how many bytes all blocks may take.
func rulesSize(threads int) int {
	return ruleLists*(8+threads*8) + threads*(ruleLists*(8+16<<leastClass)+ruleCounters*16)
}

// AllotRules gives an access list counters for its rules, and one more, as VPP does, under
// /acl/<list>/matches. All are 0.
func (s *Segment) AllotRules(list uint32, n int) ([][]vnet.Combined, error) {
	var b block
	err := s.s.change(func() error {
		var err error
		if b, err = s.rules.take(s.s, n+1); err != nil {
			return err
		}
		if old, ok := s.rules.lists[list]; ok {
			b.entry = old.entry
			s.rules.old = append(s.rules.old, old)
		} else if b.entry, err = s.s.entry(typeEmpty, emptyName, 0); err != nil {
			s.rules.put(b)
			return err
		}
		s.s.fill(b.entry, typeCombined, fmt.Sprintf("/acl/%d/matches", list), base+uint64(b.pointers))
		s.rules.lists[list] = b
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("count matches of %d acl rules: %w", n, err)
	}
	rows := make([][]vnet.Combined, len(b.rows))
	for t, at := range b.rows {
		rows[t] = pairs[vnet.Combined](s.s.w[at/8:][:2*(n+1)])
	}
	return rows, nil
}

// ReclaimRules says that nobody counts any more on what lists had before.
func (s *Segment) ReclaimRules() {
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	for _, b := range s.rules.old {
		s.rules.put(b)
	}
	s.rules.old = s.rules.old[:0]
}

// take returns a block with n counters visible, all 0.
func (r *rules) take(s *segment, n int) (block, error) {
	class := max(leastClass, bits.Len(uint(n-1)))
	if class >= len(r.free) {
		return block{}, errFull
	}
	b, err := r.find(s, class)
	if err != nil {
		return block{}, err
	}
	for _, at := range b.rows {
		for w := range 2 << class {
			atomic.StoreUint64(&s.w[at/8+w], 0)
		}
		s.setLength(at, n)
	}
	return b, nil
}

// find returns a block that was given back or a new one.
func (r *rules) find(s *segment, class int) (block, error) {
	if n := len(r.free[class]); n > 0 {
		b := r.free[class][n-1]
		r.free[class] = r.free[class][:n-1]
		return b, nil
	}
	b := block{class: class, rows: make([]int, r.threads)}
	mark := s.next
	var errs error
	at := func(length, size int) int {
		offset, err := s.vector(length, size)
		errs = errors.Join(errs, err)
		return offset
	}
	b.pointers = at(r.threads, r.threads*8)
	for t := range b.rows {
		b.rows[t] = at(0, 16<<class)
	}
	if errs != nil {
		s.next = mark
		return block{}, errFull
	}
	for t, row := range b.rows {
		s.w[b.pointers/8+t] = base + uint64(row)
	}
	return b, nil
}

func (r *rules) put(b block) { r.free[b.class] = append(r.free[b.class], b) }
