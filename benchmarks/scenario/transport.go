package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/benchmarks/rig"
)

// Pair is one way to move frames over a memif link: who sends and who receives.
type Pair struct {
	About benchmarks.Subject
	Ends  func() (sender, receiver rig.End) // new ones for each window; nil = not measured, and About says why
	// Command is what a sceptic would type, by size.
	Command func(size, queues int) string
	// OneQueue says that the pair cannot do other numbers of queues than one.
	OneQueue bool
	Counts   bool // the ends count what they allocate
}

// Transport is the comparison of memif implementations: each pair of processes moves
// frames of each size from one core to another, one pair after the other, round and round.
type Transport struct {
	Title       string
	Pairs       []Pair
	Sizes       []int // bytes of a frame
	Queues      []int
	Repetitions int
	Timing      rig.Timing
	Cores       [2]int // of the sender, of the receiver
	Progress    func(Progress)
}

// Limits of patience with a machine that is not quiet.
const (
	// noisy is the share of a window that a thread may have waited for its core, or the
	// hypervisor have taken.
	noisy        = 0.04
	windowTries  = 3 // of one window that is noisy
	roundsFactor = 3 // rounds at most, as a multiple of the repetitions
)

// transport is a Transport in motion.
type transport struct {
	Transport
	launcher *rig.Launcher
	result   *benchmarks.Result
	started  time.Time
	done     int
	frames   map[string]float64 // by subject, in all windows
	mallocs  map[string]uint64  // likewise
}

// Run runs the comparison. The result is returned also when it was cut short.
func (c Transport) Run(ctx context.Context) (*benchmarks.Result, error) {
	machine, err := benchmarks.ThisMachine()
	if err != nil {
		return nil, err
	}
	r := &transport{Transport: c, launcher: rig.NewLauncher(), started: time.Now(), frames: map[string]float64{}, mallocs: map[string]uint64{}, result: &benchmarks.Result{
		Schema: benchmarks.Schema, Title: c.Title, Started: time.Now().UTC(), Machine: machine,
	}}
	for _, p := range c.Pairs {
		r.result.Subjects = append(r.result.Subjects, p.About)
	}
	err = r.all(ctx)
	r.launcher.Close()
	r.result.Seconds = time.Since(r.started).Seconds()
	r.result.Complete = err == nil
	if err != nil {
		r.result.Problem = err.Error()
	}
	return r.result, err
}

func (r *transport) all(ctx context.Context) error {
	kept := map[kind]rounds{}
	for _, k := range r.kinds() {
		kept[k] = rounds{}
	}
	for n := range roundsFactor * r.Repetitions {
		for _, k := range r.kinds() {
			if kept[k].most() >= r.Repetitions {
				continue
			}
			distance, err := r.round(ctx, k, n)
			if err != nil {
				return err
			}
			kept[k][distance]++
		}
	}
	for _, k := range r.kinds() {
		kept[k].settle(r.result, k.title(), "-"+k.name(), r.Repetitions)
	}
	r.allocations()
	return nil
}

// allocations checks that moving frames allocates nothing. Giving and answering the orders
// of a window allocates some dozens of objects, which are counted with it.
func (r *transport) allocations() {
	const framesPerObject = 5000
	for _, p := range r.Pairs {
		frames, objects := r.frames[p.About.Name], r.mallocs[p.About.Name]
		if p.Counts && frames > 0 {
			r.result.Checks = append(r.result.Checks, benchmarks.Check{Subject: p.About.Name, Name: "no allocation per frame", OK: float64(objects) < frames/framesPerObject,
				Detail: fmt.Sprintf("%d objects in %.0f million frames, the orders of the windows included", objects, frames/1e6)})
		}
	}
}

// kind is one row of the comparison.
type kind struct{ size, queues int }

func (k kind) name() string {
	if k.queues == 1 {
		return fmt.Sprint(k.size)
	}
	return fmt.Sprintf("%d-%dq", k.size, k.queues)
}

func (k kind) title() string {
	if k.queues == 1 {
		return fmt.Sprintf("%d B", k.size)
	}
	return fmt.Sprintf("%d B, %d queues", k.size, k.queues)
}

func (r *transport) kinds() []kind {
	var list []kind
	for _, q := range r.Queues {
		for _, s := range r.Sizes {
			list = append(list, kind{s, q})
		}
	}
	return list
}

// sample is one window of one pair.
type sample struct {
	pair    Pair
	counted rig.Counted
	cond    benchmarks.Condition
}

