package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.fd.io/govpp/api"

	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/vpp"
)

// patience bounds what a broken machine costs; nothing waits for it when all is well.
const patience = 10 * time.Second

// starting bounds what a machine takes until it serves its API, on a host that is busy.
const starting = 2 * time.Minute

// Session is one machine with its ports, and the transcript of what was done to it.
type Session struct {
	T    testing.TB
	Conn *vpp.Conn

	dir        string // the machine's
	api, stats string
	process    *exec.Cmd
	inside     *netnstest.Namespace // where the machine runs
	outside    *netnstest.Namespace // where the test's ends of its ports are
	ports      []*Port
	text       strings.Builder
	vpp        []string // the transcript of VPP, unless this is VPP that writes it
}

func newSession(t testing.TB, machine Machine, plugins ...string) *Session {
	t.Helper()
	s := &Session{T: t, inside: netnstest.New(t), outside: netnstest.New(t)}
	for _, n := range []*netnstest.Namespace{s.inside, s.outside} {
		// Otherwise the kernel of the host takes part with ND of its own.
		n.Run(t, func() error {
			return os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
		})
	}
	dir := t.TempDir()
	s.dir = dir
	s.api, s.stats = filepath.Join(dir, "api.sock"), filepath.Join(dir, "stats.sock")
	s.start(machine, dir, plugins...)
	s.Conn = s.Dial()
	return s
}

// start runs the machine; its output is shown when the test fails.
func (s *Session) start(machine Machine, dir string, plugins ...string) {
	s.T.Helper()
	output, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		s.T.Fatal(err)
	}
	s.process = machine.Command(s.T, s.inside, dir, s.api, s.stats, plugins...)
	s.process.Stdout, s.process.Stderr = output, output
	ended, err := startBound(s.process)
	if err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(func() {
		err := <-ended // the context of the test has ended, and with it the process
		output.Close()
		killed := s.process.WaitDelay == 0 && s.process.ProcessState != nil &&
			s.process.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
		if err != nil && !errors.Is(err, context.Canceled) && !killed {
			s.T.Errorf("machine ended: %v", err)
		}
		if s.T.Failed() {
			text, _ := os.ReadFile(output.Name())
			s.T.Logf("machine's output:\n%s", text)
		}
	})
}

// startBound starts a process that dies with this one. The kernel binds it to the thread
// that starts it, so that thread is kept until the process has ended.
func startBound(process *exec.Cmd) (ended <-chan error, err error) {
	started, done := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err := process.Start()
		started <- err
		if err == nil {
			done <- process.Wait()
		}
	}()
	return done, <-started
}

// Dial opens one more connection to the machine, waiting until it is there.
func (s *Session) Dial() *vpp.Conn {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(s.T.Context(), starting)
	defer cancel()
	var last error
	for ctx.Err() == nil {
		conn, err := vpp.Dial(ctx, vpp.Config{Socket: s.api, Timeout: patience})
		if err == nil {
			s.T.Cleanup(conn.Close)
			return conn
		}
		last = err
		s.pause(ctx)
	}
	s.T.Fatalf("the machine serves no API: %v", last)
	return nil
}

// pause is between two looks at something that is not ready yet.
func (s *Session) pause(ctx context.Context) {
	timer := time.NewTimer(5 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// Transcript is what was written so far. The machine's directory is called RUN.
func (s *Session) Transcript() string { return strings.ReplaceAll(s.text.String(), s.dir, "RUN") }

// Write adds a line.
func (s *Session) Write(format string, args ...any) { fmt.Fprintf(&s.text, format+"\n", args...) }

// ahead is what VPP's transcript has where this one goes on. It decides for how long to
// wait, and nothing else: a machine that is kept from running is late, not wrong.
func (s *Session) ahead() []string {
	return s.vpp[min(len(s.vpp), strings.Count(s.text.String(), "\n")):]
}

// Note adds a heading that tells the reader what comes.
func (s *Session) Note(format string, args ...any) { s.Write("\n# "+format, args...) }

// Call sends a request and writes down request and reply.
func (s *Session) Call(req api.Message) api.Message {
	s.T.Helper()
	s.Write("%s", describeMessage(req))
	reply := s.blank(req.GetMessageName() + "_reply")
	err := s.Conn.Invoke(s.T.Context(), req, reply)
	if errors.Is(err, vpp.ErrUnsupported) {
		s.T.Skipf("this machine does not offer it: %v", err)
	}
	if err != nil && vpp.Retval(err) == 0 {
		s.T.Fatalf("%v; so far:\n%s", err, s.Transcript())
	}
	s.Write("  %s", describeReply(reply))
	return reply
}

// Must is Call for a step that has to succeed for the case to make sense.
func (s *Session) Must(req api.Message) api.Message {
	s.T.Helper()
	reply := s.blank(req.GetMessageName() + "_reply")
	if err := s.Conn.Invoke(s.T.Context(), req, reply); err != nil {
		s.T.Fatalf("%s: %v", describeMessage(req), err)
	}
	return reply
}

// Dump writes down a dump: its details in the order of their text, since tables have no
// order of their own.
func (s *Session) Dump(req api.Message) []api.Message {
	s.T.Helper()
	s.Write("%s", describeMessage(req))
	all := s.Details(req)
	lines := make([]string, len(all))
	for i, d := range all {
		lines[i] = "  " + describeMessage(d)
	}
	slices.Sort(lines)
	for _, l := range lines {
		s.Write("%s", l)
	}
	return all
}

// Details is Dump without writing.
func (s *Session) Details(req api.Message) []api.Message {
	s.T.Helper()
	name := strings.TrimSuffix(req.GetMessageName(), "_dump") + "_details"
	var all []api.Message
	for details, err := range s.Conn.Details(s.T.Context(), req, func() api.Message { return s.blank(name) }) {
		if err != nil {
			s.T.Fatalf("%v", err)
		}
		all = append(all, details)
	}
	return all
}

// CLI writes down a command and those lines of its answer that contain one of the texts.
func (s *Session) CLI(command string, containing ...string) {
	s.T.Helper()
	text, err := s.Conn.CLI(s.T.Context(), command)
	if err != nil && vpp.Retval(err) == 0 {
		s.T.Fatalf("%v", err)
	}
	s.Write("cli %q\n  retval=%d", command, vpp.Retval(err))
	for line := range strings.Lines(text) {
		if slices.ContainsFunc(containing, func(c string) bool { return strings.Contains(line, c) }) {
			s.Write("  %s", strings.Join(strings.Fields(line), " "))
		}
	}
}

// blank makes an empty message by its name.
func (s *Session) blank(name string) api.Message {
	s.T.Helper()
	for _, messages := range api.GetRegisteredMessages() {
		for key, m := range messages {
			if key[:strings.LastIndexByte(key, '_')] == name {
				return reflect.New(reflect.TypeOf(m).Elem()).Interface().(api.Message)
			}
		}
	}
	s.T.Fatalf("no message is called %s", name)
	return nil
}
