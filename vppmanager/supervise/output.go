package supervise

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"syscall"
)

// Exit tells how a process ended.
type Exit struct {
	Code   int            // when Signal is 0
	Signal syscall.Signal // 0: it exited by itself
	Core   bool           // a core file was written
	Output []string       // last lines of its standard output and error, bounded
}

func (e Exit) String() string {
	if e.Signal != 0 {
		s := fmt.Sprintf("was killed by signal %d (%v)", int(e.Signal), e.Signal)
		if e.Core {
			s += " and left a core file"
		}
		return s
	}
	return fmt.Sprintf("exited with code %d", e.Code)
}

func exitOf(state *os.ProcessState, output []string) Exit {
	e := Exit{Code: state.ExitCode(), Output: output}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		e.Signal, e.Core = ws.Signal(), ws.CoreDump()
	}
	return e
}

const (
	tailLines = 50  // kept for the report of a crash
	lineBytes = 400 // kept of each line
)

// tail passes what is written on to another writer and keeps the last lines.
type tail struct {
	out io.Writer

	mu    sync.Mutex
	lines []string
	open  []byte // the line that has not ended yet
}

// Write never fails: a child must not block or die because its log cannot be written.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for rest := b; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		t.open = append(t.open, line[:min(len(line), lineBytes-min(len(t.open), lineBytes))]...)
		if ended {
			t.lines = append(t.lines, string(t.open))
			t.open = t.open[:0]
		}
		rest = after
	}
	if extra := len(t.lines) - tailLines; extra > 0 {
		t.lines = slices.Delete(t.lines, 0, extra)
	}
	if _, err := t.out.Write(b); err != nil {
		t.out = io.Discard
	}
	return len(b), nil
}

// end ends the last line, so that what others print begins a new one, and returns the
// lines that were kept.
func (t *tail) end() []string {
	t.mu.Lock()
	unended := len(t.open) > 0
	t.mu.Unlock()
	if unended {
		t.Write([]byte("\n"))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.lines)
}
