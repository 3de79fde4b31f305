package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/millrace/millrace/agent/compile"
	"github.com/millrace/millrace/agent/program"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/policy"
	"github.com/millrace/millrace/vpp"
)

const (
	// The first and the longest pause before a failed step is tried again.
	firstRetry   = 100 * time.Millisecond
	longestRetry = 30 * time.Second
)

// round is the state of the loop on one connection. Its have is only changed by what the
// machine shows or acknowledges.
type round struct {
	agent    *Agent
	program  *program.Program
	options  compile.Options
	compiler *compile.Compiler // nil before the first round
	facts    cluster.Snapshot  // of the latest round, with what they were compiled to
	want     dataplane.State
	problems []policy.Problem // of policies that fail closed
	have     dataplane.State
	observe  bool // look at the machine first
	settled  bool // the remains of earlier connections are dealt with
	failing  map[dataplane.Key]failure
}

// failure is an object that some step could not bring to its wish.
type failure struct {
	err      error
	attempts int
	until    time.Time // not to be tried before
	wish     uint64    // revision of the attachment it serves; another wish is tried at once
}

// begin looks at the machine for the first time.
func (r *round) begin(ctx context.Context) error {
	r.failing = map[dataplane.Key]failure{}
	if err := r.look(ctx); err != nil {
		return err
	}
	tun, err := r.program.CanTun(ctx)
	if err != nil {
		return err
	}
	if !tun {
		r.options.Device = compile.DeviceVeth
	}
	r.options.Services = r.program.Translates() && !r.options.NoServices
	sctp, err := r.program.SeesSCTPPorts(ctx)
	if err != nil {
		return err
	}
	r.options.Policy.SCTPPortsUnseen = !sctp
	return nil
}

func (r *round) look(ctx context.Context) error {
	have, err := r.program.Observe(ctx)
	if err != nil {
		return err
	}
	r.have, r.observe, r.options.Uplinks = have, false, r.program.Uplinks()
	return nil
}

// run makes one round and returns how long to wait for the next unless facts change. Its
// error ends the connection.
func (r *round) run(ctx context.Context) (time.Duration, error) {
	begin := time.Now()
	if r.observe {
		believed := r.have
		if err := r.look(ctx); err != nil {
			return 0, err
		}
		if len(r.failing) == 0 && !believed.Equal(r.have) {
			r.agent.metrics.drift.Inc()
			r.agent.log.Warn("the dataplane was changed by somebody else", "repair", dataplane.Diff(r.have, believed).String())
		}
	}
	facts, result, err := r.compile()
	if err != nil {
		// The node's own facts cannot be used: what is stays as it is.
		r.agent.metrics.errors.WithLabelValues("compile").Inc()
		r.agent.log.Error("facts cannot be compiled", "err", err)
		r.agent.publish(outcome{down: err})
		return longestRetry, nil
	}
	r.facts, r.want, r.problems = facts, result.State, result.Policy.Problems
	r.agent.tell(result.Policy.Problems)
	unsettled := r.settle(ctx, result.State)
	o := r.apply(ctx, facts, result)
	o.stuck = errors.Join(o.stuck, unsettled)
	r.agent.tellServices(append(result.Services, r.agent.checks.Set(result.HealthChecks)...))
	if err := lost(o); err != nil {
		return 0, err
	}
	r.name(result)
	r.agent.metrics.round(begin, r.have, r.failing)
	r.agent.publish(o)
	return r.pause(), nil
}

// compile brings the wish to the facts as they are now.
func (r *round) compile() (cluster.Snapshot, compile.Result, error) {
	facts, changed := r.agent.facts()
	if r.compiler == nil {
		r.compiler = compile.NewCompiler(r.agent.config.Node, r.options)
		changed = cluster.Compare(cluster.Snapshot{}, facts) // earlier connections took some
	}
	hops := r.agent.config.NextHops
	if hops == nil {
		r.compiler.Learn(r.options.Uplinks, nil)
		result, err := r.compiler.Update(facts, changed)
		return facts, result, err
	}
	r.compiler.Learn(r.options.Uplinks, hops.Known())
	result, err := r.compiler.Update(facts, changed)
	if err == nil {
		hops.Follow(dataplane.NextHops(result.State, r.options.Uplinks))
	}
	return facts, result, err
}

// lost returns the end of the connection among a round's failures.
func lost(o outcome) error {
	for _, err := range o.refused {
		if errors.Is(err, vpp.ErrDisconnected) {
			return err
		}
	}
	for _, err := range []error{o.stuck, o.node} {
		if errors.Is(err, vpp.ErrDisconnected) {
			return err
		}
	}
	return nil
}

