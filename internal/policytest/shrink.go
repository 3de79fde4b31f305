package policytest

import (
	"encoding/json"
	"iter"
	"maps"
	"slices"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/policy/oracle"
)

// Shrink makes a case smaller as long as it still fails: it leaves out connections and
// objects, then parts of objects, until every further step would let it pass. What was
// sound stays so: no policy is broken by it, and no attachment loses its pod.
func Shrink(c Case, fails func(Case) bool) Case {
	for {
		smaller, found := c, false
		broken := len(oracle.New(c.Snapshot).Broken())
		for candidate := range candidates(c) {
			if len(oracle.New(candidate.Snapshot).Broken()) <= broken && fails(candidate) {
				smaller, found = candidate, true
				break
			}
		}
		if !found {
			return c
		}
		c = smaller
	}
}

// candidates are the cases that are one step smaller, the biggest steps first.
func candidates(c Case) iter.Seq[Case] {
	return func(yield func(Case) bool) {
		for half := len(c.Flows) / 2; half > 0; half /= 2 {
			for from := 0; from+half <= len(c.Flows); from += half {
				smaller := c
				if smaller.Flows = slices.Delete(slices.Clone(c.Flows), from, from+half); len(smaller.Flows) > 0 && !yield(smaller) {
					return
				}
			}
		}
		s := c.Snapshot
		put := func(s cluster.Snapshot) bool { return yield(Case{s, c.Flows}) }
		_ = each(s.Pods, func(m map[cluster.PodKey]cluster.Pod) bool { return put(withPods(s, m)) }) &&
			each(s.NetworkPolicies, func(m map[cluster.PolicyKey]cluster.NetworkPolicy) bool { s := s; s.NetworkPolicies = m; return put(s) }) &&
			each(s.ClusterPolicies, func(m map[string]cluster.ClusterPolicy) bool { s := s; s.ClusterPolicies = m; return put(s) }) &&
			each(s.Attachments, func(m map[cluster.AttachmentID]cluster.Attachment) bool { s := s; s.Attachments = m; return put(s) }) &&
			each(s.Namespaces, func(m map[string]cluster.Namespace) bool { s := s; s.Namespaces = m; return put(s) }) &&
			each(s.Nodes, func(m map[string]cluster.Node) bool { s := s; s.Nodes = m; return put(s) })
	}
}

// withPods leaves out the attachments of pods that are not there.
func withPods(s cluster.Snapshot, pods map[cluster.PodKey]cluster.Pod) cluster.Snapshot {
	s.Pods, s.Attachments = pods, maps.Clone(s.Attachments)
	maps.DeleteFunc(s.Attachments, func(_ cluster.AttachmentID, a cluster.Attachment) bool {
		_, ok := pods[a.Pod]
		return !ok
	})
	return s
}

// each hands on m without one of its values, for each, then with each value made smaller.
func each[K comparable, V any](m map[K]V, put func(map[K]V) bool) bool {
	for k := range m {
		without := maps.Clone(m)
		delete(without, k)
		if !put(without) {
			return false
		}
	}
	for k, v := range m {
		for smaller := range parts(v) {
			with := maps.Clone(m)
			with[k] = smaller
			if !put(with) {
				return false
			}
		}
	}
	return true
}

// parts are the values that lack one element of a list or one field of v, at any depth.
// They are made by way of JSON, so that every kind of object has them. What names an
// object stays.
func parts[V any](v V) iter.Seq[V] {
	return func(yield func(V) bool) {
		text, err := json.Marshal(v)
		var tree any
		if err == nil {
			err = json.Unmarshal(text, &tree)
		}
		if err != nil {
			return // it has no such form: it stays whole
		}
		cut(tree, func() bool {
			part, err := json.Marshal(tree)
			var smaller V
			if err == nil {
				err = json.Unmarshal(part, &smaller)
			}
			if err == nil {
				part, err = json.Marshal(smaller) // a field that is always there came back
			}
			return err != nil || len(part) >= len(text) || yield(smaller)
		})
	}
}

// cut calls try with each part missing from tree in turn, outer parts before inner ones.
func cut(tree any, try func() bool) bool {
	switch node := tree.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(node)) {
			value := node[key]
			if identity(key) || empty(value) {
				continue
			}
			delete(node, key)
			more := try()
			node[key] = value
			if !more {
				return false
			}
		}
		for _, key := range slices.Sorted(maps.Keys(node)) {
			if !identity(key) && !cutList(node[key], func(l any) { node[key] = l }, try) {
				return false
			}
		}
	case []any:
		for _, value := range node {
			if !cut(value, try) {
				return false
			}
		}
	}
	return true
}

// cutList leaves out elements of a list that is a field, then goes inside.
func cutList(value any, set func(any), try func() bool) bool {
	if list, ok := value.([]any); ok {
		for i := range list {
			set(slices.Delete(slices.Clone(list), i, i+1))
			more := try()
			set(value)
			if !more {
				return false
			}
		}
	}
	return cut(value, try)
}

// identity tells the fields that name an object or refer to one.
func identity(key string) bool {
	return slices.Contains([]string{"Key", "Name", "ID", "Pod", "Node", "Netns"}, key)
}

// empty tells what is not there in Go either: leaving it out makes nothing smaller.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case float64:
		return v == 0
	}
	return false
}
