package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/benchmarks/rig"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/policytest"
	"github.com/millrace/millrace/policy"
)

// Apply measures how long a dataplane takes to get the ACLs of all pods of a node, of the
// cluster of Compile, and what they take of its memory. The pods' interfaces are there
// before; they are loopbacks, for which an ACL costs what it costs for any other. Each
// sample is of a process of its own; the dataplanes take turns.
type Apply struct {
	Title       string
	Routers     func() []*rig.Router // new ones, in the same order, with the plugins acl and urpf
	Namespaces  int
	Local       int // pods of the node
	Repetitions int
	Progress    func(Progress)
}

type applyRun struct {
	Apply
	result  *benchmarks.Result
	started time.Time
	done    int
}

// Run runs the measurement. The result is returned also when it was cut short.
func (c Apply) Run(ctx context.Context) (*benchmarks.Result, error) {
	machine, err := benchmarks.ThisMachine()
	if err != nil {
		return nil, err
	}
	r := &applyRun{Apply: c, started: time.Now(), result: &benchmarks.Result{
		Schema: benchmarks.Schema, Title: c.Title, Started: time.Now().UTC(), Machine: machine,
	}}
	s := policytest.City(c.Namespaces, c.Local)
	interfaces, all := states(policy.Compile(s, policytest.CityNode, localPods(s), policy.Options{}))
	err = r.all(ctx, interfaces, all)
	r.result.Seconds = time.Since(r.started).Seconds()
	if r.result.Complete = err == nil; err != nil {
		r.result.Problem = err.Error()
	}
	return r.result, err
}

// states are the interfaces of all pods, and the same with ACLs.
func states(p policy.Result) (interfaces, all dataplane.State) {
	pods := make([]cluster.PodKey, 0, len(p.Lists))
	for key := range p.Lists {
		pods = append(pods, key)
	}
	slices.SortFunc(pods, cluster.PodKey.Compare)
	for i, key := range pods {
		o := dataplane.Interface{Name: fmt.Sprintf("pod%d", i), Device: dataplane.Loopback{}, MTU: 1500}
		interfaces.Put(o)
		all.Put(o)
		all.Put(dataplane.ACLBinding{Interface: o.Name, Input: p.Lists[key].Input, Output: p.Lists[key].Output})
	}
	for _, a := range p.ACLs {
		all.Put(a)
	}
	return interfaces, all
}

func (r *applyRun) all(ctx context.Context, interfaces, all dataplane.State) error {
	launcher := rig.NewLauncher()
	defer launcher.Close()
	for n := range r.Repetitions {
		routers := r.Routers()
		for i, router := range routers {
			r.Progress(Progress{Step: fmt.Sprintf("%s: ACLs of %d pods (%d of %d)", router.About.Name, r.Local, n+1, r.Repetitions),
				Done: r.done, Total: r.Repetitions * len(routers), Elapsed: time.Since(r.started)})
			r.done++
			err := r.once(ctx, launcher, router, interfaces, all)
			if err = errors.Join(err, router.Stop()); err != nil {
				return fmt.Errorf("%s: %w", router.About.Name, err)
			}
			if n == 0 {
				r.result.Subjects = append(r.result.Subjects, routers[i].About)
			}
		}
	}
	return nil
}

func (r *applyRun) once(ctx context.Context, l *rig.Launcher, router *rig.Router, interfaces, all dataplane.State) error {
	if err := router.Start(ctx, l, nil); err != nil {
		return err
	}
	if err := router.Resume(); err != nil {
		return err
	}
	if _, err := router.Apply(ctx, interfaces); err != nil {
		return err
	}
	a, err := router.Apply(ctx, all)
	if err != nil {
		return err
	}
	add := func(name, title, unit string, sample float64) {
		r.result.Add(benchmarks.Measurement{Name: name, Title: title, Subject: router.About.Name, Unit: unit, Better: benchmarks.Lower,
			Command: "millrace bench policy --scenario compile"}, sample)
	}
	what := fmt.Sprintf("ACLs of %d pods: ", r.Local)
	add("apply-messages", what+"messages", "number", float64(a.Messages))
	add("apply-time", what+"apply", "ms", milliseconds(a.Took))
	add("memory-before", what+"resident memory before", "MB", float64(a.Before)/1e6)
	add("memory-after", what+"resident memory after", "MB", float64(a.After)/1e6)
	add("memory-more", what+"resident memory, difference", "MB", float64(a.After-a.Before)/1e6)
	return nil
}
