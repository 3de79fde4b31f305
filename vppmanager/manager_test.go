package vppmanager

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/vpe"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vpp/compat"
	"github.com/millrace/millrace/vpp/vpptest"
	"github.com/millrace/millrace/vppmanager/startup"
)

// TestMain turns this binary into a dataplane that answers pings when it is asked to.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "as-dataplane" {
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		if err := serveAs(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		<-term
		return
	}
	os.Exit(m.Run())
}

// serveAs serves an API in dir whose table has all messages but the named one. The socket
// moves to its place when the table is whole.
func serveAs(dir, without string) error {
	aside := filepath.Join(dir, "aside")
	if err := os.Mkdir(aside, 0o755); err != nil {
		return err
	}
	s := vpptest.New(process{dir: aside})
	var table []api.Message
	for _, f := range compat.Features() {
		for _, msg := range f.Messages {
			if msg.GetMessageName() != without {
				table = append(table, msg)
			}
		}
	}
	vpptest.Handle(s, func(p *vpptest.Peer, context uint32, _ *vpe.ShowVersion) {
		p.Reply(context, &vpe.ShowVersionReply{Program: "vpe", Version: "24.06"})
	}, table...)
	if err := os.Rename(s.Socket, filepath.Join(dir, "api.sock")); err != nil {
		return err
	}
	return os.Remove(aside)
}

// process lets vpptest run outside of a test: its socket lies in dir, trouble ends it.
type process struct {
	testing.TB
	dir string
}

func (p process) Helper()         {}
func (p process) Cleanup(func())  {}
func (p process) TempDir() string { return p.dir }
func (p process) Errorf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}
func (p process) Fatalf(format string, args ...any) {
	p.Errorf(format, args...)
	os.Exit(1)
}

// answering is a plan whose dataplane is this binary.
func answering(t *testing.T) startup.Plan {
	t.Helper()
	dir, err := os.MkdirTemp("", "mgr") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	run := filepath.Join(dir, "run")
	return startup.Plan{
		Dataplane: nodeconfig.UseEngine, RuntimeDir: run, Command: []string{"/proc/self/exe", "as-dataplane", run, "nothing"},
		Sockets: startup.Sockets{API: filepath.Join(run, "api.sock"), Stats: filepath.Join(run, "stats.sock")},
	}
}

// running is one Run in the background.
type running struct {
	cancel context.CancelFunc
	done   chan error
}

func start(t *testing.T, plan startup.Plan, opt Options) running {
	t.Helper()
	return startWith(t, plan, nil, opt)
}

// startWith runs a plan, or its refusal.
func startWith(t *testing.T, plan startup.Plan, refusal error, opt Options) running {
	t.Helper()
	opt.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	opt.Output = t.Output()
	ctx, cancel := context.WithCancel(t.Context())
	r := running{cancel, make(chan error, 1)}
	opt.Plan = func(nodeconfig.Config) (startup.Plan, error) { return plan, refusal }
	cfg := nodeconfig.Config{RuntimeDir: plan.RuntimeDir, StateDir: filepath.Join(filepath.Dir(plan.RuntimeDir), "state")}
	go func() { r.done <- Run(ctx, cfg, opt) }()
	t.Cleanup(cancel)
	return r
}

func (r running) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		t.Errorf("run: %v", err)
	}
}

// systemd is the receiving end of $NOTIFY_SOCKET.
func systemd(t *testing.T, address string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// awaitMessage reads messages until one contains want, or says that there will be none.
func awaitMessage(t *testing.T, conn *net.UnixConn, want string) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	var seen []string
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("no message with %q, but %q: %v", want, seen, err)
		}
		seen = append(seen, string(buf[:n]))
		if strings.Contains(string(buf[:n]), want) {
			return
		}
		if strings.Contains(string(buf[:n]), "STOPPING=1") {
			t.Fatalf("stopped without a message with %q, but %q", want, seen)
		}
	}
}

func TestRunTellsSystemd(t *testing.T) {
	for _, kind := range []string{"path", "abstract"} {
		t.Run(kind, func(t *testing.T) {
			plan := answering(t)
			address := filepath.Join(filepath.Dir(plan.RuntimeDir), "notify")
			if kind == "abstract" {
				address = fmt.Sprintf("@millrace-test-%d", os.Getpid())
			}
			conn := systemd(t, address)
			r := start(t, plan, Options{NotifySocket: address})
			awaitMessage(t, conn, "STATUS=engine dataplane starting")
			awaitMessage(t, conn, "READY=1\nSTATUS=engine dataplane ready")
			r.stop(t)
			awaitMessage(t, conn, "STOPPING=1")
			if _, err := os.Stat(plan.RuntimeDir); !os.IsNotExist(err) {
				t.Errorf("the runtime directory is still there: %v", err)
			}
		})
	}
}

// TestRunWithoutSystemd: a notify socket that nobody serves must not stop the dataplane.
func TestRunWithoutSystemd(t *testing.T) {
	plan := answering(t)
	r := start(t, plan, Options{NotifySocket: "/none/notify", Health: "127.0.0.1:0"})
	r.stop(t)
}

// TestHealthAddressTaken: nothing is started when readiness cannot be told.
func TestHealthAddressTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	plan := answering(t)
	r := start(t, plan, Options{Health: l.Addr().String()})
	if err := <-r.done; err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(plan.RuntimeDir); !os.IsNotExist(err) {
		t.Errorf("the runtime directory was made: %v", err)
	}
}

// TestRunReportsABrokenDataplane: the health server must not keep a failed run alive.
func TestRunReportsABrokenDataplane(t *testing.T) {
	plan := answering(t)
	plan.Command = []string{"/bin/sh", "-c", "echo no such option >&2; exit 7"}
	r := start(t, plan, Options{Health: "127.0.0.1:0"})
	err := <-r.done
	for _, want := range []string{"run engine: 3 starts, none became ready", "exited with code 7", "| no such option", "what to do: its last lines say why"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

func TestSpecKeepsThePlan(t *testing.T) {
	spec := specOf(startup.Plan{
		Dataplane: nodeconfig.UseVPP, Command: []string{"/usr/bin/vpp", "-c", "/r/startup.conf"}, RuntimeDir: "/r",
		Sockets: startup.Sockets{API: "/r/a", Stats: "/r/s", CLI: "/r/c"}, Strays: []string{"/dev/shm/x"},
		Files: []startup.Content{{Path: "/r/startup.conf", Text: "unix { }\n"}},
	}, nodeconfig.Config{StateDir: "/s"})
	if spec.Name != "vpp" || spec.CrashDir != "/s/crashes" || spec.APISocket != "/r/a" || !slices.Equal(spec.Sockets, []string{"/r/a", "/r/s", "/r/c"}) ||
		!slices.Equal(spec.Strays, []string{"/dev/shm/x"}) || len(spec.Files) != 1 || spec.Files[0].Text != "unix { }\n" {
		t.Errorf("spec %+v", spec)
	}
}
