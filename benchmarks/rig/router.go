package rig

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.fd.io/govpp/binapi/ip_types"
	vppmemif "go.fd.io/govpp/binapi/memif"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/benchmarks/cores"
	"github.com/millrace/millrace/benchmarks/generator"
	"github.com/millrace/millrace/memif"
	"github.com/millrace/millrace/vpp"
)

// Router is a dataplane in a process of its own that forwards IPv4 on one worker thread,
// in by its first memif and out by its last, which may be the same. It is their server.
// Between windows it is stopped, so that a polling worker takes nothing from others.
type Router struct {
	About benchmarks.Subject
	Core  int // of the worker; negative leaves the engine's threads where they like
	Arms  int // memifs; 0 is 1
	// Sources, if valid, is what may come in by the first memif: it gets a strict check of
	// source addresses, as each interface of a pod has one. VPP needs the plugin urpf.
	Sources netip.Prefix
	// Command makes the process, with its files in dir and its API at socket.
	Command func(dir, socket string) (*exec.Cmd, error)

	dir     string
	process *Process
	conn    *vpp.Conn
	arms    []arm
	socket  *memif.Socket
	end     context.CancelFunc
	ran     chan error
}

// EngineRouter is the embedded engine.
func EngineRouter(binary, version string, core int) *Router {
	return &Router{
		Core:  core,
		About: benchmarks.Subject{Name: "engine", Version: "millrace engine " + version, Detail: "one worker, rx mode polling"},
		Command: func(dir, socket string) (*exec.Cmd, error) {
			return Command(binary, "engine", "--workers", "1", "--api-socket", socket, "--stats-socket", filepath.Join(dir, "stats.sock")), nil
		},
	}
}

// vppWorker is the name of VPP's worker thread.
const vppWorker = "vpp_wk_0"

// vppMemory is what a VPP gets for its heap and buffers, in MB.
const vppMemory = 1024 + 64

// VPPRouter is FD.io VPP with one worker; its main thread has the other core and sleeps.
// It loads plugins, like acl, beside memif.
func VPPRouter(binary string, core, other int, plugins ...string) *Router {
	pages, detail := "4k", "4 KiB pages"
	if HugePages(vppMemory) {
		pages, detail = "default-hugepage", "huge pages"
	}
	enabled := ""
	for _, p := range append([]string{"memif"}, plugins...) {
		enabled += " plugin " + p + "_plugin.so { enable }"
	}
	return &Router{
		Core:  core,
		About: benchmarks.Subject{Name: "vpp", Version: "vpp", Detail: "one worker, rx mode polling, main thread on the generator's core, " + detail},
		Command: func(dir, socket string) (*exec.Cmd, error) {
			conf := fmt.Sprintf(`unix { nodaemon log %[1]s/vpp.log runtime-dir %[1]s gid root cli-listen %[1]s/cli.sock }
api-segment { prefix %[2]s gid root }
socksvr { socket-name %[3]s }
statseg { socket-name %[1]s/stats.sock size 64m page-size 4k }
cpu { main-core %[4]d corelist-workers %[5]d }
memory { main-heap-size 1G main-heap-page-size %[6]s }
buffers { page-size %[6]s buffers-per-numa 16384 }
plugins { plugin default { disable }%[7]s }
`, dir, sharedPrefix(os.Getpid()), socket, other, core, pages, enabled)
			path := filepath.Join(dir, "startup.conf")
			if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
				return nil, fmt.Errorf("write startup.conf: %w", err)
			}
			return Command(binary, "-c", path), nil
		},
	}
}

// Start starts and programs the router: routes lead back to the generator, which is
// connected when Start returns. Then the process stands still.
func (r *Router) Start(ctx context.Context, l *Launcher, routes []netip.Prefix) (err error) {
	if r.dir, err = scratch(); err != nil {
		return err
	}
	api := filepath.Join(r.dir, "api.sock")
	cmd, err := r.Command(r.dir, api)
	if err != nil {
		return err
	}
	if r.process, err = l.StartProcess(nil, r.About.Name, cmd); err != nil {
		return err
	}
	err = r.process.Await(ctx, func(ctx context.Context) error {
		r.conn, err = vpp.Dial(ctx, vpp.Config{Socket: api, Timeout: startPatience})
		return err
	})
	if err != nil {
		return err
	}
	if err := r.settle(); err != nil {
		return err
	}
	if r.About.Name == "vpp" {
		version, err := r.conn.CLI(ctx, "show version")
		if err != nil {
			return err
		}
		r.About.Version = strings.TrimSpace(version)
	}
	if err := r.program(ctx, routes); err != nil {
		return fmt.Errorf("program %s: %w; last output:\n%s", r.About.Name, err, r.process.Output())
	}
	if err := r.connect(ctx); err != nil {
		return err
	}
	return r.Pause(ctx)
}

