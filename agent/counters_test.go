package agent

import (
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/vpp"
)

// TestIntegrationCounters: what the machine counts is shown under the names of the pods and
// policies that it is about, and nothing of it while there is no machine.
func TestIntegrationCounters(t *testing.T) {
	for _, m := range machinetest.All(t) {
		t.Run(m.Name, func(t *testing.T) {
			stop := m.Start(t)
			o, d := guarded(), newDoors()
			o.policies(map[string][]int{"allow": {openPort}})
			l := startWith(t, Config{VPP: vpp.Config{Socket: m.Socket}, StatsSocket: m.Stats, Cluster: o, Attachments: d})
			client, server := netnstest.New(t), netnstest.New(t)
			for i, n := range []*netnstest.Namespace{client, server} {
				a := pod(n, byte(2+i))
				a.Pod = cluster.PodKey{Namespace: "default", Name: []string{"client", "server"}[i]}
				l.mustApply(t, d.change(a, true))
			}
			l.have(t, o)
			// The policy lets no echo request in, so that it is counted as the client's and dropped.
			before := l.counter(t, "millrace_interface_receive_packets_total", "pod", "client")
			if err := ping(t, client, podOf(3)[0], "-c", "3", "-i", "0.2", "-W", "1"); err == nil {
				t.Error("a packet passed that the policy forbids")
			}
			l.eventually(t, "the client's packets", func() bool {
				return l.counter(t, "millrace_interface_receive_packets_total", "pod", "client") >= before+3
			})
			l.eventually(t, "packets that rules decided about", func() bool { return l.counter(t, "millrace_acl_matches_total", "", "") > 0 })
			l.eventually(t, "drops with their reason", func() bool { return l.counter(t, "millrace_dataplane_errors_total", "", "") > 0 })
			if up := l.gauge(t, "millrace_dataplane_statistics_up"); up != 1 {
				t.Errorf("statistics are up: %v", up)
			}
			stop()
			l.eventually(t, "the end of the machine", func() bool {
				return l.gauge(t, "millrace_dataplane_statistics_up") == 0 && !l.has(t, "millrace_interface_receive_packets_total")
			})
		})
	}
}

// eventually waits for what the machine shows only after its next second.
func (l life) eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no metric shows %s", what)
		}
	}
}

func (l life) has(t *testing.T, name string) bool { return len(l.family(t, name)) > 0 }

// counter sums those of a name whose label has a value; all without a label.
func (l life) counter(t *testing.T, name, label, value string) (sum float64) {
	t.Helper()
	for _, m := range l.family(t, name) {
		match := label == ""
		for _, p := range m.GetLabel() {
			match = match || p.GetName() == label && p.GetValue() == value
		}
		if match {
			sum += m.GetCounter().GetValue()
		}
	}
	return sum
}

func (l life) family(t *testing.T, name string) []*dto.Metric {
	t.Helper()
	families, err := l.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()
		}
	}
	return nil
}
