package hostnet

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/internal/netnstest"
)

// counted gathers in a namespace, by chain and family.
func counted(t *testing.T, ns *netnstest.Namespace) map[string]float64 {
	t.Helper()
	found := map[string]float64{}
	ns.Run(t, func() error {
		list := make(chan prometheus.Metric, 16)
		NewCounters().Collect(list) // here, not on a goroutine of a registry's
		close(list)
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(ready{NewCounters(), list})
		families, err := registry.Gather()
		for _, f := range families {
			for _, m := range f.GetMetric() {
				found[m.GetLabel()[0].GetValue()+" "+m.GetLabel()[1].GetValue()] = m.GetCounter().GetValue()
			}
		}
		return err
	})
	return found
}

// ready are metrics that were collected before.
type ready struct {
	*Counters
	list <-chan prometheus.Metric
}

func (r ready) Collect(to chan<- prometheus.Metric) {
	for m := range r.list {
		to <- m
	}
}

func TestIntegrationCounters(t *testing.T) {
	ns := needNFT(t)
	if got := counted(t, ns); len(got) > 0 {
		t.Errorf("without a table: %v", got)
	}
	write(t, ns, "host-nat node port=udp,127.0.0.2:1,127.0.0.1:2")
	if out, err := ns.Command(t, "bash", "-c", "echo x > /dev/udp/127.0.0.2/1; echo x > /dev/udp/127.0.0.2/1").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := counted(t, ns)
	if len(got) != 6 || got["output ip4"] != 2 || got["output ip6"] != 0 || got["postrouting ip4"] != 0 {
		t.Errorf("counted %v, want 2 at output ip4 and six in all", got)
	}
}
