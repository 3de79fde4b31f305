package scenario

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/benchmarks/rig"
	"github.com/millrace/millrace/benchmarks/traffic"
)

// pings asks the yes-or-no questions: do both pods reach each other and the node, over
// both families; and takes the round trips as samples.
func (r *run) pings(ctx context.Context, b *bench) error {
	for _, v6 := range []bool{false, true} {
		family := "IPv4"
		if v6 {
			family = "IPv6"
		}
		for _, way := range []struct {
			name     string
			from, to *rig.Pod
		}{{"client to server", b.a, b.b}, {"server to client", b.b, b.a}} {
			to, err := way.to.Addr(v6)
			if err != nil {
				return err
			}
			r.ping(ctx, b, fmt.Sprintf("ping %s, %s", family, way.name), way.from.Namespace, to)
		}
		if node, ok := nodeAddr(b.Subject, v6); ok {
			r.ping(ctx, b, fmt.Sprintf("ping %s, pod to node", family), b.a.Namespace, node)
			pod, err := b.a.Addr(v6)
			if err != nil {
				return err
			}
			r.ping(ctx, b, fmt.Sprintf("ping %s, node to pod", family), b.Subject.Node(), pod)
		}
	}
	return ctx.Err()
}

// ping runs one check. A failed ping is a finding, not the end of the experiment.
func (r *run) ping(ctx context.Context, b *bench, name string, from *rig.Namespace, to netip.Addr) {
	average, err := traffic.Ping(ctx, r.launcher, from, to, 5)
	check := benchmarks.Check{Subject: b.About.Name, Name: name, OK: err == nil, Detail: average.String()}
	if err != nil {
		check.Detail = err.Error()
	}
	r.result.Checks = append(r.result.Checks, check)
	if err == nil {
		r.result.Add(benchmarks.Measurement{Name: "ping", Title: "ping round trip", Subject: b.About.Name, Unit: "us", Better: benchmarks.Lower,
			Command: "ping -c 5 -i 0.05", Note: "each sample is the average of five"}, float64(average)/float64(time.Microsecond))
	}
}

// nodeAddr is the address pods reach their node by.
func nodeAddr(s rig.Subject, v6 bool) (netip.Addr, bool) {
	m, ok := s.(*rig.Millrace)
	if !ok {
		return netip.Addr{}, false
	}
	for _, a := range m.NodeAddrs {
		if a.Is6() == v6 {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// churn adds many pods and deletes them again, one CNI call at a time, and reads the
// memory of the subject's processes while all of them are there.
func (r *run) churn(ctx context.Context, b *bench) error {
	add := benchmarks.Measurement{Name: "cni-add", Title: "CNI ADD", Subject: b.About.Name, Unit: "ms", Better: benchmarks.Lower, Command: "libcni ADD with the plugin's binary"}
	del := benchmarks.Measurement{Name: "cni-del", Title: "CNI DEL", Subject: b.About.Name, Unit: "ms", Better: benchmarks.Lower, Command: "libcni DEL with the plugin's binary"}
	var pods []*rig.Pod
	for i := range r.Pods {
		pod, took, err := b.Add(ctx, fmt.Sprintf("churn-%d", i))
		if err != nil {
			return err
		}
		pods = append(pods, pod)
		r.result.Add(add, milliseconds(took))
	}
	memory, err := b.Subject.Memory()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(memory)) {
		r.result.Add(benchmarks.Measurement{Name: "memory-" + name, Title: "resident memory: " + name, Subject: b.About.Name, Unit: "MB", Better: benchmarks.Lower,
			Note: fmt.Sprintf("with %d pods", r.Pods+2)}, float64(memory[name])/1e6)
	}
	for _, pod := range pods {
		took, err := b.Delete(ctx, pod)
		if err != nil {
			return err
		}
		r.result.Add(del, milliseconds(took))
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
