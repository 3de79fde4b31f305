package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/agent/watch"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/internal/kubetest"
	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/internal/netnstest"
)

// shop is a cluster of one node, with a client and a server in two namespaces.
const shop = `
apiVersion: v1
kind: Node
metadata: {name: "n"}
spec: {podCIDRs: [10.1.0.0/24, "fd01::/64"]}
---
apiVersion: v1
kind: Namespace
metadata: {name: front}
---
apiVersion: v1
kind: Namespace
metadata: {name: back}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: back, labels: {app: server}}
spec: {nodeName: "n", containers: [{name: c, image: none, ports: [{name: web, containerPort: 8080}]}]}
status: {phase: Running, podIP: 10.1.0.3, podIPs: [{ip: 10.1.0.3}, {ip: "fd01::3"}]}
`

const (
	clientPod = `
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: front, labels: {app: client}}
spec: {nodeName: "n", containers: [{name: c, image: none}]}
status: {phase: Running, podIP: 10.1.0.2, podIPs: [{ip: 10.1.0.2}, {ip: "fd01::2"}]}
`
	closed = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server, namespace: back}
spec: {podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress]`
	toClients = closed + `, ingress: [{from: [{namespaceSelector: {matchLabels: {team: a}}, podSelector: {matchLabels: {app: client}}}], ports: [{port: web}]}]`
	adminDeny = `
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: quarantine}
spec: {tier: Admin, priority: 1, subject: {namespaces: {matchLabels: {kubernetes.io/metadata.name: back}}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}
`
	teamA    = "apiVersion: v1\nkind: Namespace\nmetadata: {name: front, labels: {team: a}}"
	teamNone = "apiVersion: v1\nkind: Namespace\nmetadata: {name: front, labels: {team: none}}"
)

// TestIntegrationKubernetes: what happens to policies, pods and namespaces at a real API
// server happens to packets, on each machine, also while and after the server was away.
func TestIntegrationKubernetes(t *testing.T) {
	for _, m := range machinetest.All(t) {
		t.Run(m.Name, func(t *testing.T) {
			api := kubetest.Start(t)
			api.InstallPolicyAPI()
			api.ApplyFile("../deploy/base/rbac.yaml")
			api.Apply(shop + "---" + clientPod)
			m.Start(t)
			d := newDoors()
			l := startIn(t, m.Socket, watchAPI(t, api), d)
			client, server := netnstest.New(t), netnstest.New(t)
			a, b := pod(client, 2), pod(server, 3)
			a.Pod, b.Pod = cluster.PodKey{Namespace: "front", Name: "client"}, cluster.PodKey{Namespace: "back", Name: "server"}
			d.change(a, true)
			l.mustApply(t, d.change(b, true))
			serve(t, server, 8080)
			flow := flow{t, client, b.Addresses, 8080}
			flow.becomes(true, "there is no policy")

			for _, step := range []struct {
				text   string
				remove bool
				open   bool
			}{
				{text: closed + "}", open: false},
				{text: toClients + "}", open: false}, // its namespace is not of the team
				{text: teamA, open: true},
				{text: strings.Replace(clientPod, "labels: {app: client}", "labels: {app: other}", 1), open: false},
				{text: clientPod, open: true},
				{text: adminDeny, open: false},
				{text: adminDeny, remove: true, open: true},
				{text: teamNone, open: false},
				{text: closed + "}", remove: true, open: true},
				{text: closed + "}", open: false},
			} {
				if step.remove {
					api.Delete(step.text)
				} else {
					api.Apply(step.text)
				}
				flow.becomes(step.open, fmt.Sprintf("removed %t:%s", step.remove, step.text))
			}

			// Without a server all stays as it was.
			api.Kill()
			flow.stays(false, "the API server is dead")
			api.Compact()
			api.Restart()
			api.Apply(teamA)
			flow.stays(false, "the API server is back")
			api.Apply(toClients + "}")
			flow.becomes(true, "changed after the API server is back")
			api.Delete(closed + "}")
			api.Apply(adminDeny)
			flow.becomes(false, "made after the API server is back")
		})
	}
}

// watchAPI follows an API server, with the rights of deploy/base/rbac.yaml, until the test ends.
func watchAPI(t *testing.T, c *kubetest.Cluster) *watch.API {
	t.Helper()
	api, err := watch.NewAPI(watch.APIConfig{
		Kubeconfig: c.Kubeconfig("millrace", "millrace-agent", 0), Node: "n", RetryMost: time.Second,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- api.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return api
}

// serve accepts connections on a port of a namespace until the test ends.
func serve(t *testing.T, in *netnstest.Namespace, port int) {
	t.Helper()
	var l net.Listener
	in.Run(t, func() (err error) {
		l, err = net.Listen("tcp", fmt.Sprintf("[::]:%d", port))
		return err
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
}

// flow is new connections from a namespace to a port of some addresses.
type flow struct {
	t    *testing.T
	from *netnstest.Namespace
	to   []netip.Addr
	port uint16
}

// open says to which addresses a connection can be made.
func (f flow) open(patience time.Duration) (open []bool) {
	f.t.Helper()
	for _, to := range f.to {
		f.from.Run(f.t, func() error {
			conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(to, f.port).String(), patience)
			if err == nil {
				conn.Close()
			}
			open = append(open, err == nil)
			return nil
		})
	}
	return open
}

// becomes waits, for at most a minute, until all addresses are open, or none.
func (f flow) becomes(open bool, why string) {
	f.t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		got := f.open(200 * time.Millisecond)
		if got[0] == open && got[1] == open {
			return
		}
		if time.Now().After(end) {
			f.t.Fatalf("open is %v, want %t: %s", got, open, why)
		}
	}
}

// stays looks a few times whether all addresses are open, or none.
func (f flow) stays(open bool, why string) {
	f.t.Helper()
	patience := 100 * time.Millisecond
	if open {
		patience = 10 * time.Second
	}
	for range 5 {
		if got := f.open(patience); got[0] != open || got[1] != open {
			f.t.Fatalf("open is %v, want %t: %s", got, open, why)
		}
	}
}
