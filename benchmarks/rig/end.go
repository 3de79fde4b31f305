package rig

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/millrace/millrace/benchmarks/peer"
)

// EndConfig is one end of a memif link under measurement: it sends as fast as it can, or
// takes whatever comes.
type EndConfig struct {
	Server bool   // else client
	Socket string // path
	Dir    string // scratch space
	Send   bool   // else receive
	Size   int    // bytes of a frame
	Queues int
	Core   int // all its polling is done here
}

func (c EndConfig) role() string {
	if c.Server {
		return "server"
	}
	return "client"
}

// Counted is what a receiving end took in during a window.
type Counted struct {
	Frames  float64
	Took    time.Duration
	Mallocs uint64 // where the end can tell: objects allocated meanwhile
}

// PerSecond is the rate.
func (c Counted) PerSecond() float64 {
	if c.Took <= 0 {
		return 0
	}
	return c.Frames / c.Took.Seconds()
}

// converse is a child process that is spoken to by lines.
type converse struct {
	process *Process
	in      io.WriteCloser
	out     *bufio.Reader
	stdout  *os.File
}

// startConversation starts a process whose standard output is read by the caller.
func startConversation(l *Launcher, name string, args ...string) (*converse, error) {
	cmd := Command(name, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p, err := l.startWith(nil, name, cmd, w)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, errors.Join(err, r.Close(), in.Close())
	}
	return &converse{process: p, in: in, out: bufio.NewReader(r), stdout: r}, nil
}

// line reads one line, waiting at most for patience.
func (c *converse) line(patience time.Duration) (string, error) {
	if err := c.stdout.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	line, err := c.out.ReadString('\n')
	if err != nil {
		select {
		case <-c.process.Done():
		case <-time.After(time.Second):
		}
		return "", fmt.Errorf("read answer of %s: %w; last output:\n%s%s", c.process.name, err, line, c.process.Output())
	}
	return line, nil
}

func (c *converse) say(text string) error {
	if _, err := io.WriteString(c.in, text); err != nil {
		return fmt.Errorf("write to %s: %w; last output:\n%s", c.process.name, err, c.process.Output())
	}
	return nil
}

// hangUp ends the input. That of a process that has ended is closed already.
func (c *converse) hangUp() error {
	if err := c.in.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// close ends the input and gives the process a moment to end by itself.
func (c *converse) close(patience time.Duration) error {
	err := c.hangUp()
	select {
	case <-c.process.Done():
	case <-time.After(patience):
	}
	return errors.Join(err, c.process.Stop(patience), c.stdout.Close())
}

// kill ends the process without asking.
func (c *converse) kill() error {
	c.process.Kill()
	return errors.Join(c.hangUp(), c.stdout.Close())
}

// answerPatience is how long an end may take to answer beyond what it was asked to do: on
// a machine whose two cores others poll, starting testpmd was seen to take over 10 s.
const answerPatience = time.Minute

// LibraryEnd is an end on package memif, in a process of its own: the binary runs itself
// in the role that package peer describes.
type LibraryEnd struct {
	Binary string // the millrace binary
	Batch  int
	Ring   int

	talk *converse
}

// Start starts the process; it listens or connects when Start returns.
func (e *LibraryEnd) Start(_ context.Context, l *Launcher, c EndConfig) (pollers []int, err error) {
	if e.talk, err = startConversation(l, e.Binary, "bench", "memif-peer"); err != nil {
		return nil, err
	}
	var ready peer.Ready
	err = e.ask(peer.Config{Server: c.Server, Socket: c.Socket, Send: c.Send, Size: c.Size, Queues: c.Queues,
		Batch: e.Batch, Ring: e.Ring, Core: c.Core, Priority: pollPriority}, &ready, answerPatience)
	return []int{ready.Thread}, err
}

func (e *LibraryEnd) ask(question, answer any, patience time.Duration) error {
	text, err := json.Marshal(question)
	if err != nil {
		return err
	}
	if err := e.talk.say(string(text) + "\n"); err != nil {
		return err
	}
	line, err := e.talk.line(patience)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(line), answer); err != nil {
		return fmt.Errorf("read answer %q: %w", line, err)
	}
	return nil
}

// Window asks the process for a window.
func (e *LibraryEnd) Window(from, to int64) (Counted, error) {
	var a peer.Answer
	if err := e.ask(peer.Window{From: from, To: to}, &a, answerPatience+time.Duration(to-from)); err != nil {
		return Counted{}, err
	}
	if a.Error != "" {
		return Counted{}, errors.New(a.Error)
	}
	return Counted{Frames: float64(a.Received), Took: a.Took, Mallocs: a.Mallocs}, nil
}

// Stop ends the process.
func (e *LibraryEnd) Stop() error {
	if e.talk == nil {
		return nil
	}
	return e.talk.close(5 * time.Second)
}
