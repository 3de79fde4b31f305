package install

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func newCNI(t *testing.T) CNI {
	t.Helper()
	dir := t.TempDir()
	c := CNI{Program: filepath.Join(dir, "program"), BinDir: filepath.Join(dir, "bin"), ConfDir: filepath.Join(dir, "net.d"), ConfName: "10-millrace.conflist", Socket: "/run/millrace/cni.sock"}
	for _, d := range []string{c.BinDir, c.ConfDir} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, c.Program, "the plugin")
	return c
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// run is a Keeper at work in a bubble of its own time.
type run struct {
	t      *testing.T
	cni    CNI
	ready  error
	going  func() (bool, error)
	log    strings.Builder
	cancel context.CancelFunc
	done   chan error
}

func start(t *testing.T, cni CNI) *run {
	r := &run{t: t, cni: cni, ready: errors.New("not yet"), going: func() (bool, error) { return false, nil }, done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	r.cancel = cancel
	k := Keeper{
		CNI: cni, Log: slog.New(slog.NewTextHandler(&r.log, nil)),
		Ready: func(context.Context) error { return r.ready },
		Going: func(context.Context) (bool, error) { return r.going() },
	}
	go func() { r.done <- k.Run(ctx) }()
	return r
}

// pass lets time pass.
func (r *run) pass() {
	time.Sleep(5 * time.Second)
	synctest.Wait()
}

func (r *run) stop() {
	r.t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		r.t.Error(err)
	}
}

// has checks which of the two files are there.
func (r *run) has(plugin, conf bool, when string) {
	r.t.Helper()
	if got := exists(r.t, r.cni.plugin()); got != plugin {
		r.t.Errorf("%s: plugin there: %t", when, got)
	}
	if got := exists(r.t, r.cni.conf()); got != conf {
		r.t.Errorf("%s: configuration there: %t", when, got)
	}
}

// TestKeeperOrder: the network is announced when the agent can serve it, and then stays
// whether it can or not; a restart leaves it.
func TestKeeperOrder(t *testing.T) {
	c := newCNI(t)
	synctest.Test(t, func(t *testing.T) {
		r := start(t, c)
		r.pass()
		r.has(true, false, "the agent is not ready")
		r.ready = nil
		r.pass()
		r.has(true, true, "the agent is ready")
		if err := c.Check(); err != nil {
			t.Error(err)
		}
		r.ready = errors.New("restarting")
		r.pass()
		r.has(true, true, "the agent restarts")
		r.stop()
		r.has(true, true, "the pod was replaced")
		if n := strings.Count(r.log.String(), "waiting for the agent"); n != 1 {
			t.Errorf("waiting was logged %d times:\n%s", n, &r.log)
		}
	})
}

// TestKeeperPutsBack: whatever somebody does to the files.
func TestKeeperPutsBack(t *testing.T) {
	c := newCNI(t)
	synctest.Test(t, func(t *testing.T) {
		r := start(t, c)
		r.ready = nil
		r.pass()
		for name, spoil := range map[string]func() error{
			"plugin removed":        func() error { return os.Remove(c.plugin()) },
			"plugin not executable": func() error { return os.Chmod(c.plugin(), 0o644) },
			"conf removed":          func() error { return os.Remove(c.conf()) },
			"conf edited":           func() error { return os.WriteFile(c.conf(), []byte("{}"), 0o644) },
			"conf a link":           func() error { return errors.Join(os.Remove(c.conf()), os.Symlink("/nowhere", c.conf())) },
		} {
			if err := spoil(); err != nil {
				t.Fatal(err)
			}
			if c.Check() == nil {
				t.Errorf("%s: Check sees nothing", name)
			}
			r.pass()
			if err := c.Check(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		r.stop()
	})
}

// TestKeeperLeaves: the files go with Millrace, and only then.
func TestKeeperLeaves(t *testing.T) {
	for _, tt := range []struct {
		name  string
		going func(asked int) (bool, error)
		left  bool
	}{
		{"uninstalled", func(int) (bool, error) { return true, nil }, false},
		{"restarted", func(int) (bool, error) { return false, nil }, true},
		{"API server away for a moment", func(asked int) (bool, error) {
			if asked < 4 {
				return false, errors.New("connection refused")
			}
			return true, nil
		}, false},
		{"API server away", func(int) (bool, error) { return false, errors.New("connection refused") }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCNI(t)
			writeFile(t, filepath.Join(c.ConfDir, "20-other.conflist"), "{}")
			writeFile(t, filepath.Join(c.ConfDir, partPrefix(c.ConfName)+"1"), "half")
			synctest.Test(t, func(t *testing.T) {
				r := start(t, c)
				r.ready = nil
				r.pass()
				asked := 0
				r.going = func() (bool, error) { asked++; return tt.going(asked) }
				r.stop()
				r.has(tt.left, tt.left, "after the end")
			})
			if !exists(t, filepath.Join(c.ConfDir, "20-other.conflist")) {
				t.Error("another network's file was removed")
			}
			if left, err := c.Files(); err != nil || !tt.left && len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

func TestKeeperWarnsOfNetworksBefore(t *testing.T) {
	c := newCNI(t)
	writeFile(t, filepath.Join(c.ConfDir, "05-cilium.conflist"), "{}")
	writeFile(t, filepath.Join(c.ConfDir, "05-cilium.conflist.bak"), "{}")
	writeFile(t, filepath.Join(c.ConfDir, "87-podman.conflist"), "{}")
	synctest.Test(t, func(t *testing.T) {
		r := start(t, c)
		r.ready = nil
		r.pass()
		r.stop()
		if log := r.log.String(); strings.Count(log, "takes another network before") != 1 || !strings.Contains(log, "file=05-cilium.conflist ") {
			t.Errorf("the log does not name the one network before ours:\n%s", log)
		}
	})
}

// TestKeeperFails: what cannot mend by waiting is an error that names the place.
func TestKeeperFails(t *testing.T) {
	for name, spoil := range map[string]func(*CNI){
		"conf-name": func(c *CNI) { c.ConfName = "10-millrace.conf" },
		"path":      func(c *CNI) { c.ConfName = "../10-millrace.conflist" },
		"relative":  func(c *CNI) { c.BinDir = "bin" },
		"program":   func(c *CNI) { c.Program += "-none" },
		"bin":       func(c *CNI) { c.BinDir += "-none" },
		"directory": func(c *CNI) {
			if err := os.Mkdir(c.plugin(), 0o755); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCNI(t)
			spoil(&c)
			k := Keeper{CNI: c, Log: slog.New(slog.DiscardHandler), Ready: func(context.Context) error { return nil }}
			if err := k.Run(t.Context()); err == nil {
				t.Error("no error")
			}
		})
	}
}
