package watch

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"github.com/millrace/millrace/cluster"
)

// item is what is kept of one object: all of it that stays in memory while a list is on
// its way through client-go, which asks for its name and its version.
type item[K comparable, V any] struct {
	metav1.Object // an empty one, for whatever else may be asked
	version       string
	key           K
	value         V
	err           error // why there is no value
	name          cache.ObjectName
}

func (i *item[K, V]) GetName() string                  { return i.name.Name }
func (i *item[K, V]) GetResourceVersion() string       { return i.version }
func (i *item[K, V]) GetNamespace() string             { return i.name.Namespace }
func (i *item[K, V]) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }
func (i *item[K, V]) DeepCopyObject() runtime.Object   { return i }

// table holds the facts of one kind, as client-go's Reflector tells it of them. What it
// gave out is never changed again.
type table[K comparable, V any] struct {
	kind    string
	log     *slog.Logger
	keyOf   func(namespace, name string) K
	convert func(runtime.Object) (V, error)
	touched func() // called when there is something to take
	nothing *metav1.ObjectMeta

	mu       sync.Mutex
	synced   bool          // the facts are, or once were, all there is
	absences int           // times in a row that the server did not know the kind
	missing  bool          // it is settled that it does not
	given    bool          // facts are given out: the next change is one of a copy
	copying  time.Duration // what the last copy took
	facts    map[K]V
	changed  cluster.Set[K] // since they were given out
	unusable map[K]string   // why an object is left out
	contact  time.Time      // when the server last said something of this kind
}

func newTable[K comparable, V any, O runtime.Object](kind string, log *slog.Logger, touched func(), keyOf func(namespace, name string) K, convert func(O) (V, error), intern func(*V)) *table[K, V] {
	return &table[K, V]{
		kind: kind, log: log, keyOf: keyOf, touched: touched, facts: map[K]V{}, unusable: map[K]string{}, nothing: &metav1.ObjectMeta{},
		convert: func(o runtime.Object) (V, error) {
			v, err := convert(o.(O))
			if intern != nil && err == nil {
				intern(&v)
			}
			return v, err
		},
	}
}

// item reduces an object, unless it is reduced already.
func (t *table[K, V]) item(o any) (*item[K, V], error) {
	if i, ok := o.(*item[K, V]); ok {
		return i, nil
	}
	object, isObject := o.(runtime.Object)
	meta, isNamed := o.(metav1.Object)
	if !isObject || !isNamed {
		return nil, fmt.Errorf("keep %s: a %T is no object", t.kind, o)
	}
	i := &item[K, V]{Object: t.nothing, version: meta.GetResourceVersion(), name: cache.ObjectName{Namespace: meta.GetNamespace(), Name: meta.GetName()}}
	i.key = t.keyOf(i.name.Namespace, i.name.Name)
	i.value, i.err = t.convert(object)
	return i, nil
}

// Transformer has client-go reduce objects as they arrive.
func (t *table[K, V]) Transformer() cache.TransformFunc {
	return func(o any) (any, error) { return t.item(o) }
}

// Add keeps an object.
func (t *table[K, V]) Add(o any) error { return t.Update(o) }

// Update keeps an object in place of another one of its name.
func (t *table[K, V]) Update(o any) error {
	i, err := t.item(o)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.contact = time.Now()
	t.put(i)
	return nil
}

// Delete drops the object of that name.
func (t *table[K, V]) Delete(o any) error {
	i, err := t.item(o)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.contact = time.Now()
	delete(t.unusable, i.key)
	t.remove(i.key)
	return nil
}

// Replace makes the objects of a list all there is.
func (t *table[K, V]) Replace(list []any, _ string) error {
	items := make([]*item[K, V], len(list))
	for n, o := range list {
		i, err := t.item(o)
		if err != nil {
			return err
		}
		items[n] = i
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.contact, t.absences, t.missing = time.Now(), 0, false
	if len(t.facts) == 0 {
		t.facts, t.given = make(map[K]V, len(items)), false
	}
	listed := make(cluster.Set[K], len(items))
	for _, i := range items {
		listed[i.key] = struct{}{}
		t.put(i)
	}
	for key := range t.facts {
		if _, ok := listed[key]; !ok {
			t.remove(key)
		}
	}
	for key := range t.unusable {
		if _, ok := listed[key]; !ok {
			delete(t.unusable, key)
		}
	}
	t.sync()
	return nil
}

// Resync does nothing: the facts do not fade.
func (t *table[K, V]) Resync() error { return nil }

// Bookmark notes that the server speaks.
func (t *table[K, V]) Bookmark(string) error {
	t.heard()
	return nil
}

// heard notes that the server said something of this kind.
func (t *table[K, V]) heard() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.contact = time.Now()
}

// absent notes that the server does not know the kind: then there are no objects of it.
// Where there were some, it has to say so twice, since what it says while it starts or a
// kind is being replaced must not open what a policy closed.
func (t *table[K, V]) absent() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.contact = time.Now()
	t.absences++
	if t.missing || t.absences == 1 && len(t.facts) > 0 {
		return
	}
	t.missing = true
	t.log.Info("the cluster does not have this kind of object; it is looked for from time to time", "kind", t.kind)
	for key := range t.facts {
		t.remove(key)
	}
	t.sync()
}

// sync marks the facts as complete. The lock is held.
func (t *table[K, V]) sync() {
	if !t.synced {
		t.synced = true
		t.touched()
	}
}

// put keeps an item, or remembers why not. The lock is held.
func (t *table[K, V]) put(i *item[K, V]) {
	if i.err != nil {
		t.leaveOut(i)
		return
	}
	delete(t.unusable, i.key)
	if was, ok := t.facts[i.key]; ok && reflect.DeepEqual(was, i.value) {
		return
	}
	t.own()
	// A key that is there already stays the one in memory.
	t.facts[i.key] = i.value
	t.change(i.key)
}

// leaveOut drops what an unusable object was before; each reason is reported once. The
// lock is held.
func (t *table[K, V]) leaveOut(i *item[K, V]) {
	t.remove(i.key)
	text := i.err.Error()
	switch {
	case errors.Is(i.err, errNotOurs):
		delete(t.unusable, i.key)
	case t.unusable[i.key] != text:
		t.unusable[i.key] = text
		t.log.Warn("an object cannot be used and is left out", "kind", t.kind, "object", i.name.String(), "err", i.err)
	}
}

// remove drops a fact. The lock is held.
func (t *table[K, V]) remove(key K) {
	if _, ok := t.facts[key]; ok {
		t.own()
		delete(t.facts, key)
		t.change(key)
	}
}

// own makes the facts ones that may be changed. The lock is held.
func (t *table[K, V]) own() {
	if t.given {
		begin := time.Now()
		t.facts, t.given = maps.Clone(t.facts), false
		t.copying = time.Since(begin)
	}
}

func (t *table[K, V]) change(key K) {
	if len(t.changed) == 0 {
		t.touched()
	}
	t.changed.Add(key)
}

func (t *table[K, V]) kindName() string { return t.kind }

// take gives out the facts and the keys of those that changed since the last time.
func (t *table[K, V]) take(facts *map[K]V, changed *cluster.Set[K]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*facts, *changed = t.facts, t.changed
	t.given, t.changed = true, nil
}

// copyTime is what the last copy of the facts took.
func (t *table[K, V]) copyTime() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.copying
}

// state is what is known about the facts themselves.
func (t *table[K, V]) state() (synced bool, contact time.Time, unusable int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.synced, t.contact, len(t.unusable)
}
