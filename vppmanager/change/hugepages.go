package change

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/millrace/millrace/vppmanager/startup"
)

// pagesDir is where the kernel counts the huge pages of a size on a memory node; a kernel
// without NUMA has one count for all.
func (h Host) pagesDir(c startup.Change) string {
	size := fmt.Sprintf("hugepages/hugepages-%dkB", uint64(c.PageSize)/1024)
	dir := filepath.Join(fmt.Sprintf("sys/devices/system/node/node%d", c.NUMA), size)
	if global := filepath.Join("sys/kernel/mm", size); c.NUMA == 0 && !h.there(dir) && h.there(global) {
		return global
	}
	return dir
}

// pages counts the persistent pages: surplus ones go by themselves when they are free.
func (h Host) pages(c startup.Change) (int, error) {
	dir := h.pagesDir(c)
	if !h.there(dir) {
		return 0, fmt.Errorf("there are no huge pages of %v on NUMA node %d: use another size", c.PageSize, c.NUMA)
	}
	all, err := h.number(dir, "nr_hugepages")
	if err != nil || !h.there(dir, "surplus_hugepages") {
		return all, err
	}
	surplus, err := h.number(dir, "surplus_hugepages")
	return all - surplus, err
}

func (h Host) setPages(c startup.Change, n int) error {
	return h.write(fmt.Sprint(n), h.pagesDir(c), "nr_hugepages")
}

func lookPages(h Host, c startup.Change) (state, error) {
	n, err := h.pages(c)
	return state{Pages: n}, err
}

// doPages sees whether the kernel really found the memory.
func doPages(_ context.Context, h Host, s *step) (*state, error) {
	c, want := s.Change, s.Before.Pages+s.Change.Pages
	if err := h.setPages(c, want); err != nil {
		return nil, err
	}
	got, err := h.pages(c)
	if err != nil {
		return nil, err
	}
	if got < want && h.there(fmt.Sprintf("sys/devices/system/node/node%d/compact", c.NUMA)) {
		// Memory that lies in pieces may be moved together.
		if err := h.write("1", fmt.Sprintf("sys/devices/system/node/node%d/compact", c.NUMA)); err != nil {
			return nil, err
		}
		if err := h.setPages(c, want); err != nil {
			return nil, err
		}
		if got, err = h.pages(c); err != nil {
			return nil, err
		}
	}
	if got < want {
		return nil, fmt.Errorf("the kernel gave %d of %d pages: the memory is in use or in pieces; free some, or reserve them at boot (hugepages=%d on the kernel's command line)",
			max(got-s.Before.Pages, 0), c.Pages, want)
	}
	return &state{Pages: got}, nil
}

// undoPages takes away as many as came by the step. How many shall stay is noted before:
// done twice, it must not take others.
func undoPages(_ context.Context, h Host, j *Journal, s *step) error {
	now, err := h.pages(s.Change)
	if err != nil {
		return err
	}
	if s.Target == nil {
		came := s.Change.Pages
		if !s.Done {
			came = min(max(now-s.Before.Pages, 0), s.Change.Pages)
		}
		if err := j.target(s, state{Pages: max(now-came, 0)}); err != nil {
			h.tell("the journal could not be written: %v", err)
		}
		h.reached("target")
	}
	if now <= s.Target.Pages {
		return nil
	}
	if err := h.setPages(s.Change, s.Target.Pages); err != nil {
		return err
	}
	if now, err = h.pages(s.Change); err != nil {
		return err
	}
	if now > s.Target.Pages {
		return fmt.Errorf("%d huge pages stay, want %d", now, s.Target.Pages)
	}
	return nil
}