func (r *Router) memifPath() string { return filepath.Join(r.dir, "memif.sock") }

func (r *Router) program(ctx context.Context, routes []netip.Prefix) error {
	if _, err := vpp.Call[vppmemif.MemifSocketFilenameAddDelV2Reply](ctx, r.conn, &vppmemif.MemifSocketFilenameAddDelV2{
		IsAdd: true, SocketID: armSocket, SocketFilename: r.memifPath(),
	}); err != nil {
		return err
	}
	var setup []vpp.Exchange
	for n := range max(r.Arms, 1) {
		a := newArm(n)
		steps, err := a.create(ctx, r.conn)
		if err != nil {
			return err
		}
		r.arms, setup = append(r.arms, a), append(setup, steps...)
	}
	for _, p := range routes {
		setup = append(setup, r.arms[len(r.arms)-1].route(p))
	}
	if r.Sources.IsValid() {
		setup = append(setup, r.arms[0].route(r.Sources), r.arms[0].checkSources())
	}
	return r.batch(ctx, setup)
}

// batch sends calls and returns the first error.
func (r *Router) batch(ctx context.Context, calls []vpp.Exchange) error {
	if err := r.conn.Batch(ctx, calls); err != nil {
		return fmt.Errorf("%w%s", err, r.ended())
	}
	for _, e := range calls {
		if e.Err != nil {
			return e.Err
		}
	}
	return nil
}

func apiPrefix(p netip.Prefix) ip_types.Prefix {
	return ip_types.Prefix{Address: ip_types.NewAddress(p.Addr().AsSlice()), Len: uint8(p.Bits())}
}

// connect joins the generator's end and has both poll.
func (r *Router) connect(ctx context.Context) (err error) {
	if r.socket, err = memif.NewSocket(memif.SocketConfig{Role: memif.Client, Address: r.memifPath()}); err != nil {
		return err
	}
	for i := range r.arms {
		if err := r.arms[i].join(r.socket); err != nil {
			return err
		}
	}
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	r.end, r.ran = end, make(chan error, 1)
	go func() { r.ran <- r.socket.Run(running) }()
	wait, cancel := context.WithTimeout(ctx, flowPatience)
	defer cancel()
	for _, a := range r.arms {
		if err := a.client.WaitUp(wait); err != nil {
			return fmt.Errorf("connect generator to %s: %w", r.About.Name, err)
		}
		if err := a.poll(ctx, r.conn); err != nil {
			return err
		}
	}
	return nil
}

// settle keeps the engine's threads on the worker's core (VPP pins its own), and has all go
// before what else the machine does: VPP aborts when its worker is held up for a second
// while its main thread waits for it.
func (r *Router) settle() error {
	threads, err := cores.Threads(r.process.PID())
	if err != nil {
		return err
	}
	for tid := range threads {
		if r.About.Name != "vpp" && r.Core >= 0 {
			if err := cores.Pin(tid, r.Core); err != nil {
				return err
			}
		}
		if err := goFirst(tid); err != nil {
			return err
		}
	}
	return nil
}

// goFirst gives a thread the nice value of what goes before all others.
func goFirst(tid int) error {
	if err := unix.Setpriority(unix.PRIO_PROCESS, tid, -20); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("put thread %d first: %w", tid, err)
	}
	return nil
}

// Pause stops the process where it is, Resume lets it go on. It must not be stopped, nor
// its main thread starved, between an answer and the end of the message's work: VPP holds
// its workers at a barrier there, and gives up when that takes a second. The answer to a
// ping is no end either: the barrier of the ping itself is let go after it.
func (r *Router) Pause(ctx context.Context) error {
	err := r.conn.Ping(ctx)
	time.Sleep(release)
	return errors.Join(err, r.signal(syscall.SIGSTOP))
}

// release is how long letting go of a barrier may take on a busy machine.
const release = 10 * time.Millisecond

func (r *Router) Resume() error { return r.signal(syscall.SIGCONT) }

