// Command agent is the first process of a test's virtual machine, after scripts/vm-init.sh:
// it starts the commands that the test sends, sends back what they print and how they end,
// and reaps every orphan of the guest.
//
// It knows nothing of what is tested, and it never ends: the test ends the guest.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/vmtest/protocol"
)

func main() {
	fmt.Fprintln(os.Stderr, "agent:", run())
	os.Exit(1) // the kernel panics, which the test sees
}

// run serves until it cannot.
func run() error {
	for _, env := range []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"} {
		name, value, _ := strings.Cut(env, "=")
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	port, err := openPort()
	if err != nil {
		return err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	a := &agent{replies: json.NewEncoder(port), running: map[int]*process{}}
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	go a.reap(children)
	a.reply(protocol.Reply{Hello: strings.TrimSpace(string(boot))})
	go func() {
		for ; ; time.Sleep(time.Second) {
			a.reply(protocol.Reply{Beat: true})
		}
	}()
	requests := json.NewDecoder(port)
	for {
		var r protocol.Request
		if err := requests.Decode(&r); err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		if err := a.serve(r); err != nil {
			a.reply(protocol.Reply{ID: r.ID, Failed: err.Error()})
		}
	}
}

// openPort finds the port by its name: no udev makes links here.
func openPort() (*os.File, error) {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if text, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(text)) == protocol.Port {
			return os.OpenFile(filepath.Join("/dev", filepath.Base(filepath.Dir(name))), os.O_RDWR, 0)
		}
	}
	return nil, fmt.Errorf("find virtio port %s: none of %q", protocol.Port, names)
}

type agent struct {
	send    sync.Mutex
	replies *json.Encoder

	mu      sync.Mutex
	running map[int]*process // by pid
}

type process struct {
	id     int
	output [2]*os.File // the ends to read of standard output and error
	copied sync.WaitGroup
}

// reply sends one message; a port that cannot be written ends the guest.
func (a *agent) reply(r protocol.Reply) {
	a.send.Lock()
	defer a.send.Unlock()
	if err := a.replies.Encode(r); err != nil {
		fmt.Fprintln(os.Stderr, "agent: send reply:", err)
		os.Exit(1)
	}
}

func (a *agent) serve(r protocol.Request) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.Run != nil {
		return a.start(r.ID, *r.Run)
	}
	for pid, p := range a.running {
		if p.id == r.ID {
			return syscall.Kill(pid, syscall.Signal(r.Signal))
		}
	}
	return fmt.Errorf("signal command %d: it has ended", r.ID)
}

// start holds the lock, so that the end of the process is not looked at before it is known.
func (a *agent) start(id int, c protocol.Command) error {
	file, err := look(c.Argv)
	if err != nil {
		return err
	}
	stdin, err := input(c.Stdin)
	if err != nil {
		return fmt.Errorf("make standard input: %w", err)
	}
	defer stdin.Close()
	p := &process{id: id}
	files := []uintptr{stdin.Fd()}
	for i := range p.output {
		read, write, err := os.Pipe()
		if err != nil {
			return err
		}
		defer write.Close()
		p.output[i] = read
		files = append(files, write.Fd())
	}
	pid, err := syscall.ForkExec(file, c.Argv, &syscall.ProcAttr{
		Dir: c.Dir, Env: append(os.Environ(), c.Env...), Files: files, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", file, err)
	}
	a.running[pid] = p
	a.reply(protocol.Reply{ID: id, PID: pid})
	for i := range p.output {
		p.copied.Go(func() { a.copy(p, i) })
	}
	return nil
}

// look finds the program in PATH.
func look(argv []string) (string, error) {
	if len(argv) == 0 {
		return "", errors.New("start command: it has no words")
	}
	if strings.Contains(argv[0], "/") {
		return argv[0], nil
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		file := filepath.Join(dir, argv[0])
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("start %s: not in %s", argv[0], os.Getenv("PATH"))
}

// input is a file that holds the text, and that no name leads to.
func input(text []byte) (*os.File, error) {
	if len(text) == 0 {
		return os.Open(os.DevNull)
	}
	f, err := os.CreateTemp("", "stdin")
	if err != nil {
		return nil, err
	}
	os.Remove(f.Name())
	if _, err := f.Write(text); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// copy sends what the process prints, until nobody can print any more.
func (a *agent) copy(p *process, which int) {
	buffer := make([]byte, 16<<10)
	for {
		n, err := p.output[which].Read(buffer)
		if n > 0 {
			r := protocol.Reply{ID: p.id}
			if which == 0 {
				r.Output = buffer[:n]
			} else {
				r.Errors = buffer[:n]
			}
			a.reply(r)
		}
		if err != nil {
			return
		}
	}
}

// reap takes leave of every process that ends: those started here, and orphans.
func (a *agent) reap(children <-chan os.Signal) {
	for range children {
		for {
			var status syscall.WaitStatus
			pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			if err != nil || pid <= 0 {
				break
			}
			a.mu.Lock()
			p, ours := a.running[pid]
			delete(a.running, pid)
			a.mu.Unlock()
			if ours {
				go a.ended(p, status)
			}
		}
	}
}

// ended reports the end, after what was printed. A child that lives on may hold the pipes
// open: it is not waited for.
func (a *agent) ended(p *process, status syscall.WaitStatus) {
	for _, f := range p.output {
		f.SetReadDeadline(time.Now().Add(time.Second)) // pipes have deadlines
	}
	p.copied.Wait()
	for _, f := range p.output {
		f.Close()
	}
	exit := protocol.Exit{Code: status.ExitStatus()}
	if status.Signaled() {
		exit.Signal = int(status.Signal())
	}
	a.reply(protocol.Reply{ID: p.id, Exit: &exit})
}
