package agent

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"go.fd.io/govpp/binapi/acl"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/millrace/millrace/agent/program"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/flowtest"
	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/vpp"
)

// objects is a cluster of one node whose policies change.
type objects struct {
	mu           sync.Mutex
	facts, taken cluster.Snapshot
	changed      chan struct{}
}

func (o *objects) Take() (cluster.Snapshot, cluster.Changes) {
	o.mu.Lock()
	defer o.mu.Unlock()
	changes := cluster.Compare(o.taken, o.facts)
	o.taken = o.facts
	return o.facts, changes
}

func (o *objects) now() cluster.Snapshot {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.facts
}

func (o *objects) Changed() <-chan struct{}         { return o.changed }
func (o *objects) WaitSynced(context.Context) error { return nil }

// policies sets those of the namespace default: of each, the ports that it lets into the
// pods labelled app=server.
func (o *objects) policies(list map[string][]int) {
	o.mu.Lock()
	facts := o.facts
	facts.NetworkPolicies = map[cluster.PolicyKey]cluster.NetworkPolicy{}
	for name, ports := range list {
		p := cluster.NetworkPolicy{Key: cluster.PolicyKey{Namespace: "default", Name: name}}
		p.Spec.PodSelector = metav1.LabelSelector{MatchLabels: map[string]string{"app": "server"}}
		p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		var rule networkingv1.NetworkPolicyIngressRule
		for _, port := range ports {
			number, protocol := intstr.FromInt(port), corev1.ProtocolUDP
			rule.Ports = append(rule.Ports, networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: &number})
		}
		if len(ports) > 0 {
			p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{rule}
		}
		facts.NetworkPolicies[p.Key] = p
	}
	o.facts = facts
	o.mu.Unlock()
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

// guarded is a cluster with a client and a server.
func guarded() *objects {
	o := &objects{facts: ranges().Snapshot(), changed: make(chan struct{}, 1)}
	o.facts.Namespaces = map[string]cluster.Namespace{"default": {Name: "default"}}
	o.facts.Pods = map[cluster.PodKey]cluster.Pod{}
	for i, name := range []string{"client", "server"} {
		key := cluster.PodKey{Namespace: "default", Name: name}
		o.facts.Pods[key] = cluster.Pod{Key: key, Node: "n", Labels: map[string]string{"app": name}, Addresses: podOf(byte(2 + i))}
	}
	return o
}

func podOf(host byte) []netip.Addr { return pod(&netnstest.Namespace{}, host).Addresses }

// have waits until the machine does what the facts of now say.
func (l life) have(t *testing.T, o *objects) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		v, err := l.View(t.Context())
		if err == nil && v.Have.Equal(v.Want) && cluster.Compare(v.Facts, o.now()).Empty() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the agent has not come there: %v\n%s", err, cmp.Diff(strings.Split(v.Want.String(), "\n"), strings.Split(v.Have.String(), "\n")))
		}
	}
}

// early gives a namespace its pod's address ahead of the pod's interface, so that a flow
// can wait for packets from the first moment on.
func early(t *testing.T, n *netnstest.Namespace, a netip.Addr) {
	t.Helper()
	n.Netlink(t, func(h *netlink.Handle) error {
		lo, err := h.LinkByName("lo")
		if err != nil {
			return err
		}
		address, err := netlink.ParseAddr(a.String() + "/32")
		if err != nil {
			return err
		}
		return h.AddrAdd(lo, address)
	})
}

const openPort, shutPort = 8000, 9000

