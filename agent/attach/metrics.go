package attach

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what the server does.
type metrics struct {
	seconds *prometheus.HistogramVec
}

func newMetrics(registry prometheus.Registerer, j *Journal) (*metrics, error) {
	m := &metrics{seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "millrace_cni_request_seconds",
		Help: "Time from a CNI request's arrival at the agent to its answer, by verb and CNI error code (0: done).",
		// From a CHECK that only reads to an ADD that waits for its deadline.
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
	}, []string{"verb", "code"})}
	if registry == nil {
		return m, nil
	}
	stored := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millrace_attachments",
		Help: "Attachments in the journal.",
	}, func() float64 {
		_, all := j.all()
		return float64(len(all))
	})
	damaged := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millrace_attachments_damaged",
		Help: "Files of the journal that could not be read.",
	}, func() float64 { return float64(len(j.Damaged())) })
	for _, c := range []prometheus.Collector{m.seconds, stored, damaged} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) observe(verb string, started time.Time, err error) {
	code := uint(0)
	if err != nil {
		code = types.ErrInternal
		var e *types.Error
		if errors.As(err, &e) {
			code = e.Code
		}
	}
	m.seconds.WithLabelValues(verb, strconv.FormatUint(uint64(code), 10)).Observe(time.Since(started).Seconds())
}
