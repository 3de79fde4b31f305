// Package scenario owns the experiments: which subjects, which steps, how often, in
// which order, as values; and running them into a benchmarks.Result.
//
// It never draws, and never knows how a subject is built: package rig does.
package scenario

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/benchmarks/rig"
	"github.com/millrace/millrace/benchmarks/traffic"
)

// Comparison is the experiment behind `millrace demo` and `millrace bench`: the same
// pods, pings, streams and CNI calls on every subject, side by side in one run.
type Comparison struct {
	Title       string
	Subjects    []rig.Subject
	Repetitions int            // of each stream
	Seconds     int            // of each stream
	Pods        int            // of the CNI latency step
	Progress    func(Progress) // called often, from one goroutine
}

// Progress says how far a run is.
type Progress struct {
	Step    string
	Done    int
	Total   int
	Elapsed time.Duration
	Left    time.Duration // estimated from the steps done so far
}

// bench is one subject while the experiment runs.
type bench struct {
	*rig.Bed
	a, b *rig.Pod
}

// step is one thing to do with one subject.
type step struct {
	name   string
	weight int // rough seconds, for the estimate
	run    func(ctx context.Context) error
}

// run is a Comparison in motion.
type run struct {
	Comparison
	launcher *rig.Launcher
	result   *benchmarks.Result
	beds     []*bench
}

// Run runs the experiment. The result is returned also when it was cut short: it then
// holds what was measured and says what went wrong.
func (c Comparison) Run(ctx context.Context) (*benchmarks.Result, error) {
	machine, err := benchmarks.ThisMachine()
	if err != nil {
		return nil, err
	}
	r := &run{Comparison: c, launcher: rig.NewLauncher(), result: &benchmarks.Result{
		Schema: benchmarks.Schema, Title: c.Title, Started: time.Now().UTC(), Machine: machine,
	}}
	err = r.all(ctx)
	for _, b := range r.beds {
		err = errors.Join(err, b.Close(context.WithoutCancel(ctx)))
	}
	r.launcher.Close()
	r.result.Seconds = time.Since(r.result.Started).Seconds()
	r.result.Complete = err == nil
	if err != nil {
		r.result.Problem = err.Error()
	}
	return r.result, err
}

func (r *run) all(ctx context.Context) error {
	started := time.Now()
	steps := r.bringUp()
	total, done := r.weight(), 0
	for len(steps) > 0 {
		s := steps[0]
		steps = steps[1:]
		elapsed := time.Since(started)
		p := Progress{Step: s.name, Done: done, Total: total, Elapsed: elapsed}
		if done > 0 {
			p.Left = time.Duration(float64(elapsed) * float64(total-done) / float64(done))
		}
		r.Progress(p)
		if err := s.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		done += s.weight
		if len(steps) == 0 && s.name == "pods attached" {
			steps = r.measure()
		}
	}
	return nil
}

// weight is the sum of all steps' weights, those not yet made included.
func (r *run) weight() int {
	n := len(r.Subjects)
	streams := len(streams()) * r.Repetitions * (r.Seconds + 1)
	return n*(3+3+2+streams+r.Pods/4) + 1
}

// bringUp starts the subjects and attaches the pods that traffic flows between.
func (r *run) bringUp() []step {
	var steps []step
	for _, s := range r.Subjects {
		steps = append(steps, step{name: "start a node", weight: 3, run: func(ctx context.Context) error {
			bed, err := rig.NewBed(ctx, r.launcher, s)
			if err != nil {
				return err
			}
			b := &bench{Bed: bed}
			r.beds = append(r.beds, b)
			r.result.Subjects = append(r.result.Subjects, bed.About)
			if b.a, _, err = b.Add(ctx, "client"); err != nil {
				return err
			}
			b.b, _, err = b.Add(ctx, "server")
			return err
		}})
	}
	return append(steps, step{name: "pods attached", weight: 1, run: func(context.Context) error { return nil }})
}

// measure lists the measuring steps, subjects interleaved: A B, B A, A B, …
func (r *run) measure() []step {
	var steps []step
	for _, b := range r.beds {
		steps = append(steps, step{name: b.About.Name + ": ping", weight: 3, run: func(ctx context.Context) error { return r.pings(ctx, b) }})
	}
	for rep := range r.Repetitions {
		for _, s := range streams() {
			for i := range r.beds {
				b := r.beds[(i+rep)%len(r.beds)]
				steps = append(steps, step{
					name:   fmt.Sprintf("%s: %s (%d of %d)", b.About.Name, s.Title, rep+1, r.Repetitions),
					weight: r.Seconds + 1,
					run:    func(ctx context.Context) error { return r.stream(ctx, b, s) },
				})
			}
		}
	}
	for _, b := range r.beds {
		steps = append(steps, step{name: b.About.Name + ": API calls and plugin start", weight: 2, run: func(ctx context.Context) error { return r.vitals(ctx, b) }})
	}
	for _, b := range r.beds {
		steps = append(steps, step{name: fmt.Sprintf("%s: CNI ADD and DEL of %d pods", b.About.Name, r.Pods), weight: r.Pods / 4,
			run: func(ctx context.Context) error { return r.churn(ctx, b) }})
	}
	return steps
}

// stream is one kind of iperf3 run.
type stream struct {
	benchmarks.Measurement
	iperf   traffic.Iperf3
	reverse bool
	v6      bool
	read    func(traffic.Figures) float64
}

// streams lists what is run on every subject.
func streams() []stream {
	gigabits := func(f traffic.Figures) float64 { return f.BitsPerSecond / 1e9 }
	kilopackets := func(f traffic.Figures) float64 { return f.PacketsPerSecond / 1e3 }
	tcp := benchmarks.Measurement{Unit: "Gbit/s", Better: benchmarks.Higher}
	named := func(m benchmarks.Measurement, name, title string) benchmarks.Measurement {
		m.Name, m.Title = name, title
		return m
	}
	udp := benchmarks.Measurement{Unit: "kpps", Better: benchmarks.Higher,
		Note: "datagrams that arrived; the sender is not limited and shares the cores, so loss is expected"}
	return []stream{
		{Measurement: named(tcp, "tcp", "TCP pod to pod"), read: gigabits},
		{Measurement: named(tcp, "tcp-reverse", "TCP pod to pod, other direction"), reverse: true, read: gigabits},
		{Measurement: named(tcp, "tcp6", "TCP pod to pod, IPv6"), v6: true, read: gigabits},
		{Measurement: named(udp, "udp-64", "UDP, 64 B payload"), iperf: traffic.Iperf3{UDP: true, Payload: 64}, read: kilopackets},
	}
}

func (r *run) stream(ctx context.Context, b *bench, s stream) error {
	client, server := b.a, b.b
	if s.reverse {
		client, server = server, client
	}
	s.iperf.Seconds = r.Seconds
	f, err := s.iperf.Run(ctx, r.launcher, client, server, s.v6)
	if err != nil {
		return err
	}
	m := s.Measurement
	m.Subject = b.About.Name
	to, err := server.Addr(s.v6)
	if err != nil {
		return err
	}
	m.Command = "iperf3 " + strings.Join(s.iperf.ClientArgs(to), " ")
	r.result.Add(m, s.read(f))
	return nil
}
