package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/benchmarks/rig"
)

// Restart measures how long pods are cut off when the dataplane is killed (kill -9) under
// their traffic: the manager starts it again in place, the agent tells it all anew, the
// peer of a pod's memif connects again. Each kill is of a node of its own, since a manager waits longer with each crash in a row. The
// dataplanes take turns.
type Restart struct {
	Title    string
	Subjects func() []*rig.Millrace // new ones, in the same order
	Kills    int
	Pods     int // beside the two that talk: what the agent has to make anew
	Progress func(Progress)
}

type restartRun struct {
	Restart
	launcher *rig.Launcher
	result   *benchmarks.Result
	started  time.Time
	done     int
}

// Run runs the measurement. The result is returned also when it was cut short.
func (c Restart) Run(ctx context.Context) (*benchmarks.Result, error) {
	machine, err := benchmarks.ThisMachine()
	if err != nil {
		return nil, err
	}
	r := &restartRun{Restart: c, launcher: rig.NewLauncher(), started: time.Now(), result: &benchmarks.Result{
		Schema: benchmarks.Schema, Title: c.Title, Started: time.Now().UTC(), Machine: machine,
	}}
	defer r.launcher.Close()
	err = r.all(ctx)
	r.longest()
	r.result.Seconds = time.Since(r.started).Seconds()
	if r.result.Complete = err == nil; err != nil {
		r.result.Problem = err.Error()
	}
	return r.result, err
}

func (r *restartRun) all(ctx context.Context) error {
	for n := range r.Kills {
		subjects := r.Subjects()
		for _, s := range subjects {
			r.Progress(Progress{Step: fmt.Sprintf("%s: kill %d of %d", s.Dataplane, n+1, r.Kills),
				Done: r.done, Total: r.Kills * len(subjects), Elapsed: time.Since(r.started)})
			r.done++
			if err := r.once(ctx, s, n == 0); err != nil {
				return fmt.Errorf("%s: %w", s.Dataplane, err)
			}
		}
	}
	return nil
}

// What is cut off.
const (
	podsCutOff  = "pods-cut-off"
	memifCutOff = "memif-cut-off"
)

// longest adds the worst sample of each subject, which a median hides.
func (r *restartRun) longest() {
	what := map[string]string{podsCutOff: "pods", memifCutOff: "memif"}
	for _, m := range slices.Clone(r.result.Measurements) {
		worst := m
		worst.Name, worst.Samples = m.Name+"-longest", nil
		worst.Title = fmt.Sprintf("the longest of %d kills, %s", len(m.Samples), what[m.Name])
		r.result.Add(worst, m.Quantile(1))
	}
}

// functionPod is the pod with a memif.
const functionPod = "function"

// once kills one dataplane.
func (r *restartRun) once(ctx context.Context, s *rig.Millrace, first bool) (err error) {
	s.MemifPods = []string{functionPod}
	bed, err := rig.NewBed(ctx, r.launcher, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bed.Close(context.WithoutCancel(ctx))) }()
	if first {
		r.result.Subjects = append(r.result.Subjects, bed.About)
	}
	names := []string{"client", "server", functionPod}
	for i := range r.Pods {
		names = append(names, fmt.Sprintf("other%d", i))
	}
	pods := map[string]*rig.Pod{}
	for _, name := range names {
		if pods[name], _, err = bed.Add(ctx, name); err != nil {
			return err
		}
	}
	function, err := rig.StartFunction(ctx, pods[functionPod])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, function.Close()) }()
	server, err := pods["server"].Addr(false)
	if err != nil {
		return err
	}
	out, err := r.underTraffic(ctx, s, pods["client"], server, function.Addr)
	if err != nil {
		return err
	}
	for i, m := range []benchmarks.Measurement{
		{Name: podsCutOff, Title: fmt.Sprintf("pods cut off by kill -9 of the dataplane, %d pods on the node", len(pods))},
		{Name: memifCutOff, Title: "a pod's memif cut off by it, until its peer has connected again and passes frames"},
	} {
		m.Subject, m.Unit, m.Better, m.Command = bed.About.Name, "ms", benchmarks.Lower, "millrace bench restart"
		m.Note = "the longest pause between two answers to a ping every 2 ms"
		r.result.Add(m, milliseconds(out[i]))
	}
	return nil
}

// pingFor is how long the traffic lasts; the kill comes after killAfter of it.
const (
	pingFor   = 10 * time.Second
	killAfter = time.Second
)

// underTraffic kills the dataplane between pings and returns the longest pause of answers
// of each address.
func (r *restartRun) underTraffic(ctx context.Context, s *rig.Millrace, from *rig.Pod, to ...netip.Addr) ([]time.Duration, error) {
	pid, err := s.DataplanePID()
	if err != nil {
		return nil, err
	}
	pings := make([]*exec.Cmd, len(to))
	outs := make([]bytes.Buffer, len(to))
	for i, addr := range to {
		pings[i] = rig.Command("ping", "-n", "-D", "-i", "0.002", "-w", strconv.Itoa(int(pingFor.Seconds())), addr.String())
		pings[i].Stdout = &outs[i]
		if err := r.launcher.Start(from.Namespace, pings[i]); err != nil {
			return nil, err // those that run end by themselves
		}
	}
	select {
	case <-ctx.Done():
	case <-time.After(killAfter):
	}
	kill := syscall.Kill(pid, syscall.SIGKILL)
	end := time.Now().Add(pingFor - killAfter)
	pauses := make([]time.Duration, len(to))
	errs := []error{kill}
	for i, ping := range pings {
		// ping exits with 1 when nothing was answered at all; the answers say that better.
		waited := ping.Wait()
		var last time.Time
		if pauses[i], last, err = longestPause(outs[i].Bytes()); err != nil {
			err = fmt.Errorf("%w (ping %s: %v)", err, to[i], waited)
		} else if late := end.Sub(last); late > time.Second {
			err = fmt.Errorf("pods did not talk again: the last answer of %s came %v before the end of %v", to[i], late.Round(time.Millisecond), pingFor)
		}
		errs = append(errs, err)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return pauses, errors.Join(errs...)
}

var answered = regexp.MustCompile(`(?m)^\[(\d+)\.(\d{6})\] \d+ bytes from .* ttl=`)

// longestPause reads the times that ping -D prints before each answer.
func longestPause(out []byte) (longest time.Duration, last time.Time, err error) {
	for _, m := range answered.FindAllSubmatch(out, -1) {
		seconds, errS := strconv.ParseInt(string(m[1]), 10, 64)
		micros, errM := strconv.ParseInt(string(m[2]), 10, 64)
		if err := errors.Join(errS, errM); err != nil {
			return 0, last, fmt.Errorf("read ping's times: %w", err)
		}
		at := time.Unix(seconds, micros*1000)
		if !last.IsZero() {
			longest = max(longest, at.Sub(last))
		}
		last = at
	}
	if last.IsZero() {
		return 0, last, errors.New("ping got no answer")
	}
	return longest, last, nil
}
