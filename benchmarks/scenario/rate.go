package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"time"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/benchmarks/generator"
	"github.com/millrace/millrace/benchmarks/histogram"
	"github.com/millrace/millrace/benchmarks/rig"
	"github.com/millrace/millrace/benchmarks/search"
	"github.com/millrace/millrace/memif"
)

// Rate compares what routers carry without loss (NDR), with half a percent of loss (PDR),
// and how long a frame takes there and back at shares of the former. Frames go as in
// Forward, one flow to each route. The routers take turns.
type Rate struct {
	Title       string
	Routers     []*rig.Router
	Routes      int
	Sizes       []int // bytes of a frame
	Batch       int
	Repetitions int
	Timing      rig.Timing // of one trial
	Cores       [2]int     // of the generator, of the worker
	Progress    func(Progress)
}

// Limits of a search.
const (
	ratePrecision = 0.01
	rateRepeats   = 1
	rateTrials    = 60
	lowestRate    = 20e3 // frames/s: below, one trial holds too few frames for half a percent
	headroom      = 1.25 // the search begins above what came back at full speed
	passesFactor  = 6    // visits to each router at most, as a multiple of the repetitions
)

// Shares of the NDR at which latency is measured, in percent, and its quantiles.
var (
	latencyShares    = [...]int{50, 90}
	latencyQuantiles = [...]struct {
		name  string
		value func(*histogram.Histogram) int64
	}{
		{"p50", func(h *histogram.Histogram) int64 { return h.Quantile(0.5) }},
		{"p99", func(h *histogram.Histogram) int64 { return h.Quantile(0.99) }},
		{"p99.9", func(h *histogram.Histogram) int64 { return h.Quantile(0.999) }},
		{"max", (*histogram.Histogram).Max},
	}
)

type rate struct {
	Rate
	result  *benchmarks.Result
	flows   generator.Flows
	started time.Time
}

// Run runs the comparison. The result is returned also when it was cut short.
func (c Rate) Run(ctx context.Context) (_ *benchmarks.Result, err error) {
	// Collecting would disturb the trials, and there is little to collect.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	machine, err := benchmarks.ThisMachine()
	if err != nil {
		return nil, err
	}
	routes, hosts := randomRoutes(c.Routes)
	r := &rate{Rate: c, flows: generator.NewFlows(hosts), started: time.Now(), result: &benchmarks.Result{
		Schema: benchmarks.Schema, Title: c.Title, Started: time.Now().UTC(), Machine: machine,
	}}
	launcher := rig.NewLauncher()
	defer launcher.Close()
	err = r.all(ctx, launcher, routes)
	for _, router := range c.Routers {
		err = errors.Join(err, router.Stop())
		r.result.Subjects = append(r.result.Subjects, router.About)
	}
	r.result.Seconds = time.Since(r.started).Seconds()
	if r.result.Complete = err == nil; err != nil {
		r.result.Problem = err.Error()
	}
	return r.result, err
}

func (r *rate) all(ctx context.Context, l *rig.Launcher, routes []netip.Prefix) error {
	for _, router := range r.Routers {
		if err := router.Start(ctx, l, routes); err != nil {
			return err
		}
	}
	for _, size := range r.Sizes {
		if err := r.size(ctx, size); err != nil {
			return err
		}
	}
	return nil
}

// size measures frames of one size. The cores move while a search is under way, so there
// is one for near and one for far cores; each trial goes to the one that it fits, and once
// that of each router has ended at one distance, they are a sample.
func (r *rate) size(ctx context.Context, size int) error {
	open := make([]map[string]*searched, len(r.Routers))
	for i := range open {
		open[i] = map[string]*searched{}
	}
	kept := map[string]int{}
	passes, err := r.passes(ctx, size, open, kept)
	for _, left := range open {
		for _, s := range left {
			if s.complete {
				r.discard(s)
			}
		}
	}
	got := max(kept["near"], kept["far"])
	r.result.Checks = append(r.result.Checks, benchmarks.Check{Subject: "machine", Name: fmt.Sprintf("%d B: searches of one kind", size), OK: got >= r.Repetitions,
		Detail: fmt.Sprintf("%d of %d, after %d passes: %d with near and %d with far cores", got, r.Repetitions, passes, kept["near"], kept["far"])})
	return err
}

