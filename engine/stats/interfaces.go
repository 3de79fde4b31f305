package stats

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
)

// SetInterface gives the rows of a sw_if_index a name, that of a new interface or the
// new one of a renamed interface.
func (s *Segment) SetInterface(index uint32, name string) error {
	if int64(index) >= int64(len(s.slots)) {
		return fmt.Errorf("name stats of interface %d (%s): %w: room for %d interfaces", index, name, errFull, len(s.slots))
	}
	return s.s.change(func() error {
		s.unlink(index)
		s.show(int(index) + 1)
		s.setName(int(index), name)
		return s.link(index, name)
	})
}

// RemoveInterface calls the slot "deleted", as VPP does, and zeroes its counters for the
// next interface of that index. No worker may count on it any more.
func (s *Segment) RemoveInterface(index uint32) error {
	if int64(index) >= int64(len(s.slots)) {
		return nil
	}
	return s.s.change(func() error {
		s.unlink(index)
		s.setName(int(index), "deleted")
		for _, c := range s.perInterface {
			for _, at := range c.rows {
				for w := range c.width {
					atomic.StoreUint64(&s.s.w[at/8+int(index)*c.width+w], 0)
				}
			}
		}
		return nil
	})
}

// Grow makes an element of a counter visible: of RouteCounter a stats_index, of
// TranslationCounter an id.
func (s *Segment) Grow(counter string, index uint32) error {
	g := s.growing[counter]
	if g == nil {
		return fmt.Errorf("show %s of %d: no such counter", counter, index)
	}
	s.s.mu.Lock()
	length := g.length
	s.s.mu.Unlock()
	if int64(index) < int64(length) {
		return nil
	}
	if int64(index) >= int64(g.limit) {
		return fmt.Errorf("show %s of %d: %w: room for %d", g.name, index, errFull, g.limit)
	}
	return s.s.change(func() error {
		for g.length <= int(index) {
			g.length = min(2*g.length, g.limit)
		}
		for _, at := range g.rows {
			s.s.setLength(at, g.length)
		}
		return nil
	})
}

// show makes at least length interfaces visible in every vector: readers take /if/names
// and all counters to be equally long.
func (s *Segment) show(length int) {
	if length <= s.visible {
		return
	}
	for i := s.visible; i < length; i++ {
		s.setName(i, "")
		s.s.w[s.names/8+i] = base + uint64(s.slots[i])
	}
	s.visible = length
	s.s.setLength(s.names, length)
	for _, c := range s.perInterface {
		for _, at := range c.rows {
			s.s.setLength(at, length)
		}
	}
}

// setName writes a name, cut to its slot; its length counts the NUL.
func (s *Segment) setName(i int, name string) {
	name = name[:min(len(name), interfaceName-1)]
	slot := s.s.mem[s.slots[i] : s.slots[i]+interfaceName]
	clear(slot[copy(slot, name):])
	s.s.setLength(s.slots[i], len(name)+1)
}

// link adds /interfaces/<name>/<counter> for every counter.
func (s *Segment) link(index uint32, name string) error {
	var errs []error
	dir := "/interfaces/" + strings.ReplaceAll(name, "/", "_") + "/"
	for _, c := range s.perInterface {
		i, err := s.s.entry(typeSymlink, dir+c.name, symlink(c.entry, int(index)))
		if err != nil {
			errs = append(errs, err)
			break
		}
		s.symlinks[index] = append(s.symlinks[index], i)
	}
	return errors.Join(errs...)
}

func (s *Segment) unlink(index uint32) {
	for _, i := range s.symlinks[index] {
		s.s.release(i)
	}
	delete(s.symlinks, index)
}
