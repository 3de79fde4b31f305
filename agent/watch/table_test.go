package watch

import (
	"log/slog"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/millrace/millrace/cluster"
)

// podTable is one of pods, whose log it returns.
func podTable() (*table[cluster.PodKey, cluster.Pod], *strings.Builder, *int) {
	log, touches := &strings.Builder{}, 0
	t := newTable("Pod", slog.New(slog.NewTextHandler(log, nil)), func() { touches++ },
		func(namespace, name string) cluster.PodKey { return cluster.PodKey{Namespace: namespace, Name: name} }, Pod, newInterner().pod)
	return t, log, &touches
}

func web(name string, ip string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{"app": "web"}},
		Status:     corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: ip}}},
	}
}

// taken is what a table gives out, as text, and what changed.
func taken(t *table[cluster.PodKey, cluster.Pod]) (string, cluster.Set[cluster.PodKey], map[cluster.PodKey]cluster.Pod) {
	var s cluster.Snapshot
	var c cluster.Changes
	t.take(&s.Pods, &c.Pods)
	return strings.TrimPrefix(s.String(), "revision 0\n"), c.Pods, s.Pods
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTableFollows(t *testing.T) {
	pods, _, touches := podTable()
	if synced, _, _ := pods.state(); synced {
		t.Error("synced before a list")
	}
	must(t, pods.Replace([]any{web("a", "10.1.0.1"), web("b", "10.1.0.2")}, "1"))
	if synced, _, _ := pods.state(); !synced {
		t.Error("not synced by a list")
	}
	text, changed, first := taken(pods)
	if want := "pod shop/a address=10.1.0.1 label=app=web\npod shop/b address=10.1.0.2 label=app=web\n"; text != want || len(changed) != 2 {
		t.Errorf("facts are\n%schanged %v", text, changed)
	}

	// What means the same is no change, also in a new list.
	before := *touches
	same := web("a", "10.1.0.1")
	same.ResourceVersion, same.Annotations = "7", map[string]string{"other": "x"}
	must(t, pods.Update(same))
	must(t, pods.Replace([]any{same, web("b", "10.1.0.2")}, "8"))
	if _, changed, again := taken(pods); len(changed) != 0 || *touches != before || len(again) != 2 {
		t.Errorf("nothing changed, and %v did, touched %d times", changed, *touches-before)
	}

	// A change is one of a copy; what was given out stays.
	must(t, pods.Update(web("a", "10.1.0.9")))
	must(t, pods.Delete(web("b", "10.1.0.2")))
	must(t, pods.Add(web("c", "10.1.0.3")))
	text, changed, _ = taken(pods)
	if want := "pod shop/a address=10.1.0.9 label=app=web\npod shop/c address=10.1.0.3 label=app=web\n"; text != want || len(changed) != 3 {
		t.Errorf("facts are\n%schanged %v", text, changed)
	}
	if first[cluster.PodKey{Namespace: "shop", Name: "a"}].Addresses[0].String() != "10.1.0.1" || len(first) != 2 {
		t.Errorf("facts that were given out changed to %v", first)
	}

	// What a list does not name is gone.
	must(t, pods.Replace([]any{web("c", "10.1.0.3")}, "9"))
	if text, changed, _ := taken(pods); text != "pod shop/c address=10.1.0.3 label=app=web\n" || len(changed) != 1 {
		t.Errorf("facts are\n%schanged %v", text, changed)
	}
}

// TestTableLeavesOut: one object of no use is named, once, and the others go on.
func TestTableLeavesOut(t *testing.T) {
	pods, log, _ := podTable()
	must(t, pods.Replace([]any{web("a", "10.1.0.1"), web("b", "10.1.0.300")}, "1"))
	must(t, pods.Update(web("b", "10.1.0.300")))
	text, _, _ := taken(pods)
	if _, _, unusable := pods.state(); text != "pod shop/a address=10.1.0.1 label=app=web\n" || unusable != 1 {
		t.Errorf("%d unusable, facts are\n%s", unusable, text)
	}
	if n := strings.Count(log.String(), "object=shop/b"); n != 1 || !strings.Contains(log.String(), "status.podIPs[0].ip") {
		t.Errorf("want one line that names pod and field:\n%s", log)
	}
	// One that was of use and no longer is leaves; one that is again comes back.
	must(t, pods.Update(web("a", "x")))
	must(t, pods.Update(web("b", "10.1.0.2")))
	text, changed, _ := taken(pods)
	if _, _, unusable := pods.state(); text != "pod shop/b address=10.1.0.2 label=app=web\n" || unusable != 1 || len(changed) != 2 {
		t.Errorf("%d unusable, changed %v, facts are\n%s", unusable, changed, text)
	}
	must(t, pods.Delete(web("a", "x")))
	if _, _, unusable := pods.state(); unusable != 0 {
		t.Errorf("%d unusable after it was deleted", unusable)
	}
	if err := pods.Add("no pod"); err == nil {
		t.Error("a string is kept as a pod")
	}
}

// TestTableMissingKind: a kind that the server does not know is empty, and known to be, but
// one that was there is only given up when the server says so again.
func TestTableMissingKind(t *testing.T) {
	pods, log, _ := podTable()
	pods.absent()
	pods.absent()
	if synced, _, _ := pods.state(); !synced || strings.Count(log.String(), "does not have this kind") != 1 {
		t.Errorf("synced %v, log\n%s", synced, log)
	}
	must(t, pods.Replace([]any{web("a", "10.1.0.1")}, "1"))
	pods.absent()
	if text, _, _ := taken(pods); text == "" {
		t.Error("one word of a server that may be starting took all facts away")
	}
	pods.absent()
	text, changed, _ := taken(pods)
	if text != "" || len(changed) != 1 || strings.Count(log.String(), "does not have this kind") != 2 {
		t.Errorf("changed %v, facts are\n%slog\n%s", changed, text, log)
	}
}

// TestInternerShares: equal values are one, and different ones stay apart.
func TestInternerShares(t *testing.T) {
	in := newInterner()
	a := in.mapping(map[string]string{"a": "1", "b": "2"})
	b := in.mapping(map[string]string{"b": "2", "a": "1"})
	a["probe"] = "x" // never done with facts: it shows that both are one map
	if b["probe"] != "x" {
		t.Error("equal label sets are two")
	}
	if c := in.mapping(map[string]string{"a": "1b", "": "2"}); c["a"] != "1b" || len(c) != 2 {
		t.Errorf("another label set became %v", c)
	}
	if in.mapping(nil) != nil || in.portList(nil) != nil {
		t.Error("nothing became something")
	}
	p := pool[int]{remember: 2}
	for i := range 100 {
		if got := p.value([]byte{byte(i)}, func() int { return i }); got != i {
			t.Fatalf("value %d is %d", i, got)
		}
		if len(p.recent)+len(p.old) > 4 {
			t.Fatalf("%d values are remembered", len(p.recent)+len(p.old))
		}
	}
}