func (r *Router) signal(s syscall.Signal) error {
	if err := syscall.Kill(r.process.PID(), s); err != nil {
		return fmt.Errorf("signal %s: %w", r.About.Name, err)
	}
	return nil
}

// Generator makes a generator that sends to the router's first memif and takes what comes
// back by the last. Like the router, it goes before what else the machine does.
func (r *Router) Generator(core, size, batch int, flows generator.Flows) (*generator.Generator, error) {
	in, out := r.arms[0], r.arms[len(r.arms)-1]
	g, err := generator.New(generator.Config{
		Tx: []*memif.TxQueue{in.client.TxQueue(0)}, Rx: []*memif.RxQueue{out.client.RxQueue(0)},
		Core: core, Size: size, Batch: batch, Flows: flows, Borrow: true, Check: generator.Forwarded(out.router, out.generator, size),
		Header: generator.Header{From: in.generator, To: in.router, Source: in.peer},
	})
	if err != nil {
		return nil, err
	}
	if err := goFirst(g.Thread()); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// Worker finds the thread that forwards: of VPP the one of that name, of the engine the one
// that has the core for itself.
func (r *Router) Worker(ctx context.Context) (int, error) {
	threads, err := cores.Threads(r.process.PID())
	if err != nil {
		return 0, err
	}
	for tid, name := range threads {
		if name == vppWorker {
			return tid, nil
		}
	}
	const look = 50 * time.Millisecond
	before, err := r.usage()
	if err != nil {
		return 0, err
	}
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(look):
	}
	after, err := r.usage()
	if err != nil {
		return 0, err
	}
	best, most := 0, time.Duration(0)
	for tid, u := range after {
		if ran := u.Ran - before[tid].Ran; ran > most {
			best, most = tid, ran
		}
	}
	if most == 0 {
		return 0, fmt.Errorf("find worker of %s: no thread runs", r.About.Name)
	}
	return best, nil
}

func (r *Router) usage() (map[int]cores.Usage, error) {
	threads, err := cores.Threads(r.process.PID())
	if err != nil {
		return nil, err
	}
	all := map[int]cores.Usage{}
	for tid := range threads {
		if all[tid], err = cores.UsageOf(tid); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Trouble says what the link and the router's counters look like, for an error.
func (r *Router) Trouble(ctx context.Context) string {
	text := ""
	for _, a := range r.arms {
		text += fmt.Sprintf("link %+v\n", a.client.Status())
	}
	for _, command := range []string{"show interface", "show errors"} {
		said, err := r.CLI(ctx, command)
		if err != nil {
			said = err.Error()
		}
		text += command + ":\n" + said + "\n"
	}
	return text
}

// CLI runs a command of the router's command line and waits until its work is done.
func (r *Router) CLI(ctx context.Context, command string) (string, error) {
	text, err := r.conn.CLI(ctx, command)
	if err = errors.Join(err, r.conn.Ping(ctx)); err != nil {
		err = fmt.Errorf("%s: %w%s", command, err, r.ended())
	}
	return text, err
}

// ended is how the process ended, if it has.
func (r *Router) ended() string {
	select {
	case <-r.process.Done():
	case <-time.After(3 * time.Second): // its connection may be seen to end first
		return ""
	}
	said := r.process.Output()
	return fmt.Sprintf("; %s has ended (%v); it said:\n%s", r.About.Name, r.process.err, said[:min(len(said), 600)])
}

// Stop ends generator's end and process, whatever of them there is.
func (r *Router) Stop() error {
	var errs []error
	if r.process != nil {
		_ = r.Resume() // gone already is fine
	}
	if r.end != nil {
		r.end()
		errs = append(errs, <-r.ran)
	}
	for _, a := range r.arms {
		if a.client != nil {
			errs = append(errs, a.client.Close())
		}
	}
	if r.conn != nil {
		r.conn.Close()
	}
	if r.process != nil {
		errs = append(errs, r.endProcess())
	}
	if r.dir != "" {
		errs = append(errs, os.RemoveAll(r.dir))
	}
	return errors.Join(errs...)
}

// endProcess asks the engine to end. VPP is not asked: it waits for a worker that may not
// get its core soon, and all that it would tidy up is its shared memory.
func (r *Router) endProcess() error {
	if r.About.Name != "vpp" {
		return r.process.Stop(10 * time.Second)
	}
	r.process.Kill()
	return removeShared(os.Getpid())
}
