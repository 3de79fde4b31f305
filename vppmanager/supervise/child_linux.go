package supervise

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// child is one started process and all of its process group.
type child struct {
	pid   int
	lines *tail
	done  chan struct{}
	exit  Exit // written before done closes

	mu     sync.Mutex
	reaped bool // the pid may belong to another process from here on
}

func (c *child) PID() int              { return c.pid }
func (c *child) Done() <-chan struct{} { return c.done }
func (c *child) Exit() Exit            { return c.exit }

// startChild writes the files, takes away what a dead predecessor left and starts.
func (s *Supervisor) startChild() (process, error) {
	if err := clearSockets(s.spec.Sockets); err != nil {
		return nil, err
	}
	for _, f := range s.spec.Files {
		if err := writeFile(f); err != nil {
			return nil, err
		}
	}
	mark, err := markOf(s.spec.RuntimeDir)
	if err != nil {
		return nil, err
	}
	lines := &tail{out: s.opt.Output}
	cmd := exec.Command(s.spec.Command[0], s.spec.Command[1:]...)
	cmd.Env = append(childEnviron(os.Environ()), mark)
	cmd.Dir = s.spec.RuntimeDir
	if s.spec.CrashDir != "" {
		cmd.Dir = s.spec.CrashDir // where a core_pattern without a path puts the core file
	}
	cmd.Stdout, cmd.Stderr = lines, lines
	// A group of its own: Ctrl-C reaches the supervisor only, which then stops in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	// Something that left the group may still hold the pipe of the output.
	cmd.WaitDelay = time.Second
	return run(cmd, lines, s.coreLimit())
}

// childEnviron leaves out what systemd says to the supervisor alone: a child that heard it
// would report its own readiness as ours.
func childEnviron(env []string) []string {
	ours := []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", markName}
	return slices.DeleteFunc(env, func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(ours, name)
	})
}

// run starts cmd and waits for it on a thread of its own: the death signal is tied to
// the thread that forked, and Go ends idle threads.
func run(cmd *exec.Cmd, lines *tail, core uint64) (process, error) {
	c := &child{lines: lines, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			c.pid = cmd.Process.Pid
			c.limitCore(core)
		}
		started <- err
		if err == nil {
			c.wait(cmd)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// wait lets the child lie as a zombie until the rest of its group is killed: as long as
// it lies there, its number can belong to nobody else.
func (c *child) wait(cmd *exec.Cmd) {
	if err := awaitZombie(c.pid); err != nil {
		c.note(err)
	}
	c.signal(unix.SIGKILL)
	c.mu.Lock()
	c.reaped = true
	c.mu.Unlock()
	// An ExitError says what the state says; a pipe held open is not the child's fault.
	err := cmd.Wait()
	if _, isExit := errors.AsType[*exec.ExitError](err); err != nil && !isExit && !errors.Is(err, exec.ErrWaitDelay) {
		c.note(err)
	}
	c.exit = exitOf(cmd.ProcessState, c.lines.end())
	close(c.done)
}

func awaitZombie(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// signal reaches the whole group, and nobody once the child is reaped.
func (c *child) signal(sig unix.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return
	}
	if err := unix.Kill(-c.pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		c.note(fmt.Errorf("send %v to process group %d: %w", sig, c.pid, err))
	}
}

// note puts the supervisor's own trouble beside the child's last words.
func (c *child) note(err error) { fmt.Fprintf(c.lines, "supervisor: %v\n", err) }

// Stop asks with SIGTERM and insists with SIGKILL after grace.
func (c *child) Stop(grace time.Duration) {
	if grace > 0 {
		c.signal(unix.SIGTERM)
		select {
		case <-c.done:
			return
		case <-time.After(grace):
		}
	}
	c.signal(unix.SIGKILL)
	<-c.done
}

// writeFile replaces a file as a whole, so that a reader never sees half of it.
func writeFile(f File) error {
	next := f.Path + ".new"
	if err := os.WriteFile(next, []byte(f.Text), 0o644); err != nil {
		return errors.Join(err, removeIfThere(next))
	}
	if err := os.Rename(next, f.Path); err != nil {
		return errors.Join(err, removeIfThere(next))
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
