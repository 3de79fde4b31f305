package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/benchmarks/cores"
)

// TestpmdEnd is DPDK's testpmd on net_memif: txonly as a sender, rxonly as a receiver.
type TestpmdEnd struct {
	Binary string // dpdk-testpmd

	talk  *converse
	clock cores.Clock
	sends bool
}

// testpmdMemory is what a testpmd gets, in MB.
const testpmdMemory = 256

// TestpmdHuge says whether the machine has huge pages for two testpmds.
func TestpmdHuge() bool { return HugePages(2 * testpmdMemory) }

// TestpmdArgs are the arguments as a person would type them.
func TestpmdArgs(c EndConfig, huge bool) []string {
	args := []string{"--lcores", fmt.Sprintf("0@%d,1@%d", c.Core, c.Core), "--no-pci", "--no-telemetry", "-m", strconv.Itoa(testpmdMemory)}
	if huge {
		args = append(args, "--in-memory")
	} else {
		args = append(args, "--no-huge", "--no-shconf", "--file-prefix", "millrace-"+c.role())
	}
	args = append(args, "--vdev", fmt.Sprintf("net_memif0,role=%s,socket=%s,socket-abstract=no", c.role(), c.Socket),
		"--", "-i", "--nb-cores=1", "--total-num-mbufs=16384", "--burst=32")
	if c.Queues > 1 {
		args = append(args, fmt.Sprintf("--rxq=%d", c.Queues), fmt.Sprintf("--txq=%d", c.Queues))
	}
	return args
}

// testpmdSegments splits a frame as testpmd wants it told: no buffer of memif is longer.
func testpmdSegments(size int) string {
	const most = 2048
	var parts []string
	for ; size > most; size -= most {
		parts = append(parts, strconv.Itoa(most))
	}
	return strings.Join(append(parts, strconv.Itoa(size)), ",")
}

// Start starts testpmd and its forwarding.
func (e *TestpmdEnd) Start(ctx context.Context, l *Launcher, c EndConfig) (pollers []int, err error) {
	e.sends = c.Send
	if e.clock, err = cores.NewClock(); err != nil {
		return nil, err
	}
	// Without a terminal testpmd would hold its answers back; its runtime directory is
	// where nothing is left behind.
	args := append([]string{"RUNTIME_DIRECTORY=" + c.Dir, "stdbuf", "-oL", e.Binary}, TestpmdArgs(c, TestpmdHuge())...)
	if e.talk, err = startConversation(l, "env", args...); err != nil {
		return nil, err
	}
	mode := "rxonly"
	if c.Send {
		mode = "txonly"
	}
	if err := e.talk.say(fmt.Sprintf("set fwd %s\nset txpkts %s\nstart\n", mode, testpmdSegments(c.Size))); err != nil {
		return nil, err
	}
	if _, err := e.until(regexp.MustCompile(`RX desc=|packet forwarding packets/burst`)); err != nil {
		return nil, fmt.Errorf("start testpmd: %w", err)
	}
	return e.threads()
}

// until reads lines until one matches.
func (e *TestpmdEnd) until(want *regexp.Regexp) ([]string, error) {
	for {
		line, err := e.talk.line(answerPatience)
		if err != nil {
			return nil, err
		}
		if m := want.FindStringSubmatch(line); m != nil {
			return m, nil
		}
	}
}

// threads finds the worker, and has the thread that answers go before it.
func (e *TestpmdEnd) threads() (pollers []int, err error) {
	pid := e.talk.process.PID()
	threads, err := cores.Threads(pid)
	if err != nil {
		return nil, err
	}
	for tid, name := range threads {
		if strings.HasPrefix(name, "rte-worker") || strings.HasPrefix(name, "lcore-worker") || strings.HasPrefix(name, "dpdk-worker") {
			pollers = append(pollers, tid)
		}
	}
	if len(pollers) == 0 {
		return nil, fmt.Errorf("find testpmd's worker: none among its threads %v", threads)
	}
	if _, err := cores.Raise(pid, orderPriority); err != nil && !os.IsPermission(err) {
		return nil, err // it keeps what it gets: it lives for one window
	}
	return pollers, nil
}

// rxRate is the rate that testpmd computes between two looks at its counters.
var rxRate = regexp.MustCompile(`Rx-pps:\s+(\d+)`)

// Window takes the rate between the window's two ends as testpmd's own clock sees it.
func (e *TestpmdEnd) Window(from, to int64) (Counted, error) {
	e.sleepUntil(from)
	if e.sends {
		e.sleepUntil(to)
		return Counted{}, nil
	}
	if _, err := e.look(); err != nil {
		return Counted{}, err
	}
	e.sleepUntil(to)
	rate, err := e.look()
	took := time.Duration(to - from)
	return Counted{Frames: rate * took.Seconds(), Took: took}, err
}

func (e *TestpmdEnd) sleepUntil(t int64) { time.Sleep(time.Duration(t - e.clock.Now())) }

func (e *TestpmdEnd) look() (rate float64, err error) {
	if err := e.talk.say("show port stats 0\n"); err != nil {
		return 0, err
	}
	m, err := e.until(rxRate)
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(m[1], 64)
}

// Stop ends testpmd. Killed, it leaves nothing but the socket in the scratch directory.
func (e *TestpmdEnd) Stop() error {
	if e.talk == nil {
		return nil
	}
	return e.talk.kill()
}

// TestpmdVersion asks testpmd for DPDK's version.
func TestpmdVersion(ctx context.Context, binary string) (string, error) {
	dir, err := scratch()
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	cmd := exec.CommandContext(ctx, binary, "-v", "--no-huge", "-m", "64", "--no-pci", "--no-shconf", "--no-telemetry", "--", "--help")
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+dir)
	out, err := cmd.CombinedOutput()
	m := regexp.MustCompile(`RTE Version: '([^']+)'`).FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("ask %s for its version: %w: %s", binary, err, out)
	}
	return string(m[1]), nil
}
