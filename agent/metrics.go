package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/dataplane"
)

// metrics are what the loop counts.
type metrics struct {
	connected prometheus.Gauge
	device    *prometheus.GaugeVec
	last      prometheus.Gauge
	duration  prometheus.Histogram
	steps     *prometheus.CounterVec
	errors    *prometheus.CounterVec
	drift     prometheus.Counter
	failing   prometheus.Gauge
	objects   *prometheus.GaugeVec
	policies  prometheus.Gauge
}

// newMetrics makes them, and registers them unless r is nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "millrace", Subsystem: "agent", Name: name, Help: help}
	}
	m := &metrics{
		connected: prometheus.NewGauge(prometheus.GaugeOpts(opts("connected", "1 while the agent has a connection to the dataplane."))),
		device: prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("device", "1 for the kind of device that pods get.")),
			[]string{"device"}),
		last: prometheus.NewGauge(prometheus.GaugeOpts(opts("reconciled_timestamp_seconds", "When the last round ended; its age is time() minus this."))),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "millrace", Subsystem: "agent", Name: "reconcile_duration_seconds", Help: "How long a round took.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		steps: prometheus.NewCounterVec(prometheus.CounterOpts(opts("steps_total", "Steps of plans that were carried out or failed.")),
			[]string{"verb", "kind", "result"}),
		errors:   prometheus.NewCounterVec(prometheus.CounterOpts(opts("errors_total", "Facts that could not be used, counted each round.")), []string{"what"}),
		drift:    prometheus.NewCounter(prometheus.CounterOpts(opts("drift_total", "Times the dataplane was found other than it was left."))),
		failing:  prometheus.NewGauge(prometheus.GaugeOpts(opts("failing", "Objects that wait for another attempt."))),
		policies: prometheus.NewGauge(prometheus.GaugeOpts(opts("policies_rejected", "Policies about this node's pods that cannot be enforced as written and allow nothing."))),
		objects:  prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("objects", "What the dataplane has of ours.")), []string{"kind"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.connected, m.device, m.last, m.duration, m.steps, m.errors, m.drift, m.failing, m.objects, m.policies} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) step(s dataplane.Step, err error) {
	result := "done"
	if err != nil {
		result = "failed"
	}
	m.steps.WithLabelValues(s.Verb.String(), s.Object.Key().Kind.String(), result).Inc()
}

// round notes the end of a round.
func (m *metrics) round(begin time.Time, have dataplane.State, failing map[dataplane.Key]failure) {
	m.duration.Observe(time.Since(begin).Seconds())
	m.last.SetToCurrentTime()
	m.failing.Set(float64(len(failing)))
	counts := map[dataplane.Kind]int{}
	for o := range have.All() {
		counts[o.Key().Kind]++
	}
	for kind := dataplane.KindTable; kind <= dataplane.KindUp; kind++ {
		m.objects.WithLabelValues(kind.String()).Set(float64(counts[kind]))
	}
}
