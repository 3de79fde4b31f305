package hostnet

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/prometheus/client_golang/prometheus"
)

// Counters shows what the table counted: connections that got another address, by chain and
// family. They begin anew when the table is replaced. Without a table there are none.
type Counters struct{ connections *prometheus.Desc }

// NewCounters returns a collector, which is safe for concurrent use.
func NewCounters() *Counters {
	return &Counters{prometheus.NewDesc("millrace_host_nat_connections_total",
		"Connections that the node's kernel gave another address: postrouting = the node's as their source, output = the node's to its own ports, prerouting = others' to them.",
		[]string{"chain", "family"}, nil)}
}

// Describe is prometheus.Collector's.
func (c *Counters) Describe(to chan<- *prometheus.Desc) { to <- c.connections }

// Collect is prometheus.Collector's.
func (c *Counters) Collect(to chan<- prometheus.Metric) {
	conn, err := dial()
	if err != nil {
		return // the table's own step says so
	}
	for _, w := range chains(ourTable()) {
		rules, err := conn.GetRules(ourTable(), &nftables.Chain{Name: w.Name})
		if err != nil || len(rules) != len(w.rules) {
			continue
		}
		for i, family := range []string{"ip4", "ip6"} {
			for _, e := range rules[i].Exprs {
				if n, ok := e.(*expr.Counter); ok {
					to <- prometheus.MustNewConstMetric(c.connections, prometheus.CounterValue, float64(n.Packets), w.Name, family)
				}
			}
		}
	}
}
