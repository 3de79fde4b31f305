package program

import (
	"slices"

	"github.com/millrace/millrace/dataplane"
)

// stages cuts a plan into runs of steps that do the same to objects of one kind, and so do
// not depend on each other. Updates of ACLs and writes of bindings are one stage, where
// the plan has its first binding or what comes after those: nothing before depends on what
// an ACL says.
func stages(plan dataplane.Plan) []dataplane.Plan {
	at := slices.IndexFunc(plan, notBeforeGuards)
	if at < 0 {
		at = len(plan)
	}
	var guard dataplane.Plan
	var before, after dataplane.Plan
	for i, step := range plan {
		switch {
		case guards(step):
			guard = append(guard, step)
		case i < at:
			before = append(before, step)
		default:
			after = append(after, step)
		}
	}
	list := runs(before)
	if len(guard) > 0 {
		list = append(list, guard)
	}
	return append(list, runs(after)...)
}

// guards tells the steps that change what interfaces are guarded by.
func guards(step dataplane.Step) bool {
	switch step.Object.Key().Kind {
	case dataplane.KindACL:
		return step.Verb == dataplane.Update
	case dataplane.KindACLBinding:
		return step.Verb != dataplane.Delete
	}
	return false
}

// notBeforeGuards tells bindings, what opens an interface, and the deletes of ACLs that
// were let go of.
func notBeforeGuards(step dataplane.Step) bool {
	switch step.Object.Key().Kind {
	case dataplane.KindACL:
		return step.Verb == dataplane.Delete
	case dataplane.KindACLBinding, dataplane.KindUp:
		return step.Verb != dataplane.Delete
	}
	return false
}

// runs cuts where verb or kind change.
func runs(plan dataplane.Plan) (list []dataplane.Plan) {
	for len(plan) > 0 {
		n := 1
		for n < len(plan) && plan[n].Verb == plan[0].Verb && plan[n].Object.Key().Kind == plan[0].Object.Key().Kind {
			n++
		}
		list, plan = append(list, plan[:n]), plan[n:]
	}
	return list
}
