package rig

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// processes is a subject that has processes of its own.
type processes interface{ PIDs() ([]int, error) }

// PIDs are the processes of the node: dataplane, agent, manager.
func (m *Millrace) PIDs() ([]int, error) {
	dataplane, err := m.DataplanePID()
	return []int{dataplane, m.agent.PID(), m.manager.PID()}, err
}

// Spent is the processor time of the subject's processes so far.
func (b *Bed) Spent() (time.Duration, error) {
	s, ok := b.Subject.(processes)
	if !ok {
		return 0, nil
	}
	pids, err := s.PIDs()
	if err != nil {
		return 0, err
	}
	return spent(pids)
}

// softirqTime is the processor time of the kernel's threads that handle packets when the
// senders' own time does not do.
func softirqTime() (time.Duration, error) {
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return 0, err
	}
	var pids []int
	for _, path := range names {
		name, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(string(name), "ksoftirqd/") {
			continue // it has ended, or is another
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return 0, fmt.Errorf("find kernel threads: %w", err)
		}
		pids = append(pids, pid)
	}
	return spent(pids)
}

// spent is the processor time of processes, their ended threads included.
func spent(pids []int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, fmt.Errorf("read processor time: %w", err)
		}
		t, err := parseStat(string(text))
		if err != nil {
			return 0, fmt.Errorf("read processor time of %d: %w", pid, err)
		}
		sum += t
	}
	return sum, nil
}

// parseStat reads utime and stime of /proc/PID/stat (proc_pid_stat(5)). The name before them
// may hold blanks and brackets.
func parseStat(text string) (time.Duration, error) {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	_, rest, ok := strings.Cut(text[strings.LastIndex(text, ")")+1:], " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, fmt.Errorf("%q has no times", text)
	}
	var sum time.Duration
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}
