package watch

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/millrace/millrace/cluster"
)

// reporter logs once when the server is lost, once when it refuses one kind, and once when
// each is over.
type reporter struct {
	log *slog.Logger

	// mu guards the kinds that are told nothing about: because the server cannot be
	// reached, or because of what it answers.
	mu            sync.Mutex
	away, refused cluster.Set[string]
}

func (r *reporter) report(kind string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, away := r.away[kind]
	_, refused := r.refused[kind]
	var status apierrors.APIStatus
	switch {
	case err == nil:
		delete(r.away, kind)
		delete(r.refused, kind)
		if away && len(r.away) == 0 {
			r.log.Info("the API server answers again")
		}
		if refused {
			r.log.Info("the API server tells of a kind again", "kind", kind)
		}
	case !errors.As(err, &status):
		if len(r.away) == 0 {
			r.log.Warn("the API server cannot be reached: what is known stays", "err", err)
		}
		r.away.Add(kind)
	case !refused:
		r.log.Warn("the API server refuses to tell of a kind: what is known stays", "kind", kind, "err", err)
		r.refused.Add(kind)
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
