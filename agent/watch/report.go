package watch

import (
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// reporter logs once when the server is lost to one kind, and once when it is back.
type reporter struct {
	log  *slog.Logger
	kind string

	mu   sync.Mutex
	last string // the error; "" while all is well
}

func (r *reporter) report(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil && r.last != "":
		r.log.Info("the API server answers again", "kind", r.kind)
		r.last = ""
	case err != nil && r.last == "":
		r.log.Warn("the API server does not answer as it should: what is known stays", "kind", r.kind, "err", err)
		r.last = err.Error()
	}
}

// collector shows how well the server is heard.
type collector struct{ *API }

func (c collector) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, out) }

func (c collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(name, help, kind string, v float64) {
		desc := prometheus.NewDesc("millrace_watch_"+name, help, []string{"kind"}, nil)
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, kind)
	}
	for table := range c.kinds() {
		synced, contact, unusable := table.state()
		kind := table.kindName()
		gauge("synced", "1 once all objects of the kind are known.", kind, map[bool]float64{true: 1}[synced])
		gauge("unusable", "Objects of the kind that are left out because they cannot be used.", kind, float64(unusable))
		if !contact.IsZero() {
			gauge("contact_timestamp_seconds", "When the API server last said something of the kind; its age is time() minus this, below two minutes while all is well.",
				kind, float64(contact.UnixNano())/float64(time.Second))
		}
	}
}
