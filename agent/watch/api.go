package watch

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/millrace/millrace/cluster"
)

const (
	// Changes that follow each other this closely are one Snapshot; one is not put off by
	// more changes for longer than the second. Both grow by several times what a copy of
	// the facts takes: in a cluster of 150,000 pods, where pods change all the time, a
	// Snapshot for each would keep a core busy.
	settleTime = 50 * time.Millisecond
	settleMost = 500 * time.Millisecond
	copyShare  = 5
	// Pauses between attempts to reach the server.
	retryFirst = 500 * time.Millisecond
	retryMost  = 15 * time.Second
)

// APIConfig is what an API works with.
type APIConfig struct {
	Kubeconfig string // path; empty: the service account of the pod this process runs in
	UserAgent  string
	Node       string // in whose name Events are written
	Log        *slog.Logger
	Metrics    prometheus.Registerer // nil: none
	// RetryMost is the longest pause between attempts to reach the server; 0 = 15 s.
	RetryMost time.Duration
}

// API is the facts of a Kubernetes API server. What the server said last stays true while
// it is away.
type API struct {
	log     *slog.Logger
	clients clients
	retry   time.Duration

	reporter        reporter
	recorder        *recorder
	nodes           *table[string, cluster.Node]
	namespaces      *table[string, cluster.Namespace]
	pods            *table[cluster.PodKey, cluster.Pod]
	networkPolicies *table[cluster.PolicyKey, cluster.NetworkPolicy]
	clusterPolicies *table[string, cluster.ClusterPolicy]
	services        *table[cluster.ServiceKey, cluster.Service]
	endpointSlices  *table[cluster.ServiceKey, cluster.EndpointSlice]

	dirty   chan struct{} // a table has something to take
	changed chan struct{}
	synced  chan struct{} // closed with the first Snapshot

	// mu guards what was published, the channel closed when another Snapshot comes, and
	// the changes that nobody took yet.
	mu       sync.Mutex
	snapshot cluster.Snapshot
	next     chan struct{}
	changes  cluster.Changes
}

// NewAPI checks how to reach the server; Run does it.
func NewAPI(c APIConfig) (*API, error) {
	config, err := clientConfig(c.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reach the API server: %w", err)
	}
	a := &API{
		log: c.Log, reporter: reporter{log: c.Log}, retry: c.RetryMost, dirty: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		synced: make(chan struct{}), next: make(chan struct{}),
	}
	if a.retry <= 0 {
		a.retry = retryMost
	}
	if a.clients, err = newClients(config, c.UserAgent); err != nil {
		return nil, fmt.Errorf("reach the API server: %w", err)
	}
	a.recorder = newRecorder(a.clients.core, c.Node, func(err error) { a.reporter.report("Event", err) })
	a.tables()
	if c.Metrics != nil {
		if err := c.Metrics.Register(collector{a}); err != nil {
			return nil, fmt.Errorf("watch the API server: %w", err)
		}
	}
	return a, nil
}

func (a *API) tables() {
	in, touched := newInterner(), func() { notify(a.dirty) }
	name := func(_, name string) string { return name }
	service := func(namespace, name string) cluster.ServiceKey {
		return cluster.ServiceKey{Namespace: namespace, Name: name}
	}
	a.nodes = newTable("Node", a.log, touched, name, Node, in.node)
	a.namespaces = newTable("Namespace", a.log, touched, name, Namespace, in.namespace)
	a.pods = newTable("Pod", a.log, touched, func(namespace, name string) cluster.PodKey {
		return cluster.PodKey{Namespace: namespace, Name: name}
	}, Pod, in.pod)
	a.networkPolicies = newTable("NetworkPolicy", a.log, touched, func(namespace, name string) cluster.PolicyKey {
		return cluster.PolicyKey{Namespace: namespace, Name: name}
	}, NetworkPolicy, nil)
	a.clusterPolicies = newTable("ClusterNetworkPolicy", a.log, touched, name, ClusterPolicy, nil)
	a.services = newTable("Service", a.log, touched, service, Service, nil)
	a.endpointSlices = newTable("EndpointSlice", a.log, touched, service, EndpointSlice, in.slice)
}

// kinds pairs each table with where its objects come from.
func (a *API) kinds() map[keeper]source {
	const notOthers = "!" + labelProxyName + ",!" + labelHeadless
	return map[keeper]source{
		a.nodes:           {client: a.clients.core, resource: "nodes", object: &corev1.Node{}},
		a.namespaces:      {client: a.clients.core, resource: "namespaces", object: &corev1.Namespace{}},
		a.pods:            {client: a.clients.core, resource: "pods", object: &corev1.Pod{}},
		a.networkPolicies: {client: a.clients.networking, resource: "networkpolicies", object: &networkingv1.NetworkPolicy{}},
		a.clusterPolicies: {client: a.clients.policy, resource: "clusternetworkpolicies", object: &policyv1alpha2.ClusterNetworkPolicy{}, optional: true},
		a.services:        {client: a.clients.core, resource: "services", object: &corev1.Service{}, labels: notOthers},
		a.endpointSlices:  {client: a.clients.discovery, resource: "endpointslices", object: &discoveryv1.EndpointSlice{}, labels: notOthers},
	}
}

