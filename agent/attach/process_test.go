package attach_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/millrace/millrace/agent/attach"
	"github.com/millrace/millrace/agent/attach/attachtest"
	"github.com/millrace/millrace/cni"
	"github.com/millrace/millrace/cni/cnipb"
)

// These tests run the server in a process of its own: this test binary, told by its
// environment to serve a directory and to kill itself at a given step.
const (
	serveEnv = "MILLRACE_ATTACH_SERVE" // state directory
	killEnv  = "MILLRACE_ATTACH_KILL"  // number of the step to die at
	tinyEnv  = "MILLRACE_ATTACH_TINY"  // mount a file system of this many kB at the state directory
)

func TestMain(m *testing.M) {
	dir := os.Getenv(serveEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := serveProcess(dir); err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

func serveProcess(dir string) error {
	if kb := os.Getenv(tinyEnv); kb != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("make mounts private: %w", err)
		}
		if err := unix.Mount("tmpfs", filepath.Join(dir, "attachments"), "tmpfs", 0, "size="+kb+"k"); err != nil {
			return fmt.Errorf("mount: %w", err)
		}
	}
	at, err := strconv.Atoi(os.Getenv(killEnv))
	if err != nil {
		at = -1
	}
	steps := &countdown{at}
	journal, err := attach.OpenOn(dir, func(d attach.Disk) attach.Disk { return &mortalDisk{d, steps} })
	if err != nil {
		return err
	}
	pods := &attachtest.Pods{Journal: journal, Boot: os.Getenv("BOOT")}
	for _, name := range []string{"c0", "c1"} {
		pods.Make("/run/netns/" + name)
	}
	server, err := attach.New(attach.Config{
		Journal: journal, Loop: &mortalLoop{steps: steps}, PodSide: pods,
		Ranges: func() []netip.Prefix { return prefixes("10.1.0.0/24") },
	})
	if err != nil {
		return err
	}
	l, err := attach.Listen(filepath.Join(dir, "cni.sock"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // the parent's end of the pipe ends this process
		cancel()
	}()
	fmt.Println("serving")
	return server.Serve(ctx, l)
}

// countdown kills the process when it comes to zero.
type countdown struct{ left int }

func (c *countdown) step() {
	if c.left == 0 {
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		select {} // until it arrives
	}
	c.left--
}

// mortalDisk is a real disk that may be the last thing a process touches: before each
// step, and in the middle of each write.
type mortalDisk struct {
	attach.Disk
	steps *countdown
}

func (d *mortalDisk) Create(name string) (attach.File, error) {
	d.steps.step()
	f, err := d.Disk.Create(name)
	return &mortalFile{f, d.steps}, err
}

func (d *mortalDisk) Rename(from, to string) error {
	d.steps.step()
	return d.Disk.Rename(from, to)
}

func (d *mortalDisk) Remove(name string) error {
	d.steps.step()
	return d.Disk.Remove(name)
}

func (d *mortalDisk) Sync() error {
	d.steps.step()
	return d.Disk.Sync()
}

type mortalFile struct {
	attach.File
	steps *countdown
}

func (f *mortalFile) Write(data []byte) (int, error) {
	n, err := f.File.Write(data[:len(data)/2])
	if err != nil {
		return n, err
	}
	f.steps.step()
	m, err := f.File.Write(data[len(data)/2:])
	return n + m, err
}

func (f *mortalFile) Sync() error {
	f.steps.step()
	return f.File.Sync()
}

// mortalLoop may kill the process before and after a revision is applied.
type mortalLoop struct {
	attachtest.Loop
	steps *countdown
}

func (l *mortalLoop) WaitApplied(ctx context.Context, revision uint64) error {
	l.steps.step()
	defer l.steps.step()
	return l.Loop.WaitApplied(ctx, revision)
}

// process is a server in a process of its own.
type process struct {
	*cni.Client
	cmd   *exec.Cmd
	stdin io.Closer
}

func spawn(t *testing.T, dir string, env ...string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), serveEnv+"="+dir, "BOOT="+bootID(t)), env...)
	for _, e := range env {
		if strings.HasPrefix(e, tinyEnv) {
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		}
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, stdin: stdin}
	t.Cleanup(func() { p.end() })
	line := make([]byte, 200)
	n, err := stdout.Read(line)
	if got := strings.TrimSpace(string(line[:n])); got != "serving" {
		t.Fatalf("the server said %q, %v", got, err)
	}
	if p.Client, err = cni.NewClient(filepath.Join(dir, "cni.sock")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Client.Close() })
	return p
}