// TestIntegrationGuardedFromTheStart: no packet passes that the policies forbid, from the
// first moment of a pod on, whenever the agent loses its connection, and when the machine
// dies; and each time the agent comes to the state that it would have made at once.
func TestIntegrationGuardedFromTheStart(t *testing.T) {
	for _, m := range machinetest.All(t) {
		t.Run(m.Name, func(t *testing.T) {
			stop := m.Start(t)
			m.Connect(t)
			tap, facts, d := m.Tap(t), guarded(), newDoors()
			facts.policies(map[string][]int{"first": {openPort}})
			client, server := netnstest.New(t), netnstest.New(t)
			a, b := pod(client, 2), pod(server, 3)
			a.Pod, b.Pod = cluster.PodKey{Namespace: "default", Name: "client"}, cluster.PodKey{Namespace: "default", Name: "server"}
			l := startIn(t, tap.Socket, facts, d)
			l.mustApply(t, d.change(a, true))
			early(t, server, b.Addresses[0])
			from := flowtest.End{Namespace: client, Addr: a.Addresses[0], Port: 40000}
			allowed := flowtest.Start(t, flowtest.UDP, from, flowtest.End{Namespace: server, Addr: b.Addresses[0], Port: openPort})
			from.Port++
			forbidden := flowtest.Start(t, flowtest.UDP, from, flowtest.End{Namespace: server, Addr: b.Addresses[0], Port: shutPort})

			// The server's interface comes, and its making is cut short at every request.
			cuts := cutShort(t, tap, func(n int) bool {
				l.mustApply(t, d.change(b, true))
				l.mustApply(t, d.change(b, false))
				return n < 30
			})
			l.mustApply(t, d.change(b, true))
			comes(t, allowed)
			t.Logf("a pod's coming and going was cut short %d times", cuts)

			// So are changes of its policies, small ones and such that are swapped.
			versions := []map[string][]int{
				{"first": {openPort}, "second": {7000}},
				{"first": {7000}, "second": {openPort, 7001}},
				{"third": {openPort}},
				{"first": {openPort, 7002}},
			}
			cuts = cutShort(t, tap, func(n int) bool {
				for _, version := range versions {
					tap.CutAfter(n)
					facts.policies(version)
					l.have(t, facts)
				}
				return n < 6
			})
			t.Logf("changes of policies were cut short %d times", cuts)
			l.mustApply(t, d.change(b, true))
			before := allowed.Next()
			comes(t, allowed)
			if m.Name != "vpp" { // whose veths may drop some
				arrive(t, allowed, before, allowed.Next())
			}

			// The machine dies, and with it all that guards.
			stop()
			m.Start(t) // ends with the test
			m.Connect(t)
			l.mustApply(t, d.change(b, true))
			l.have(t, facts)
			comes(t, allowed)
			if got := forbidden.Arrived(0, forbidden.Next()); len(got) > 0 {
				t.Errorf("%d numbers arrived that no policy ever permitted, from %d on", len(got), got[0])
			}
			if rules, bindings := l.gauge(t, "millrace_acl_rules"), l.gauge(t, "millrace_acl_bindings"); rules < 4 || bindings != 2 {
				t.Errorf("metrics tell of %v rules and %v bindings", rules, bindings)
			}
			onlyGuardedUp(t, tap, m)
			noTwins(t, m)
		})
	}
}

// TestIntegrationWithoutACLs: on a machine that has none no pod is connected, and who asks
// is told why.
func TestIntegrationWithoutACLs(t *testing.T) {
	for _, m := range machinetest.All(t) {
		t.Run(m.Name, func(t *testing.T) {
			m.Start(t)
			m.Connect(t)
			tap, d, ns := m.Tap(t), newDoors(), netnstest.New(t)
			tap.Hide("acl_add_replace_")
			l := start(t, tap.Socket, d)
			if err := l.applied(t, d.change(pod(ns, 2), true)); !errors.Is(err, program.ErrUnguarded) {
				t.Errorf("an attachment without ACLs: %v", err)
			}
			if err := l.Ready(); !errors.Is(err, program.ErrUnguarded) {
				t.Errorf("ready: %v", err)
			}
			for o := range observed(t, m).All() {
				if u, ok := o.(dataplane.Up); ok && strings.HasPrefix(u.Interface, "pod/") {
					t.Errorf("%s is up", u.Interface)
				}
			}
		})
	}
}