// Run follows the server until ctx ends. A server that is away is waited for.
func (a *API) Run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	backoff := wait.Backoff{Duration: min(retryFirst, a.retry), Factor: 2, Jitter: 0.5, Steps: 16, Cap: a.retry}
	watching := quiet(ctx, a.log)
	for table, source := range a.kinds() {
		report := func(err error) { a.reporter.report(table.kindName(), err) }
		group.Go(func() {
			follow(watching, source, table, cache.ReflectorOptions{Name: source.resource, Backoff: &backoff}, report)
		})
	}
	group.Go(func() { a.recorder.run(watching) })
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.dirty:
		}
		if !a.settle(ctx) {
			return nil
		}
		a.publish()
	}
}

// settle waits until the changes pause, and says whether ctx is still on.
func (a *API) settle(ctx context.Context) bool {
	var copying time.Duration
	for table := range a.kinds() {
		copying = max(copying, table.copyTime())
	}
	most := time.NewTimer(settleMost + 2*copyShare*copying)
	defer most.Stop()
	for {
		pause := time.NewTimer(settleTime + copyShare*copying)
		select {
		case <-ctx.Done():
			pause.Stop()
			return false
		case <-most.C:
			pause.Stop()
			return true
		case <-pause.C:
			return true
		case <-a.dirty:
			pause.Stop()
		}
	}
}

// publish makes what the tables have another Snapshot, once they all have something.
func (a *API) publish() {
	for table := range a.kinds() {
		if synced, _, _ := table.state(); !synced {
			return
		}
	}
	var s cluster.Snapshot
	var c cluster.Changes
	a.nodes.take(&s.Nodes, &c.Nodes)
	a.namespaces.take(&s.Namespaces, &c.Namespaces)
	a.pods.take(&s.Pods, &c.Pods)
	a.networkPolicies.take(&s.NetworkPolicies, &c.NetworkPolicies)
	a.clusterPolicies.take(&s.ClusterPolicies, &c.ClusterPolicies)
	a.services.take(&s.Services, &c.Services)
	a.endpointSlices.take(&s.EndpointSlices, &c.EndpointSlices)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.snapshot = s
	a.changes.Union(c)
	close(a.next)
	a.next = make(chan struct{})
	select {
	case <-a.synced:
	default:
		close(a.synced)
	}
	notify(a.changed)
}

func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// WaitSynced returns nil once there is a Snapshot of everything the server has.
func (a *API) WaitSynced(ctx context.Context) error {
	select {
	case <-a.synced:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the API server's objects: %w", context.Cause(ctx))
	}
}

// Snapshot returns the latest facts: none at all before WaitSynced, and those last heard
// of while the server is away.
func (a *API) Snapshot() cluster.Snapshot {
	s, _ := a.latest()
	return s
}

func (a *API) latest() (cluster.Snapshot, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.snapshot, a.next
}

// Changed receives a value after the facts changed; several changes may be one value.
func (a *API) Changed() <-chan struct{} { return a.changed }

// Take returns the latest facts and the objects in which they differ from what Take
// returned before, at first from nothing. It is for one caller.
func (a *API) Take() (cluster.Snapshot, cluster.Changes) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.changes
	a.changes = cluster.Changes{}
	return a.snapshot, c
}

// podPatience is how long a pod may take from its node's kubelet to here.
const podPatience = 10 * time.Second

// Pod returns the facts of a pod that exists by the word of its node's kubelet, who hears
// of it no earlier. It waits for them, some seconds; uid may be empty.
func (a *API) Pod(ctx context.Context, key cluster.PodKey, uid string) (cluster.Pod, bool, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, podPatience, fmt.Errorf("it is not among the API server's pods after %v", podPatience))
	defer cancel()
	for {
		s, next := a.latest()
		if p, ok := s.Pods[key]; ok && (uid == "" || p.UID == uid) {
			return p, true, nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return cluster.Pod{}, false, fmt.Errorf("find pod %s with uid %q: %w", key, uid, context.Cause(ctx))
		}
	}
}

// Secret reads a Secret from the server; nobody holds it here. The error of a server that
// does not allow it says how to.
func (a *API) Secret(ctx context.Context, key cluster.SecretKey) (cluster.Secret, bool, error) {
	var o corev1.Secret
	err := a.clients.core.Get().Namespace(key.Namespace).Resource("secrets").Name(key.Name).Do(ctx).Into(&o)
	switch {
	case apierrors.IsNotFound(err):
		return cluster.Secret{}, false, nil
	case apierrors.IsForbidden(err):
		return cluster.Secret{}, false, fmt.Errorf("the agent may not read Secret %s: bind its service account to a Role in %s that allows get on it, as deploy/base/rbac.yaml shows: %w", key, key.Namespace, err)
	case err != nil:
		return cluster.Secret{}, false, fmt.Errorf("read Secret %s: %w", key, err)
	}
	s, err := Secret(&o)
	return s, err == nil, err
}

// keeper is a table, whatever it holds.
type keeper interface {
	follower
	kindName() string
	state() (synced bool, contact time.Time, unusable int)
	copyTime() time.Duration
}