// apply goes from have to the wish as far as it can.
func (r *round) apply(ctx context.Context, facts cluster.Snapshot, result compile.Result) outcome {
	o := outcome{revision: facts.Revision, refused: map[cluster.AttachmentID]error{}, attachments: facts.Attachments}
	for id, err := range result.Problems {
		o.refused[id] = err
		r.agent.metrics.errors.WithLabelValues("attachment").Inc()
	}
	plan := dataplane.Diff(r.have, result.State)
	r.forgive(plan, facts, result)
	steps, begin := 0, time.Now()
	reached := result.State
	r.program.Apply(ctx, plan, r.postponed(), func(step dataplane.Step, err error) {
		r.agent.metrics.step(step, err)
		if err == nil {
			steps++
			r.have.Apply(step)
			delete(r.failing, step.Object.Key())
			return
		}
		keep(&reached, r.have, step.Object.Key())
		id, owned := result.Owners[step.Object.Key()]
		o.add(step, err, id, owned)
		r.fail(step, err, facts.Attachments[id].Revision)
	})
	r.have = reached // the same in other words, that share what there is with the wish
	r.agent.metrics.guarded(begin, plan)
	if steps > 0 {
		r.agent.log.Debug("applied", "steps", steps, "of", len(plan), "revision", facts.Revision)
	}
	return o
}

// keep makes an object of s what it is in have.
func keep(s *dataplane.State, have dataplane.State, k dataplane.Key) {
	if o, ok := have.Object(k); ok {
		s.Put(o)
	} else {
		s.Remove(k)
	}
}

// forgive drops failures that no plan speaks of any more, or whose wish is another one.
func (r *round) forgive(plan dataplane.Plan, facts cluster.Snapshot, result compile.Result) {
	for key, f := range r.failing {
		inPlan := slices.ContainsFunc(plan, func(s dataplane.Step) bool { return s.Object.Key() == key })
		if !inPlan || facts.Attachments[result.Owners[key]].Revision != f.wish {
			delete(r.failing, key)
		}
	}
}

// postponed are the objects whose time has not come.
func (r *round) postponed() map[dataplane.Key]error {
	late := map[dataplane.Key]error{}
	for key, f := range r.failing {
		if time.Now().Before(f.until) {
			late[key] = f.err
		}
	}
	return late
}

// fail notes a step that was tried and failed. One that was not tried waits for the one
// that holds it up.
func (r *round) fail(step dataplane.Step, err error, wish uint64) {
	if errors.Is(err, program.ErrBlocked) || errors.Is(err, vpp.ErrDisconnected) {
		return
	}
	key := step.Object.Key()
	if key.Kind == dataplane.KindACL || key.Kind == dataplane.KindACLBinding {
		r.observe = true // there may be two versions of an ACL now, and only a look tells
	}
	f := r.failing[key]
	if f.attempts == 0 || f.err.Error() != err.Error() {
		r.agent.log.Warn("a step failed and will be tried again", "err", err)
	}
	pause := min(firstRetry<<min(f.attempts, 16), longestRetry)
	pause += time.Duration(rand.Int64N(int64(pause) / 4))
	r.failing[key] = failure{err: err, attempts: f.attempts + 1, until: time.Now().Add(pause), wish: wish}
}

// pause is how long the loop may sleep: until the next failed step's time, at most until
// the next look at the machine, which nodes of one cluster do not take at the same moment.
func (r *round) pause() time.Duration {
	resync := r.agent.config.Resync
	wait := resync + time.Duration(rand.Int64N(int64(resync)/8+1))
	for _, f := range r.failing {
		wait = min(wait, time.Until(f.until))
	}
	return max(wait, 0)
}

// settle deals, once per connection and before anything is made, with what earlier ones
// left in the kernel.
func (r *round) settle(ctx context.Context, want dataplane.State) error {
	if r.settled {
		return nil
	}
	if err := r.agent.remains.settle(ctx, r.program, want); err != nil {
		return fmt.Errorf("clear up after the last connection: %w", err)
	}
	r.settled = true
	return nil
}

// remains are interfaces that machines had when their connections ended.
type remains map[string]dataplane.Interface

func (m *remains) keep(have dataplane.State) {
	if *m == nil {
		*m = remains{}
	}
	for o := range have.All() {
		if i, ok := o.(dataplane.Interface); ok {
			(*m)[i.Name] = i
		}
	}
}

// settle removes the kernel's ends of what is no longer wanted; the others will be taken
// over by the interfaces made anew.
func (m *remains) settle(ctx context.Context, p *program.Program, want dataplane.State) error {
	errs := []error{p.Sweep(ctx, want)}
	for name, i := range *m {
		if _, wanted := want.Object(i.Key()); !wanted {
			if err := p.Forget(i); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		delete(*m, name)
	}
	return errors.Join(errs...)
}