func observed(t *testing.T, m machinetest.Machine) dataplane.State {
	t.Helper()
	p, err := program.New(t.Context(), m.Connect(t), program.Agent("n"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// gauge is the value of a metric without labels.
func (l life) gauge(t *testing.T, name string) float64 {
	t.Helper()
	for _, m := range l.family(t, name) {
		return m.GetGauge().GetValue()
	}
	t.Errorf("no metric is called %s", name)
	return 0
}

// cutShort lets change happen with connections that end after 1, 3, 5 … requests, until it
// says that this is enough, and returns how often one ended so.
func cutShort(t *testing.T, tap *machinetest.Wiretap, change func(n int) (more bool)) int {
	t.Helper()
	before := tap.Cuts()
	for n := 1; ; n += 2 {
		tap.CutAfter(n)
		more := change(n)
		if tap.CutAfter(0); !more {
			return tap.Cuts() - before
		}
	}
}

// comes waits until something of a flow arrives that is sent from now on.
func comes(t *testing.T, f *flowtest.Flow) {
	t.Helper()
	first := f.Next()
	for end := time.Now().Add(30 * time.Second); len(f.Arrived(first, f.Next())) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: nothing arrives", f.Name)
		}
	}
}

// arrive waits until all of [first, end) have arrived.
func arrive(t *testing.T, f *flowtest.Flow, first, end uint64) {
	t.Helper()
	for last := time.Now().Add(30 * time.Second); len(f.Missing(first, end)) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(last) {
			t.Fatalf("%s: %v did not arrive", f.Name, f.Missing(first, end))
		}
	}
}

// onlyGuardedUp goes through all requests: no interface of a pod was opened before it had
// both lists, or lost one while it was open.
func onlyGuardedUp(t *testing.T, tap *machinetest.Wiretap, m machinetest.Machine) {
	t.Helper()
	node := map[interface_types.InterfaceIndex]bool{}
	for d, err := range vpp.Dump[interfaces.SwInterfaceDetails](t.Context(), m.Connect(t), &interfaces.SwInterfaceDump{SwIfIndex: ^interface_types.InterfaceIndex(0)}) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(d.Tag, "millrace/node/") || strings.HasPrefix(d.Tag, "millrace/host/") {
			node[d.SwIfIndex] = true
		}
	}
	type state struct{ guarded, up bool }
	states := map[interface_types.InterfaceIndex]*state{}
	opened, lists := 0, 0
	for i, request := range tap.Requests() {
		switch r := request.(type) {
		case *acl.ACLInterfaceSetACLList:
			lists++
			s := states[r.SwIfIndex]
			if s == nil {
				s = &state{}
				states[r.SwIfIndex] = s
			}
			s.guarded = r.NInput > 0 && int(r.NInput) < len(r.Acls)
			if s.up && !s.guarded {
				t.Errorf("request %d leaves interface %d unguarded while it is up", i, r.SwIfIndex)
			}
		case *interfaces.SwInterfaceSetFlags:
			if node[r.SwIfIndex] {
				continue
			}
			s, up := states[r.SwIfIndex], r.Flags&interface_types.IF_STATUS_API_FLAG_ADMIN_UP != 0
			if up {
				opened++
			}
			if up && (s == nil || !s.guarded) {
				t.Errorf("request %d opens interface %d before it is guarded", i, r.SwIfIndex)
			}
			if s != nil {
				s.up = up
			}
		}
	}
	if opened == 0 || lists == 0 {
		t.Errorf("%d interfaces were opened and %d lists set: the tap is broken", opened, lists)
	}
}

// noTwins checks that no two ACLs have one tag.
func noTwins(t *testing.T, m machinetest.Machine) {
	t.Helper()
	var tags []string
	for d, err := range vpp.Dump[acl.ACLDetails](t.Context(), m.Connect(t), &acl.ACLDump{ACLIndex: ^uint32(0)}) {
		if err != nil {
			t.Fatal(err)
		}
		tags = append(tags, d.Tag)
	}
	slices.Sort(tags)
	if len(slices.Compact(slices.Clone(tags))) != len(tags) {
		t.Errorf("two ACLs of one tag: %q", tags)
	}
}