// round measures all pairs once, one after the other, beginning with another one each
// time. What was not measured with cores of one distance throughout is discarded.
func (r *transport) round(ctx context.Context, k kind, n int) (distance string, err error) {
	var samples []sample
	for i := range r.Pairs {
		p := r.Pairs[(i+n)%len(r.Pairs)]
		if p.Ends == nil || p.OneQueue && k.queues > 1 {
			continue
		}
		r.tell(fmt.Sprintf("%s: %s (%d of %d)", p.About.Name, k.title(), min(n+1, r.Repetitions), r.Repetitions), n)
		s, err := r.window(ctx, p, k)
		if err != nil {
			return "", fmt.Errorf("%s: %s: %w", p.About.Name, k.title(), err)
		}
		samples = append(samples, s)
	}
	distance = samples[0].cond.Distance
	for _, s := range samples {
		if s.cond.Distance != distance {
			distance = "mixed"
		}
	}
	for _, s := range samples {
		if distance == "mixed" {
			r.discard(s, k, "the cores' distance changed during the round")
			continue
		}
		r.keep(s, k)
	}
	return distance, nil
}

func (r *transport) tell(step string, n int) {
	total := r.Repetitions * len(r.kinds()) * len(r.Pairs)
	elapsed := time.Since(r.started)
	p := Progress{Step: step, Done: min(r.done, total), Total: total, Elapsed: elapsed}
	if r.done > 0 {
		p.Left = max(0, time.Duration(float64(elapsed)*float64(total-r.done)/float64(r.done)))
	}
	r.done++
	r.Progress(p)
}

// window measures one pair, again when something disturbed it or an end failed. The last
// try counts: what it was like stands beside it.
func (r *transport) window(ctx context.Context, p Pair, k kind) (sample, error) {
	for try := 1; ; try++ {
		s, err := r.try(ctx, p, k)
		if ctx.Err() != nil || err != nil && try == windowTries {
			return s, errors.Join(err, ctx.Err())
		}
		switch {
		case err != nil:
			r.discard(s, k, err.Error())
		case s.cond.Waited <= noisy && s.cond.Stolen <= noisy && s.cond.Distance != "mixed" || try == windowTries:
			return s, nil
		default:
			r.discard(s, k, "disturbed")
		}
	}
}

// try measures one pair once.
func (r *transport) try(ctx context.Context, p Pair, k kind) (s sample, err error) {
	s.pair = p
	link := rig.Link{Size: k.size, Queues: k.queues, SenderCore: r.Cores[0], ReceiverCore: r.Cores[1]}
	link.Sender, link.Receiver = p.Ends()
	s.counted, s.cond, err = link.Measure(ctx, r.launcher, r.Timing)
	r.frames[p.About.Name] += s.counted.Frames
	r.mallocs[p.About.Name] += s.counted.Mallocs
	if err == nil && (s.counted.Frames <= 0 || s.counted.Took < r.Timing.Window*9/10) {
		err = fmt.Errorf("%.0f frames arrived in %s of the window's %s: the machine is too busy, or the link is down", s.counted.Frames, s.counted.Took, r.Timing.Window)
	}
	return s, err
}

// rate is the measurement that a sample belongs to.
func (s sample) rate(k kind) benchmarks.Measurement {
	return benchmarks.Measurement{
		Name: fmt.Sprintf("rate-%s-%s", k.name(), s.cond.Distance), Title: fmt.Sprintf("%s, cores %s", k.title(), s.cond.Distance),
		Subject: s.pair.About.Name, Unit: "M frames/s", Better: benchmarks.Higher, Command: s.pair.Command(k.size, k.queues),
	}
}

func (r *transport) discard(s sample, k kind, why string) {
	m := s.rate(k)
	r.result.Discarded = append(r.result.Discarded, benchmarks.Discarded{Name: m.Name, Subject: m.Subject, Sample: s.counted.PerSecond() / 1e6, Condition: s.cond, Why: why})
}

func (r *transport) keep(s sample, k kind) {
	m := s.rate(k)
	r.result.AddUnder(m, s.counted.PerSecond()/1e6, s.cond)
	m.Name = fmt.Sprintf("time-%s-%s", k.name(), s.cond.Distance)
	m.Unit, m.Better = "ns/frame", benchmarks.Lower
	r.result.Add(m, 1e9/s.counted.PerSecond())
}
