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
	missing   *prometheus.GaugeVec
	rules     prometheus.Gauge
	bindings  prometheus.Gauge
	change    guardChange
}

// guardChange is about the last round that changed what guards pods.
type guardChange struct{ at, seconds, rules, bindings prometheus.Gauge }

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
		missing:  prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("feature_missing", "Messages of a feature that the dataplane's version lacks; the feature is off.")), []string{"feature"}),
		objects:  prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("objects", "What the dataplane has of ours.")), []string{"kind"}),
	}
	acl := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "millrace", Subsystem: "acl", Name: name, Help: help})
	}
	m.rules = acl("rules", "Rules of the ACLs that the dataplane has of ours.")
	m.bindings = acl("bindings", "Interfaces that are bound to ACLs.")
	m.change = guardChange{
		at:       acl("last_change_timestamp_seconds", "When what guards pods was changed last."),
		seconds:  acl("last_change_duration_seconds", "How long the last change of what guards pods took to apply."),
		rules:    acl("last_change_rules", "Rules of the ACLs that the last change wrote."),
		bindings: acl("last_change_bindings", "Interfaces that the last change bound anew."),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.rules, m.bindings, m.change.at, m.change.seconds, m.change.rules, m.change.bindings,
		m.connected, m.device, m.last, m.duration, m.steps, m.errors, m.drift, m.failing, m.objects, m.policies, m.missing,
	} {
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
	rules := 0
	for o := range have.AllOf(dataplane.KindACL) {
		rules += len(o.(dataplane.ACL).Rules)
	}
	m.rules.Set(float64(rules))
	m.bindings.Set(float64(have.Count(dataplane.KindACLBinding)))
	for kind := dataplane.KindTable; kind <= dataplane.KindUp; kind++ {
		m.objects.WithLabelValues(kind.String()).Set(float64(have.Count(kind)))
	}
}

// guarded notes a plan that was applied, if it changed what guards pods.
func (m *metrics) guarded(begin time.Time, plan dataplane.Plan) {
	changes, rules, bindings := 0, 0, 0
	for _, step := range plan {
		switch o := step.Object.(type) {
		case dataplane.ACL:
			if changes++; step.Verb != dataplane.Delete {
				rules += len(o.Rules)
			}
		case dataplane.ACLBinding:
			if changes++; step.Verb != dataplane.Delete {
				bindings++
			}
		}
	}
	if changes == 0 {
		return
	}
	m.change.at.SetToCurrentTime()
	m.change.seconds.Set(time.Since(begin).Seconds())
	m.change.rules.Set(float64(rules))
	m.change.bindings.Set(float64(bindings))
}
