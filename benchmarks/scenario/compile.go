package scenario

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/internal/policytest"
	"github.com/millrace/millrace/policy"
)

// Compile measures what a node pays for the policies of a cluster: to compile them all, to
// compile them again after one pod has changed, and how many rules they come to. The
// cluster is policytest.City: ten pods and one policy in each namespace.
type Compile struct {
	Title       string
	Version     string // of our own
	Namespaces  int
	Local       int // pods of the node
	Repetitions int
	Changes     int   // of one pod
	Sizes       []int // namespaces of the clusters in which one pod changes
	Progress    func(Progress)
}

const compiler = "compiler"

type compileRun struct {
	Compile
	result  *benchmarks.Result
	started time.Time
	done    int
}

// Run runs the measurement. The result is returned also when it was cut short.
func (c Compile) Run(ctx context.Context) (*benchmarks.Result, error) {
	machine, err := benchmarks.ThisMachine()
	if err != nil {
		return nil, err
	}
	r := &compileRun{Compile: c, started: time.Now(), result: &benchmarks.Result{
		Schema: benchmarks.Schema, Title: c.Title, Started: time.Now().UTC(), Machine: machine,
		Subjects: []benchmarks.Subject{{Name: compiler, Version: "millrace " + c.Version, Detail: "package policy, in one goroutine"}},
	}}
	err = r.all(ctx)
	r.result.Seconds = time.Since(r.started).Seconds()
	if r.result.Complete = err == nil; err != nil {
		r.result.Problem = err.Error()
	}
	return r.result, err
}

func (r *compileRun) all(ctx context.Context) error {
	s := policytest.City(r.Namespaces, r.Local)
	changed, local := cluster.Compare(cluster.Snapshot{}, s), localPods(s)
	if len(local) != r.Local {
		return fmt.Errorf("make a cluster: %d of %d pods are on the node", len(local), r.Local)
	}
	var last policy.Result
	for n := range r.Repetitions {
		r.tell(fmt.Sprintf("compile %d pods (%d of %d)", len(s.Pods), n+1, r.Repetitions))
		if err := ctx.Err(); err != nil {
			return err
		}
		last = r.full(s, changed, local)
	}
	r.count(last)
	for _, namespaces := range r.Sizes {
		r.tell(fmt.Sprintf("change one pod of %d", 10*namespaces))
		if err := r.change(ctx, namespaces); err != nil {
			return err
		}
	}
	return nil
}

func localPods(s cluster.Snapshot) (keys []cluster.PodKey) {
	for _, a := range s.Attachments {
		keys = append(keys, a.Pod)
	}
	return keys
}

func (r *compileRun) add(name, title, unit, note string, sample float64) {
	r.result.Add(benchmarks.Measurement{
		Name: name, Title: title, Subject: compiler, Unit: unit, Better: benchmarks.Lower, Command: "millrace bench policy --scenario compile", Note: note,
	}, sample)
}

// full compiles everything from the beginning.
func (r *compileRun) full(s cluster.Snapshot, changed cluster.Changes, local []cluster.PodKey) policy.Result {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	stop, peak := make(chan struct{}), make(chan uint64)
	go watchHeap(stop, peak)
	begin := time.Now()
	result := policy.NewCompiler(policytest.CityNode, policy.Options{}).Update(s, changed, local)
	took := time.Since(begin)
	close(stop)
	most := max(<-peak, before.HeapAlloc)
	runtime.ReadMemStats(&after)
	what := fmt.Sprintf("%d pods, %d policies, %d pods on the node: ", len(s.Pods), len(s.NetworkPolicies), len(local))
	r.add("full-time", what+"full compile", "ms", "", milliseconds(took))
	r.add("full-allocs", what+"allocations", "thousand", "", float64(after.Mallocs-before.Mallocs)/1e3)
	r.add("full-bytes", what+"allocated", "MB", "", float64(after.TotalAlloc-before.TotalAlloc)/1e6)
	r.add("full-peak", what+"peak heap", "MB", "the most that lay in the heap above what was there before, seen every millisecond; the cluster's facts, which are there before, are not in it", float64(most-before.HeapAlloc)/1e6)
	return result
}

