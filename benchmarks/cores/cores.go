// Package cores owns what a measurement must know of the processor cores it runs on: it
// pins threads, raises them above everything else for the length of a window, tells how
// long they had to wait, and measures how far two cores are from each other.
//
// It never moves a packet and never decides whether a window counts.
package cores

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Check says whether threads can be pinned to all of a list of cores.
func Check(list ...int) error {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return fmt.Errorf("read own affinity: %w", err)
	}
	for _, core := range list {
		if core < 0 || !allowed.IsSet(core) {
			return fmt.Errorf("core %d is none of the %d that this process may run on", core, allowed.Count())
		}
	}
	return nil
}

// Pin binds a thread to cores; tid 0 is the calling thread, which must be locked.
func Pin(tid int, list ...int) error {
	var set unix.CPUSet
	for _, core := range list {
		set.Set(core)
	}
	if err := unix.SchedSetaffinity(tid, &set); err != nil {
		return fmt.Errorf("pin thread %d to cores %v: %w", tid, list, err)
	}
	return nil
}

// Threads lists the threads of a process with their names.
func Threads(pid int) (map[int]string, error) {
	dirs, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		return nil, err
	}
	threads := map[int]string{}
	for _, dir := range dirs {
		name, err := os.ReadFile(filepath.Join(dir, "comm"))
		if errors.Is(err, os.ErrNotExist) { // ended meanwhile
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list threads of %d: %w", pid, err)
		}
		tid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return nil, fmt.Errorf("list threads of %d: %w", pid, err)
		}
		threads[tid] = strings.TrimSpace(string(name))
	}
	if len(threads) == 0 {
		return nil, fmt.Errorf("list threads of %d: there is no such process", pid)
	}
	return threads, nil
}

// Raise has a thread go before all threads of ordinary priority (SCHED_FIFO); among
// raised ones the higher priority, 1 to 99, goes first. restore gives the thread back what
// it had. What it starts has ordinary priority. Raising needs CAP_SYS_NICE.
//
// Linux stops raised threads for the last 50 ms of each second unless
// kernel.sched_rt_runtime_us says otherwise: a window should be shorter than 0.9 s.
func Raise(tid, priority int) (restore func() error, err error) {
	old, err := unix.SchedGetAttr(tid, 0)
	if err != nil {
		return nil, fmt.Errorf("read scheduling of thread %d: %w", tid, err)
	}
	if err := fifo(tid, priority, unix.SCHED_FLAG_RESET_ON_FORK); err != nil {
		return nil, err
	}
	return func() error {
		err := unix.SchedSetAttr(tid, old, 0)
		if err != nil && !errors.Is(err, unix.ESRCH) { // it may have ended
			return fmt.Errorf("restore scheduling of thread %d: %w", tid, err)
		}
		return nil
	}, nil
}

func fifo(tid, priority int, flags uint64) error {
	attr := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Flags: flags, Priority: uint32(priority)}
	if err := unix.SchedSetAttr(tid, attr, 0); err != nil {
		return fmt.Errorf("raise thread %d: %w", tid, err)
	}
	return nil
}

// RaiseSelf raises all threads of this process, and those that they start meanwhile: for
// who has to give orders to raised threads. restore gives all ordinary priority.
func RaiseSelf(priority int) (restore func() error, err error) {
	err = eachThread(func(tid int) error { return fifo(tid, priority, 0) })
	return func() error {
		ordinary := &unix.SchedAttr{Size: unix.SizeofSchedAttr}
		return eachThread(func(tid int) error { return unix.SchedSetAttr(tid, ordinary, 0) })
	}, err
}

func eachThread(fn func(tid int) error) error {
	threads, err := Threads(os.Getpid())
	if err != nil {
		return err
	}
	for tid := range threads {
		if err := fn(tid); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// Usage is what a thread has had of its core so far.
type Usage struct {
	Ran    time.Duration // on the core
	Waited time.Duration // ready to run while something else ran
}

// UsageOf reads the usage of a thread.
func UsageOf(tid int) (Usage, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", tid))
	if err != nil {
		return Usage{}, fmt.Errorf("read usage of thread %d: %w", tid, err)
	}
	return parseUsage(string(data))
}

// parseUsage reads "RAN WAITED SLICES", both times in ns.
func parseUsage(text string) (Usage, error) {
	fields := strings.Fields(text)
	if len(fields) != 3 {
		return Usage{}, fmt.Errorf("read usage of a thread: %q is not of three numbers", text)
	}
	var u Usage
	for i, to := range []*time.Duration{&u.Ran, &u.Waited} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return Usage{}, fmt.Errorf("read usage of a thread: %w", err)
		}
		*to = time.Duration(n)
	}
	return u, nil
}

// Stolen is the time that the hypervisor has kept all cores of a list from running so far,
// in steps of 10 ms.
func Stolen(list ...int) (time.Duration, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("read stolen time: %w", err)
	}
	return parseStolen(string(data), list)
}

func parseStolen(text string, list []int) (time.Duration, error) {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	var sum time.Duration
	for _, core := range list {
		found := false
		for line := range strings.Lines(text) {
			fields := strings.Fields(line)
			if len(fields) < 9 || fields[0] != fmt.Sprintf("cpu%d", core) {
				continue
			}
			n, err := strconv.ParseInt(fields[8], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read stolen time: %w", err)
			}
			sum, found = sum+time.Duration(n)*tick, true
		}
		if !found {
			return 0, fmt.Errorf("read stolen time: /proc/stat has no core %d", core)
		}
	}
	return sum, nil
}
