package cluster

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompare(t *testing.T) {
	a, b := sample(), sample()
	if c := Compare(a, b); !c.Empty() {
		t.Errorf("equal snapshots differ in %+v", c)
	}
	web := PodKey{"default", "web"}
	p := b.Pods[web]
	p.Labels = map[string]string{"app": "other"}
	b.Pods[web] = p
	delete(b.Nodes, "worker-1")
	b.Services = nil
	b.Namespaces["new"] = Namespace{Name: "new"}
	want := Changes{
		Pods: Set[PodKey]{web: {}}, Nodes: Set[string]{"worker-1": {}}, Namespaces: Set[string]{"new": {}},
		Services: Set[ServiceKey]{{"default", "web"}: {}},
	}
	if diff := cmp.Diff(want, Compare(a, b)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, Compare(b, a)); diff != "" {
		t.Errorf("changes the other way round (-want +got):\n%s", diff)
	}
}

func TestChangesUnion(t *testing.T) {
	var c Changes
	c.Union(Changes{})
	if !c.Empty() {
		t.Errorf("nothing and nothing is %+v", c)
	}
	first := Changes{Pods: Set[PodKey]{{"a", "b"}: {}}, EndpointSlices: Set[ServiceKey]{{"a", "b"}: {}}}
	kept := maps.Clone(first.Pods)
	c.Union(first)
	c.Union(Changes{Pods: Set[PodKey]{{"a", "c"}: {}}})
	if len(c.Pods) != 2 || len(c.EndpointSlices) != 1 || c.Empty() {
		t.Errorf("the union is %+v", c)
	}
	if !maps.Equal(kept, first.Pods) {
		t.Error("a union changed what it took from")
	}
}
