package vppmanager

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/vpp"
	"github.com/millrace/millrace/vppmanager/startup"
	"github.com/millrace/millrace/vppmanager/supervise"
)

// diary is a host whose changes are lines: what was done and not taken back.
type diary struct {
	mu      sync.Mutex
	events  []string
	applied []string
	fails   string // link whose change fails
	wired   func() error
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, fmt.Sprintf(format, args...))
}

func (d *diary) history() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.events, ", ")
}

func (d *diary) Pending() (bool, error) { return len(d.applied) > 0, nil }

func (d *diary) Apply(_ context.Context, changes []startup.Change) error {
	for _, c := range changes {
		if c.Link == d.fails {
			d.note("refuse %s", c.Link)
			return fmt.Errorf("%s: no such device", c.Link)
		}
		d.note("do %s", c.Link)
		d.applied = append(d.applied, c.Link)
	}
	return nil
}

func (d *diary) Undo(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for len(d.applied) > 0 {
		last := len(d.applied) - 1
		d.note("undo %s", d.applied[last])
		d.applied = d.applied[:last]
	}
	return nil
}

func (d *diary) Wire(ctx context.Context, conn *vpp.Conn, plan startup.Plan) error {
	d.note("wire %s", plan.Uplinks[0].Name)
	if err := conn.Ping(ctx); err != nil {
		return err
	}
	if d.wired != nil {
		return d.wired()
	}
	return nil
}

func (d *diary) Release() error { return nil }

// onNIC is a plan that takes a NIC.
func onNIC(t *testing.T) startup.Plan {
	p := answering(t)
	p.Changes = []startup.Change{{Kind: startup.SaveLink, Link: "eth0"}, {Kind: startup.LinkDown, Link: "p-eth0"}}
	p.Uplinks = []startup.Uplink{{Name: "uplink0"}}
	return p
}

