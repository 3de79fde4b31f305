package cluster

import (
	"maps"
	"reflect"
)

// Changes names the objects in which two Snapshots differ: those that only one of them has
// and those that are not equal in both. Attachments and secrets are not among them. The
// zero value names none.
type Changes struct {
	Nodes           Set[string]
	Namespaces      Set[string]
	Pods            Set[PodKey]
	NetworkPolicies Set[PolicyKey]
	ClusterPolicies Set[string]
	Services        Set[ServiceKey]
	EndpointSlices  Set[ServiceKey]
}

// Set is a set of keys; nil is empty.
type Set[K comparable] map[K]struct{}

// Add puts a key into the set.
func (s *Set[K]) Add(key K) {
	if *s == nil {
		*s = Set[K]{}
	}
	(*s)[key] = struct{}{}
}

// Union adds all of another set.
func (s *Set[K]) Union(o Set[K]) {
	if *s == nil && len(o) > 0 {
		*s = make(Set[K], len(o))
	}
	maps.Copy(*s, o)
}

// Empty says whether nothing is named.
func (c Changes) Empty() bool {
	return len(c.Nodes)+len(c.Namespaces)+len(c.Pods)+len(c.NetworkPolicies)+len(c.ClusterPolicies)+len(c.Services)+len(c.EndpointSlices) == 0
}

// Union adds what o names, so that c spans both steps.
func (c *Changes) Union(o Changes) {
	c.Nodes.Union(o.Nodes)
	c.Namespaces.Union(o.Namespaces)
	c.Pods.Union(o.Pods)
	c.NetworkPolicies.Union(o.NetworkPolicies)
	c.ClusterPolicies.Union(o.ClusterPolicies)
	c.Services.Union(o.Services)
	c.EndpointSlices.Union(o.EndpointSlices)
}

// Compare finds the differences by looking at every object of both.
func Compare(a, b Snapshot) Changes {
	return Changes{
		Nodes: differ(a.Nodes, b.Nodes), Namespaces: differ(a.Namespaces, b.Namespaces), Pods: differ(a.Pods, b.Pods),
		NetworkPolicies: differ(a.NetworkPolicies, b.NetworkPolicies), ClusterPolicies: differ(a.ClusterPolicies, b.ClusterPolicies),
		Services: differ(a.Services, b.Services), EndpointSlices: differ(a.EndpointSlices, b.EndpointSlices),
	}
}

func differ[K comparable, V any](a, b map[K]V) (s Set[K]) {
	for key, v := range a {
		if w, ok := b[key]; !ok || !reflect.DeepEqual(v, w) {
			s.Add(key)
		}
	}
	for key := range b {
		if _, ok := a[key]; !ok {
			s.Add(key)
		}
	}
	return s
}
