package agent

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/agent/compile"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// scrapePatience is how long a scrape may take over the dataplane's counters.
const scrapePatience = 2 * time.Second

// names say whose the machine's numbers are, in one of its lives.
type names struct {
	interfaces map[uint32]labels // by sw_if_index
	acls       map[uint32]string // by acl_index
}

// labels name an interface, and the pod that it is for; one of the node has no pod.
type labels struct{ name, namespace, pod string }

// name is told after each round, by the loop.
func (r *round) name(result compile.Result) {
	n := names{interfaces: map[uint32]labels{}, acls: map[uint32]string{}}
	for name, index := range r.program.Interfaces() {
		id, owned := result.Owners[dataplane.InterfaceKey(name)]
		l := labels{name: name}
		if owned {
			pod := r.facts.Attachments[id].Pod
			l.namespace, l.pod = pod.Namespace, pod.Name
		}
		n.interfaces[index] = l
	}
	for name, index := range r.program.ACLs() {
		n.acls[index] = name
	}
	r.agent.names.Store(&n)
}

// counters are the machine's own, read from its statistics segment at each scrape: that
// costs the machine nothing.
type counters struct {
	names  func() *names // nil while there is no machine, or none that was programmed
	socket string

	mu    sync.Mutex
	stats *vpp.Stats // nil before the first scrape that found a segment

	up, errors, matches *prometheus.Desc
	counts              []interfaceCount
}

// interfaceCount is one counter of each interface.
type interfaceCount struct {
	desc *prometheus.Desc
	of   func(vpp.InterfaceCounters) uint64
}

func newCounters(socket string, current func() *names) *counters {
	perInterface := []string{"interface", "namespace", "pod"}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("millrace_"+name, help, labels, nil)
	}
	c := &counters{
		names: current, socket: socket,
		up:      desc("dataplane_statistics_up", "1 if there is a programmed dataplane whose statistics could be read at this scrape."),
		errors:  desc("dataplane_errors_total", "Packets that a graph node of the dataplane counted for a reason; most were dropped for it.", "node", "reason"),
		matches: desc("acl_matches_total", "Packets that a rule of an ACL decided about: the first of each connection. Begins anew when the ACL is rewritten.", "acl"),
	}
	count := func(name, help string, of func(vpp.InterfaceCounters) uint64) {
		c.counts = append(c.counts, interfaceCount{desc("interface_"+name+"_total", help+" Named as the dataplane sees it: a pod sends what its interface receives.", perInterface...), of})
	}
	count("receive_packets", "Packets received.", func(i vpp.InterfaceCounters) uint64 { return i.RX.Packets })
	count("receive_bytes", "Bytes received.", func(i vpp.InterfaceCounters) uint64 { return i.RX.Bytes })
	count("transmit_packets", "Packets sent.", func(i vpp.InterfaceCounters) uint64 { return i.TX.Packets })
	count("transmit_bytes", "Bytes sent.", func(i vpp.InterfaceCounters) uint64 { return i.TX.Bytes })
	count("drops", "Packets of the interface that were dropped.", func(i vpp.InterfaceCounters) uint64 { return i.Drops })
	count("receive_no_buffer", "Packets lost for want of a buffer.", func(i vpp.InterfaceCounters) uint64 { return i.RxNoBuf })
	count("receive_missed", "Packets that the device lost before they were read.", func(i vpp.InterfaceCounters) uint64 { return i.RxMiss })
	count("receive_errors", "Packets that came in broken.", func(i vpp.InterfaceCounters) uint64 { return i.RxError })
	count("transmit_errors", "Packets that could not be sent.", func(i vpp.InterfaceCounters) uint64 { return i.TxError })
	return c
}

// Describe implements prometheus.Collector.
func (c *counters) Describe(out chan<- *prometheus.Desc) {
	out <- c.up
	out <- c.errors
	out <- c.matches
	for _, count := range c.counts {
		out <- count.desc
	}
}

// Collect implements prometheus.Collector. What cannot be read is left out, and "up" is 0.
func (c *counters) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapePatience)
	defer cancel()
	up := 0.0
	if read, err := c.read(ctx); err == nil {
		up = 1
		for _, m := range read {
			out <- m
		}
	}
	out <- prometheus.MustNewConstMetric(c.up, prometheus.GaugeValue, up)
}

// read returns everything or nothing, so that no scrape shows half of a restart.
func (c *counters) read(ctx context.Context) ([]prometheus.Metric, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stats == nil {
		stats, err := vpp.DialStats(ctx, c.socket)
		if err != nil {
			return nil, err
		}
		c.stats = stats
	}
	for {
		names := c.names()
		if names == nil {
			// A machine that was killed leaves its segment behind, as it was.
			return nil, ErrNotReady
		}
		list, err := c.readAs(ctx, names)
		if err != nil || names == c.names() {
			return list, err
		}
		// The numbers may have got other owners meanwhile.
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// readAs shows all that the machine counts, under these names.
func (c *counters) readAs(ctx context.Context, names *names) (list []prometheus.Metric, err error) {
	add := func(d *prometheus.Desc, v uint64, labels ...string) {
		list = append(list, prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...))
	}
	errors, err := c.stats.Errors(ctx)
	if err != nil {
		return nil, err
	}
	for key, n := range errors {
		node, reason, _ := strings.Cut(key, "/")
		add(c.errors, n, node, reason)
	}
	interfaces, err := c.stats.Interfaces(ctx)
	if err != nil {
		return nil, err
	}
	for _, i := range interfaces {
		l, ours := names.interfaces[i.Index]
		if !ours {
			l = labels{name: i.Name}
		}
		for _, count := range c.counts {
			add(count.desc, count.of(i), l.name, l.namespace, l.pod)
		}
	}
	matches, err := c.stats.ACLMatches(ctx)
	if err != nil {
		return nil, err
	}
	for index, rules := range matches {
		if name, ours := names.acls[index]; ours {
			sum := uint64(0)
			for _, r := range rules {
				sum += r.Packets
			}
			add(c.matches, sum, name)
		}
	}
	return list, nil
}
