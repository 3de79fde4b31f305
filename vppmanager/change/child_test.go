package change

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/vppmanager/startup"
)

// order is what a child process of a test has to do.
type order struct {
	Root    string
	State   string
	Apply   []startup.Change // none: undo
	Settle  []string         // links that are made for the host after applying, and settled on
	KillAt  int              // the point at which it dies by SIGKILL; 0: none
	Tmpfs   string           // mounted at State, in a mount namespace of its own: its options
	Patient time.Duration
}

const childEnv = "MILLRACE_CHANGE_CHILD"

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		var o order
		err := json.Unmarshal([]byte(text), &o)
		points := 0
		if err == nil {
			points, err = o.run()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Print(points)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// run counts the points at which a crash is something else than at the one before.
func (o order) run() (points int, err error) {
	h := Host{Root: o.Root, Patience: o.Patient}
	h.hook = func(string) {
		if points++; points == o.KillAt {
			if err := unix.Kill(os.Getpid(), unix.SIGKILL); err != nil {
				panic(err)
			}
			select {}
		}
	}
	if o.Tmpfs != "" {
		if err := o.mount(); err != nil {
			return 0, err
		}
	}
	j, err := Open(o.State)
	if err != nil {
		return 0, err
	}
	if o.Apply == nil {
		return points, errors.Join(h.Undo(context.Background(), j), j.Close())
	}
	err = h.Apply(context.Background(), j, o.Apply)
	for _, c := range o.Apply {
		if c.Kind == startup.XDPProgram && err == nil {
			err = attach(h, c.Link, socketProgram)
			h.reached("XDP program")
		}
	}
	for _, name := range o.Settle {
		if err == nil {
			err = o.stand(h, j, name)
		}
	}
	return points, errors.Join(err, j.Close())
}

// stand makes a link as the dataplane does for the host, and settles the host on it.
func (o order) stand(h Host, j *Journal, name string) error {
	if err := command("ip", "link", "add", name, "mtu", "1400", "type", "veth", "peer", "name", "v-"+name); err != nil {
		return err
	}
	h.reached("host link")
	if err := command("ip", "link", "set", "v-"+name, "up"); err != nil {
		return err
	}
	return h.Settle(context.Background(), j, name, name)
}

func (o order) mount() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	flags := uintptr(0)
	if o.Tmpfs == "ro" {
		flags = unix.MS_RDONLY
	}
	return unix.Mount("tmpfs", o.State, "tmpfs", flags, o.Tmpfs)
}

// outcome is how a child ended.
type outcome struct {
	points int
	killed bool
	stderr string
	failed bool
}

// start runs an order in a process of its own, made by command from this program.
func (o order) start(t *testing.T, command func(name string, args ...string) *exec.Cmd) outcome {
	t.Helper()
	if o.Patient == 0 {
		o.Patient = 2 * time.Minute
	}
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(self)
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	out, err := cmd.Output()
	var end outcome
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		end.killed, end.failed, end.stderr = !exit.Exited(), exit.Exited(), string(exit.Stderr)
		return end
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(out), &end.points); err != nil {
		t.Fatalf("the child printed %q: %v", out, err)
	}
	return end
}