// watchHeap looks at the size of the heap's objects until stop, and tells the most.
func watchHeap(stop <-chan struct{}, peak chan<- uint64) {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for most := uint64(0); ; {
		metrics.Read(sample)
		most = max(most, sample[0].Value.Uint64())
		select {
		case <-stop:
			peak <- most
			return
		case <-tick.C:
		}
	}
}

// count says how many rules the policies come to.
func (r *compileRun) count(result policy.Result) {
	rules, least := result.Bound()
	size := map[string]int{}
	for _, a := range result.ACLs {
		size[a.Name] = len(a.Rules)
	}
	applied, most := 0, 0
	for _, l := range result.Lists {
		n := 0
		for _, name := range append(append([]string{}, l.Input...), l.Output...) {
			n += size[name]
		}
		applied, most = applied+n, max(most, n)
	}
	r.add("acls", "ACLs", "number", "", float64(len(result.ACLs)))
	r.add("rules", "rules of policies", "number", "", float64(rules))
	r.add("rules-bound", "rules of policies, lower bound", "number", "the fewest of any ACLs that allow exactly the same: see the documentation of package policy", float64(least))
	r.add("rules-pod", "rules on the interface of a pod, mean", "number", "both directions, base ACLs included", float64(applied)/float64(max(len(result.Lists), 1)))
	r.add("rules-pod-most", "rules on the interface of a pod, most", "number", "", float64(most))
	r.result.Checks = append(r.result.Checks,
		benchmarks.Check{Subject: compiler, Name: "no policy failed closed", OK: len(result.Problems) == 0, Detail: fmt.Sprintf("%d problems", len(result.Problems))},
		benchmarks.Check{Subject: compiler, Name: "each pod of the node has lists", OK: len(result.Lists) == r.Local, Detail: fmt.Sprintf("%d of %d", len(result.Lists), r.Local)})
}

// change gives one pod elsewhere, that rules on the node name as a peer, another address.
func (r *compileRun) change(ctx context.Context, namespaces int) error {
	s := policytest.City(namespaces, r.Local)
	local := localPods(s)
	c := policy.NewCompiler(policytest.CityNode, policy.Options{})
	c.Update(s, cluster.Compare(cluster.Snapshot{}, s), local)
	key, err := peerOf(s)
	if err != nil {
		return err
	}
	var changed cluster.Changes
	changed.Pods.Add(key)
	what := fmt.Sprintf("one of %d pods changes", len(s.Pods))
	for i := range r.Changes {
		if err := ctx.Err(); err != nil {
			return err
		}
		pod := s.Pods[key]
		pod.Addresses = []netip.Addr{netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)})}
		s.Pods = maps.Clone(s.Pods) // a snapshot is not changed
		s.Pods[key] = pod
		begin := time.Now()
		c.Update(s, changed, local)
		r.add(fmt.Sprintf("change-time-%d", namespaces), what, "ms", "", milliseconds(time.Since(begin)))
	}
	w := c.Work()
	if w.ACLs == 0 {
		return errors.New("change one pod: no ACL has changed")
	}
	r.add(fmt.Sprintf("change-work-%d", namespaces), what+": work", "number", "facts of pods taken in, selectors asked, peers worked out and ACLs written", float64(w.Pods+w.Matches+w.Terms+w.ACLs))
	return nil
}

// peerOf is the first pod that serves the web in the second namespace, and is not on the
// node: policies of other namespaces name it.
func peerOf(s cluster.Snapshot) (cluster.PodKey, error) {
	for i := range 10 {
		key := cluster.PodKey{Namespace: "ns1", Name: fmt.Sprintf("pod%d", i)}
		if p, ok := s.Pods[key]; ok && p.Labels["tier"] == "web" && p.Node != policytest.CityNode {
			return key, nil
		}
	}
	return cluster.PodKey{}, errors.New("change one pod: none of namespace ns1 is a peer elsewhere")
}

func (r *compileRun) tell(step string) {
	total := r.Repetitions + len(r.Sizes)
	r.Progress(Progress{Step: step, Done: r.done, Total: total, Elapsed: time.Since(r.started)})
	r.done++
}
