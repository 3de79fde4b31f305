package vmtest

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// qemu is the emulator's process. It dies with this one, whatever ends it.
type qemu struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // of its end; read after ended

	mu    sync.Mutex
	lines []string // the last of the console
	panic string   // the kernel's last words
}

// keptLines of the console are shown when something goes wrong.
const keptLines = 60

// startQEMU starts it. What the guest's console and QEMU itself print is kept.
func startQEMU(path string, args []string) (*qemu, error) {
	q := &qemu{cmd: exec.Command(path, args...), ended: make(chan struct{})}
	q.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	read, write := io.Pipe()
	q.cmd.Stdout, q.cmd.Stderr = write, write
	go q.console(read)
	started := make(chan error)
	go func() {
		// The signal comes when the thread that started the child ends: it is kept.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := q.cmd.Start()
		started <- err
		if err == nil {
			q.err = q.cmd.Wait()
		}
		write.Close()
		close(q.ended)
	}()
	return q, <-started
}

// console keeps the last lines.
func (q *qemu) console(from io.Reader) {
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			q.mu.Lock()
			q.lines = append(q.lines, line)
			q.lines = q.lines[max(0, len(q.lines)-keptLines):]
			if strings.Contains(line, "Kernel panic") {
				q.panic = line
			}
			q.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

// tail is the end of what the console said.
func (q *qemu) tail() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return "console:\n\t" + strings.Join(q.lines, "\n\t")
}

// cause says why it ended.
func (q *qemu) cause() string {
	<-q.ended
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.panic != "" {
		return "the guest's kernel panicked: " + q.panic
	}
	return fmt.Sprintf("qemu ended (%v)", q.err)
}

// kill ends it without warning, as a power cut does, and returns when it is gone.
func (q *qemu) kill() {
	q.cmd.Process.Kill() // an error means that it has ended already
	<-q.ended
}
