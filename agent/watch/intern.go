package watch

import (
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/millrace/millrace/cluster"
)

// How many values a pool remembers at least, at most twice as many. Objects come sorted by
// name, so that pods of one owner come together: a small memory finds nearly all.
const (
	rememberStrings = 1 << 14
	rememberValues  = 1 << 12
)

// pool gives equal values one place in memory. It forgets what was not asked for lately;
// those who hold such a value keep it.
type pool[V any] struct {
	remember    int
	recent, old map[string]V
}

// value returns the V that key stands for, made by build unless it is remembered.
func (p *pool[V]) value(key []byte, build func() V) V {
	if v, ok := p.recent[string(key)]; ok {
		return v
	}
	v, ok := p.old[string(key)]
	if !ok {
		v = build()
	}
	if p.recent == nil || len(p.recent) >= p.remember {
		p.recent, p.old = make(map[string]V), p.recent
	}
	p.recent[string(key)] = v
	return v
}

// interner shares what objects of one kind have in common: label sets, ports, and the
// strings in them.
type interner struct {
	mu      sync.Mutex
	strings pool[string]
	labels  pool[map[string]string]
	ports   pool[[]cluster.Port]
	key     []byte
}

func newInterner() *interner {
	return &interner{
		strings: pool[string]{remember: rememberStrings},
		labels:  pool[map[string]string]{remember: rememberValues},
		ports:   pool[[]cluster.Port]{remember: rememberValues},
	}
}

func (in *interner) string(s string) string {
	if s == "" {
		return ""
	}
	in.key = append(in.key[:0], s...)
	return in.strings.value(in.key, func() string { return strings.Clone(s) })
}

// part appends a string in a form that no other sequence of strings has.
func part(key []byte, s string) []byte {
	return append(binary.AppendUvarint(key, uint64(len(s))), s...)
}

func (in *interner) mapping(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	var key []byte
	for _, k := range slices.Sorted(maps.Keys(m)) {
		key = part(part(key, k), m[k])
	}
	return in.labels.value(key, func() map[string]string {
		shared := make(map[string]string, len(m))
		for k, v := range m {
			shared[in.string(k)] = in.string(v)
		}
		return shared
	})
}

func (in *interner) portList(ports []cluster.Port) []cluster.Port {
	if len(ports) == 0 {
		return nil
	}
	var key []byte
	for _, p := range ports {
		key = binary.AppendUvarint(part(part(key, p.Name), string(p.Protocol)), uint64(p.Number))
	}
	return in.ports.value(key, func() []cluster.Port {
		shared := append(make([]cluster.Port, 0, len(ports)), ports...)
		for i := range shared {
			shared[i].Name = in.string(shared[i].Name)
			shared[i].Protocol = corev1.Protocol(in.string(string(shared[i].Protocol)))
		}
		return shared
	})
}

func (in *interner) pod(p *cluster.Pod) {
	in.mu.Lock()
	defer in.mu.Unlock()
	p.Key.Namespace, p.Node, p.Phase = in.string(p.Key.Namespace), in.string(p.Node), corev1.PodPhase(in.string(string(p.Phase)))
	p.Labels, p.Annotations, p.Ports = in.mapping(p.Labels), in.mapping(p.Annotations), in.portList(p.Ports)
}

func (in *interner) node(n *cluster.Node) {
	in.mu.Lock()
	defer in.mu.Unlock()
	n.Labels = in.mapping(n.Labels)
}

func (in *interner) namespace(n *cluster.Namespace) {
	in.mu.Lock()
	defer in.mu.Unlock()
	n.Labels = in.mapping(n.Labels)
}

func (in *interner) slice(s *cluster.EndpointSlice) {
	in.mu.Lock()
	defer in.mu.Unlock()
	s.Key.Namespace, s.Service, s.Ports = in.string(s.Key.Namespace), in.string(s.Service), in.portList(s.Ports)
	for i := range s.Endpoints {
		s.Endpoints[i].Node = in.string(s.Endpoints[i].Node)
	}
}