// TestHostIsPutBack: on every way to the end the host gets back what was taken.
func TestHostIsPutBack(t *testing.T) {
	for name, tt := range map[string]struct {
		left     []string // by an earlier manager
		fails    string
		wired    error
		command  []string
		lacks    string        // message
		patience time.Duration // for the start; 0: as always
		plan     error
		want     string
		err      []string
	}{
		"stop":             {want: "do eth0, do p-eth0, wire uplink0, undo p-eth0, undo eth0"},
		"left by earlier":  {left: []string{"eth9"}, want: "undo eth9, do eth0, do p-eth0, wire uplink0, undo p-eth0, undo eth0"},
		"left and refused": {left: []string{"eth9"}, plan: errors.New("no huge pages"), want: "undo eth9", err: []string{"no huge pages"}},
		"refused":          {plan: errors.New("no huge pages"), err: []string{"no huge pages"}},
		"half applied":     {fails: "p-eth0", want: "do eth0, refuse p-eth0, undo eth0", err: []string{"prepare the host: p-eth0: no such device"}},
		"exits at once": {command: []string{"/bin/sh", "-c", "echo bad config; exit 1"}, want: "do eth0, do p-eth0, undo p-eth0, undo eth0",
			err: []string{"3 starts, none became ready", "exited with code 1", "| bad config", "what to do"}},
		"hangs": {command: []string{"/bin/sleep", "1000"}, patience: 300 * time.Millisecond, want: "do eth0, do p-eth0, undo p-eth0, undo eth0",
			err: []string{"none became ready", "did not answer on", "and was killed", "what to do: the engine runs but does not serve"}},
		"no program": {command: []string{"/none/vpp"}, want: "do eth0, do p-eth0, undo p-eth0, undo eth0",
			err: []string{"could not be run: fork/exec /none/vpp: no such file or directory", "is a program for this machine"}},
		"cannot be wired": {wired: errors.New("uplink0 is unknown"), want: "do eth0, do p-eth0, wire uplink0, wire uplink0, wire uplink0, undo p-eth0, undo eth0",
			err: []string{"set up the uplinks: uplink0 is unknown", "what to do: the dataplane runs but refuses"}},
		"another version": {lacks: "acl_add_replace", want: "do eth0, do p-eth0, undo p-eth0, undo eth0",
			err: []string{"1 start, another one would not help", "VPP 24.06 lacks acl_add_replace_", "install VPP 25.10"}},
		"lacks a message": {wired: fmt.Errorf("create uplink0.7: create_vlan_subif: %w", vpp.ErrUnsupported), want: "do eth0, do p-eth0, wire uplink0, undo p-eth0, undo eth0",
			err: []string{"1 start, another one would not help", "create_vlan_subif: not in the dataplane's message table"}},
		"hopeless": {wired: fmt.Errorf("another version: %w", supervise.ErrHopeless), want: "do eth0, do p-eth0, wire uplink0, undo p-eth0, undo eth0",
			err: []string{"1 start, another one would not help"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := &diary{applied: tt.left, fails: tt.fails, wired: func() error { return tt.wired }}
			plan := onNIC(t)
			if tt.command != nil {
				plan.Command = tt.command
			}
			if tt.lacks != "" {
				plan.Command[3] = tt.lacks
			}
			opt := Options{Host: d, Wire: d}
			if tt.patience > 0 {
				opt.Timing = supervise.DefaultTiming()
				opt.Timing.Start, opt.Timing.Outage = tt.patience, tt.patience
			}
			if tt.err == nil {
				opt.NotifySocket = filepath.Join(filepath.Dir(plan.RuntimeDir), "notify")
			}
			conn := systemd(t, opt.NotifySocket)
			r := startWith(t, plan, tt.plan, opt)
			if tt.err == nil {
				awaitMessage(t, conn, "READY=1")
				r.cancel()
			}
			err := <-r.done
			if (err != nil) != (tt.err != nil) {
				t.Fatalf("run: %v", err)
			}
			for _, want := range tt.err {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if got := d.history(); got != tt.want {
				t.Errorf("the host saw: %s\nwant: %s", got, tt.want)
			}
			if _, err := os.Stat(plan.RuntimeDir); !os.IsNotExist(err) {
				t.Errorf("the runtime directory is still there: %v", err)
			}
		})
	}
}

// TestCrashKeepsTheNIC: a dataplane that crashed is started and wired again, and the host
// is not touched meanwhile.
func TestCrashKeepsTheNIC(t *testing.T) {
	d := &diary{}
	plan := onNIC(t)
	address := filepath.Join(filepath.Dir(plan.RuntimeDir), "notify")
	conn := systemd(t, address)
	r := startWith(t, plan, nil, Options{NotifySocket: address, Host: d, Wire: d})
	for range 3 {
		awaitMessage(t, conn, "READY=1")
		if err := unix.Kill(servedPID(t, plan.Sockets.API), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	awaitMessage(t, conn, "READY=1")
	r.stop(t)
	if got, want := d.history(), "do eth0, do p-eth0, wire uplink0, wire uplink0, wire uplink0, wire uplink0, undo p-eth0, undo eth0"; got != want {
		t.Errorf("the host saw: %s\nwant: %s", got, want)
	}
	reports, err := filepath.Glob(filepath.Join(filepath.Dir(plan.RuntimeDir), "state", "crashes", "*.txt"))
	if err != nil || len(reports) != 3 {
		t.Errorf("reports %v, %v", reports, err)
	}
}

// TestCannotBePutBack: the error of the way back comes beside that of the end.
func TestCannotBePutBack(t *testing.T) {
	d := &broken{diary{fails: "p-eth0"}}
	r := startWith(t, onNIC(t), nil, Options{Host: d, Wire: d})
	err := <-r.done
	for _, want := range []string{"prepare the host: p-eth0: no such device", "put the host back: eth0 is gone", "millrace manager undo"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

type broken struct{ diary }

func (*broken) Undo(context.Context) error { return errors.New("eth0 is gone") }

// servedPID is who serves a socket.
func servedPID(t *testing.T, socket string) int {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, credErr); err != nil {
		t.Fatal(err)
	}
	return int(cred.Pid)
}
