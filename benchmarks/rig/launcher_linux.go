// Package rig owns the machines' test beds: namespaces, processes and pods of each
// subject (Millrace on its engine, Millrace on VPP, the kernel's bridge), built and
// torn down so that nothing is left over, also when the rig itself is killed.
//
// It never measures and never touches the namespace it was started in.
package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Launcher starts all processes of a rig from one thread that lives as long as the
// rig: Linux delivers a parent-death signal when the starting *thread* ends, so that
// thread must be one that ends only with the rig. Every process the launcher starts
// dies with the rig, kill -9 included.
type Launcher struct {
	jobs chan func()
	done chan struct{}
}

// NewLauncher starts the thread. Close ends it, and with it whatever was started.
func NewLauncher() *Launcher {
	l := &Launcher{jobs: make(chan func()), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for job := range l.jobs {
			job()
		}
	}()
	return l
}

// Close ends the thread.
func (l *Launcher) Close() {
	close(l.jobs)
	<-l.done
}

// Namespace is a network namespace held open by a descriptor. Path names it for
// others as long as the rig lives; the kernel removes it when the last user is gone.
type Namespace struct {
	Path string
	file *os.File
}

// NewNamespace makes an anonymous network namespace with its loopback up. It has no
// name under /run/netns, so none can be left behind.
func (l *Launcher) NewNamespace() (*Namespace, error) {
	var ns *Namespace
	err := l.onThread(func() error {
		own, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return fmt.Errorf("open own network namespace: %w", err)
		}
		defer own.Close()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace (are you root?): %w", err)
		}
		file, err := os.Open("/proc/thread-self/ns/net")
		if err == nil {
			err = loopbackUp()
		}
		if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
			return fmt.Errorf("return to own network namespace: %w", back)
		}
		if err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		ns = &Namespace{file: file, Path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), file.Fd())}
		return nil
	})
	return ns, err
}

// Close gives the namespace up. It is gone once no process lives in it.
func (n *Namespace) Close() error { return n.file.Close() }

// In runs fn on the launcher's thread inside a namespace (nil: the rig's own).
// Processes that fn starts live there.
func (l *Launcher) In(n *Namespace, fn func() error) error {
	return l.onThread(func() error { return inside(n, fn) })
}

// Command prepares a process that dies with the rig and has a process group of its own.
func Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Start starts a prepared process inside a namespace (nil: the rig's own).
func (l *Launcher) Start(n *Namespace, cmd *exec.Cmd) error {
	if err := l.In(n, cmd.Start); err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return nil
}

// Run starts a process and waits for it; when ctx ends first it is killed. The error
// carries what it printed.
func (l *Launcher) Run(ctx context.Context, n *Namespace, cmd *exec.Cmd) ([]byte, error) {
	out := &tail{limit: 1 << 20}
	if cmd.Stdout == nil {
		cmd.Stdout = out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = out
	}
	if err := l.Start(n, cmd); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { killGroup(cmd) })
	err := cmd.Wait()
	stop()
	if ctx.Err() != nil {
		return out.bytes(), errors.Join(ctx.Err(), err)
	}
	if err != nil {
		return out.bytes(), fmt.Errorf("run %v: %w: %s", cmd.Args, err, out.bytes())
	}
	return out.bytes(), nil
}

func (l *Launcher) onThread(fn func() error) error {
	result := make(chan error)
	l.jobs <- func() { result <- fn() }
	return <-result
}

// inside runs fn in n on the calling thread, which must be locked, and returns.
func inside(n *Namespace, fn func() error) error {
	if n == nil {
		return fn()
	}
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("open own network namespace: %w", err)
	}
	defer own.Close()
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	err = fn()
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, fmt.Errorf("%w: %w", errStuck, back))
	}
	return err
}

// errStuck marks a thread that could not leave a namespace: it must not be used again.
var errStuck = errors.New("return to own network namespace")

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

func killGroup(cmd *exec.Cmd) {
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // gone already is fine
	}
}