// end lets the process end and says whether it was killed before.
func (p *process) end() (killed bool) {
	p.stdin.Close()
	var exit *exec.ExitError
	return errors.As(p.cmd.Wait(), &exit) && exit.Sys().(syscall.WaitStatus).Signaled()
}

func filesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "attachments"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestKilledAtEveryStep kills the server at each step of an ADD and of a DEL. The verb
// repeated with the next server succeeds; so does the opposite; nothing is left over.
func TestKilledAtEveryStep(t *testing.T) {
	add := func(p *process) error { _, err := p.Add(t.Context(), addRequest("c1")); return err }
	del := func(p *process) error { _, err := p.Del(t.Context(), delRequest("c1")); return err }
	tests := []struct {
		name        string
		first       func(*process) error // killed
		again       func(*process) error // with the next server
		before      bool                 // c1 is there at the start
		left        string               // files at the end
		killedSteps int                  // at least
	}{
		{"ADD, then ADD", add, add, false, "[c0@eth0 c1@eth0]", 8},
		{"ADD, then DEL", add, del, false, "[c0@eth0]", 8},
		{"DEL, then DEL", del, del, true, "[c0@eth0]", 4},
		{"DEL, then ADD", del, add, true, "[c0@eth0 c1@eth0]", 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for at := 0; ; at++ {
				dir := t.TempDir()
				p := spawn(t, dir)
				if _, err := p.Add(t.Context(), addRequest("c0")); err != nil {
					t.Fatal(err)
				}
				if tt.before {
					if err := add(p); err != nil {
						t.Fatal(err)
					}
				}
				p.end()

				p = spawn(t, dir, fmt.Sprintf("%s=%d", killEnv, at))
				err := tt.first(p)
				killed := p.end()
				if killed {
					wantCode(t, err, types.ErrTryAgainLater)
				} else if err != nil {
					t.Fatalf("step %d: %v", at, err)
				}

				p = spawn(t, dir)
				if err := tt.again(p); err != nil {
					t.Errorf("killed at step %d, then: %v", at, err)
				}
				if got := fmt.Sprint(filesIn(t, dir)); got != tt.left {
					t.Errorf("killed at step %d: files %s, want %s", at, got, tt.left)
				}
				p.end()
				if !killed {
					if at < tt.killedSteps {
						t.Fatalf("the verb has only %d steps", at)
					}
					return
				}
			}
		})
	}
}

// TestIntegrationFullDisk fills the journal's disk, a small file system in the server's
// own mount namespace.
func TestIntegrationFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small file system")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "attachments"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := spawn(t, dir, tinyEnv+"=64")
	var full error
	stored := 0
	for i := 0; i < 64 && full == nil; i++ {
		request := addRequest("c0")
		request.Id.IfName = fmt.Sprintf("eth%d", i)
		if _, full = p.Add(t.Context(), request); full == nil {
			stored++
		}
	}
	wantCode(t, full, cni.CodeNotStored, "c0/eth"+strconv.Itoa(stored), "no space left on device", dir)
	if stored == 0 {
		t.Fatal("not even one attachment fits")
	}
	// The server sees its own mount only through its own root.
	mounted := fmt.Sprintf("/proc/%d/root%s", p.cmd.Process.Pid, dir)
	if got := len(filesIn(t, mounted)); got != stored {
		t.Errorf("%d files after %d attachments and a failed one: %v", got, stored, filesIn(t, mounted))
	}
	// A full disk does not keep pods from being taken down, and then there is room again.
	del := delRequest("c0")
	if _, err := p.Del(t.Context(), del); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Add(t.Context(), addRequest("c1")); err != nil {
		t.Errorf("after a DEL: %v", err)
	}
}

// TestHostileCallers: whatever arrives at the socket, the server answers the next call.
func TestHostileCallers(t *testing.T) {
	n := start(t, "10.1.0.0/24")
	socket := filepath.Join(n.dir, "cni.sock")
	for _, garbage := range []string{"", "GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + strings.Repeat("\xff", 4096), strings.Repeat("\x00", 1<<16)} {
		conn, err := dialUnix(socket)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, garbage) // the server may hang up at any byte
		conn.Close()
	}
	big := &cnipb.GCRequest{Network: "pods"}
	for range 200_000 {
		big.Valid = append(big.Valid, &cnipb.AttachmentID{ContainerId: "aaaaaaaaaaaaaaaaaaaaaaaa", IfName: "eth0"})
	}
	if _, err := n.GC(t.Context(), big, grpc.MaxCallSendMsgSize(64<<20)); err == nil {
		t.Error("a request beyond the limit was taken")
	}
	if _, err := n.Status(t.Context(), &cnipb.StatusRequest{}); err != nil {
		t.Error(err)
	}
}