// passes visits the routers, in another order each time, until there are enough samples.
func (r *rate) passes(ctx context.Context, size int, open []map[string]*searched, kept map[string]int) (n int, err error) {
	for ; n < passesFactor*r.Repetitions && max(kept["near"], kept["far"]) < r.Repetitions; n++ {
		for i := range r.Routers {
			at := (i + n) % len(r.Routers)
			router := r.Routers[at]
			r.tell(fmt.Sprintf("%s: rate search, %d B (%d of %d)", router.About.Name, size, max(kept["near"], kept["far"])+1, r.Repetitions), kept, size)
			if err := r.search(ctx, router, size, open[at]); err != nil {
				return n, fmt.Errorf("%s: rate search, %d B: %w", router.About.Name, size, err)
			}
		}
		r.harvest(open, kept)
	}
	return n, nil
}

// harvest keeps the searches that have ended for all routers at one distance.
func (r *rate) harvest(open []map[string]*searched, kept map[string]int) {
	for _, distance := range []string{"near", "far"} {
		whole := true
		for _, o := range open {
			whole = whole && o[distance] != nil && o[distance].complete
		}
		if !whole {
			continue
		}
		for _, o := range open {
			r.keep(o[distance], kept[distance])
			delete(o, distance)
		}
		kept[distance]++
	}
}

// tell counts the searches of the distance that is ahead as done.
func (r *rate) tell(step string, kept map[string]int, size int) {
	done := r.Repetitions*slices.Index(r.Sizes, size) + max(kept["near"], kept["far"])
	total := r.Repetitions * len(r.Sizes)
	elapsed := time.Since(r.started)
	p := Progress{Step: step, Done: done, Total: total, Elapsed: elapsed}
	if done > 0 {
		p.Left = max(0, time.Duration(float64(elapsed)*float64(total-done)/float64(done)))
	}
	r.Progress(p)
}

func (s *searched) measurement(name, title, unit string, better benchmarks.Better) benchmarks.Measurement {
	return benchmarks.Measurement{
		Name: fmt.Sprintf("%s-%d-%s", name, s.size, s.cond.Distance), Title: fmt.Sprintf("%d B, %s, cores %s", s.size, title, s.cond.Distance),
		Subject: s.router.About.Name, Unit: unit, Better: better, Command: "millrace bench memif --scenario rate",
	}
}

// found is the measurements of both ratios, in the order of the search's goals.
func (s *searched) found() [2]benchmarks.Measurement {
	ndr := s.measurement("ndr", "rate without loss (NDR)", "M frames/s", benchmarks.Higher)
	ndr.Note = fmt.Sprintf("the highest offered rate of which one of two trials lost nothing; rings hold %d frames, so a worker that is held up longer than %d us at 5 M frames/s loses: on a shared machine that, not the router, may set the NDR",
		memif.DefaultRingSize, memif.DefaultRingSize/5)
	pdr := s.measurement("pdr", "rate with 0.5 % loss (PDR)", "M frames/s", benchmarks.Higher)
	pdr.Note = "the highest offered rate of which one of two trials lost no more than 0.5 %"
	return [2]benchmarks.Measurement{ndr, pdr}
}

func (r *rate) discard(s *searched) {
	for i, m := range s.found() {
		r.result.Discarded = append(r.result.Discarded, benchmarks.Discarded{Name: m.Name, Subject: m.Subject, Sample: s.result.Found[i].Rate / 1e6,
			Condition: s.cond, Why: "the search of another router did not end with cores at this distance"})
	}
}

func (r *rate) keep(s *searched, n int) {
	check := benchmarks.Check{Subject: s.router.About.Name, Name: fmt.Sprintf("%d B: rate search %d with %s cores settled", s.size, n+1, s.cond.Distance), OK: true, Detail: s.text()}
	for i, m := range s.found() {
		found := s.result.Found[i]
		check.OK = check.OK && found.Outcome == search.Settled
		r.result.AddUnder(m, found.Rate/1e6, s.cond)
	}
	r.result.Checks = append(r.result.Checks, check)
	for _, l := range s.latencies {
		for _, q := range latencyQuantiles {
			m := s.measurement(fmt.Sprintf("latency-%d-%s", l.share, q.name), fmt.Sprintf("latency %s at %d %% of NDR", q.name, l.share), "us", benchmarks.Lower)
			m.Note = "from before the generator's send to after its receive, one trial each sample"
			r.result.AddUnder(m, float64(q.value(l.tally.Histogram))/1e3, l.cond)
		}
		m := s.measurement(fmt.Sprintf("latency-%d-loss", l.share), fmt.Sprintf("loss at %d %% of NDR", l.share), "frames per million", benchmarks.Lower)
		m.Note = "of the trials that latency was measured in"
		r.result.AddUnder(m, 1e6*l.tally.Loss(), l.cond)
	}
}
