package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// markName is set in the environment of each child, with the identity of its runtime
// directory. The device and inode tell apart directories of one name in different mount
// namespaces, and stay the same for a supervisor in a new container.
const markName = "MILLRACE_SUPERVISED"

func markOf(dir string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return "", fmt.Errorf("stat %s: %w", dir, err)
	}
	return fmt.Sprintf("%s=%x:%x", markName, st.Dev, st.Ino), nil
}

// endMarked kills the processes with this mark that no supervisor watches any more, and
// waits until they are gone. The caller holds the lock of the directory, so none of them
// has a living supervisor.
func endMarked(ctx context.Context, mark string) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var ended []int
	var errs []error
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || !hasMark(pid, mark) {
			continue
		}
		killed, err := endOne(ctx, pid, mark)
		if err != nil {
			errs = append(errs, err)
		}
		if killed {
			ended = append(ended, pid)
		}
	}
	return ended, errors.Join(errs...)
}

// hasMark reads a process's environment. A process that is gone or of another owner has
// none for us.
func hasMark(pid int, mark string) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return false
	}
	for v := range bytes.SplitSeq(env, []byte{0}) {
		if string(v) == mark {
			return true
		}
	}
	return false
}

// endOne holds the process by a pidfd before it looks at the mark again, so that the
// signal cannot reach a process that took over the number.
func endOne(ctx context.Context, pid int, mark string) (killed bool, err error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("hold pid %d: %w", pid, err)
	}
	process := os.NewFile(uintptr(fd), fmt.Sprintf("pidfd %d", pid))
	defer process.Close()
	if !hasMark(pid, mark) {
		return false, nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return false, fmt.Errorf("kill pid %d: %w", pid, err)
	}
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return true, fmt.Errorf("await pid %d: %w", pid, err)
		}
		if n > 0 {
			return true, nil
		}
	}
	return true, fmt.Errorf("await pid %d: %w", pid, ctx.Err())
}
