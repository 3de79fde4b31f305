package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/benchmarks/generator"
	"github.com/millrace/millrace/benchmarks/histogram"
	"github.com/millrace/millrace/benchmarks/rig"
	"github.com/millrace/millrace/benchmarks/search"
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
	movedTries    = 3    // of a search during which the cores' distance changed
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
	done    int
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
		kept := map[string]int{}
		for n := 0; n < roundsFactor*r.Repetitions && max(kept["near"], kept["far"]) < r.Repetitions; n++ {
			distance, err := r.round(ctx, size, n)
			if err != nil {
				return err
			}
			kept[distance]++
		}
		got := max(kept["near"], kept["far"])
		r.result.Checks = append(r.result.Checks, benchmarks.Check{Subject: "machine", Name: fmt.Sprintf("%d B: rounds of one kind", size), OK: got >= r.Repetitions,
			Detail: fmt.Sprintf("%d of %d, after %d with near, %d with far and %d with mixed cores", got, r.Repetitions, kept["near"], kept["far"], kept["mixed"])})
	}
	return nil
}

// round searches once for each router, in another order each time.
func (r *rate) round(ctx context.Context, size, n int) (string, error) {
	var list []searched
	distance := ""
	for i := range r.Routers {
		router := r.Routers[(i+n)%len(r.Routers)]
		r.tell(fmt.Sprintf("%s: rate search, %d B (%d of %d)", router.About.Name, size, min(n+1, r.Repetitions), r.Repetitions))
		s, err := r.search(ctx, router, size)
		if err != nil {
			return "", fmt.Errorf("%s: rate search, %d B: %w", router.About.Name, size, err)
		}
		if list = append(list, s); i == 0 {
			distance = s.cond.Distance
		}
		if s.cond.Distance != distance {
			distance = "mixed"
		}
	}
	for _, s := range list {
		if distance == "mixed" {
			r.discard(s)
			continue
		}
		r.keep(s, n)
	}
	return distance, nil
}

func (r *rate) tell(step string) {
	total := r.Repetitions * len(r.Sizes) * len(r.Routers)
	elapsed := time.Since(r.started)
	p := Progress{Step: step, Done: min(r.done, total), Total: total, Elapsed: elapsed}
	if r.done > 0 {
		p.Left = max(0, time.Duration(float64(elapsed)*float64(total-r.done)/float64(r.done)))
	}
	r.done++
	r.Progress(p)
}

func (s searched) measurement(name, title, unit string, better benchmarks.Better) benchmarks.Measurement {
	return benchmarks.Measurement{
		Name: fmt.Sprintf("%s-%d-%s", name, s.size, s.cond.Distance), Title: fmt.Sprintf("%d B, %s, cores %s", s.size, title, s.cond.Distance),
		Subject: s.router.About.Name, Unit: unit, Better: better, Command: "millrace bench memif --scenario rate",
	}
}

// found is the measurements of both ratios, in the order of the search's goals.
func (s searched) found() [2]benchmarks.Measurement {
	ndr := s.measurement("ndr", "rate without loss (NDR)", "M frames/s", benchmarks.Higher)
	ndr.Note = "the highest offered rate of which one of two trials lost nothing"
	pdr := s.measurement("pdr", "rate with 0.5 % loss (PDR)", "M frames/s", benchmarks.Higher)
	pdr.Note = "the highest offered rate of which one of two trials lost no more than 0.5 %"
	return [2]benchmarks.Measurement{ndr, pdr}
}

func (r *rate) discard(s searched) {
	for i, m := range s.found() {
		if i < len(s.result.Found) {
			r.result.Discarded = append(r.result.Discarded, benchmarks.Discarded{Name: m.Name, Subject: m.Subject, Sample: s.result.Found[i].Rate / 1e6,
				Condition: s.cond, Why: "the cores' distance changed during the round"})
		}
	}
}

func (r *rate) keep(s searched, n int) {
	check := benchmarks.Check{Subject: s.router.About.Name, Name: fmt.Sprintf("%d B: rate search %d settled", s.size, n+1), OK: true, Detail: s.text()}
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
