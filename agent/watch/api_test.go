package watch

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/internal/kubetest"
)

// watchAPI runs an API with the rights of deploy/base/rbac.yaml until the test ends.
func watchAPI(t *testing.T, kubeconfig string) *API {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	a, err := NewAPI(APIConfig{Kubeconfig: kubeconfig, UserAgent: "test", Log: log, RetryMost: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	runAPI(t, a)
	return a
}

// runAPI runs it until the test ends.
func runAPI(t testing.TB, a *API) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// await waits, for at most a minute, until the facts hold all of some lines and none of
// others, which begin with "!".
func await(t *testing.T, a *API, lines ...string) {
	t.Helper()
	end := time.NewTimer(time.Minute)
	defer end.Stop()
	for {
		s, next := a.latest()
		text := s.String()
		missing := ""
		for _, line := range lines {
			line, not := strings.CutPrefix(line, "!")
			if strings.Contains(text, "\n"+line) == not {
				missing = line
			}
		}
		if missing == "" {
			return
		}
		select {
		case <-next:
		case <-end.C:
			t.Fatalf("%q is not, or still, in the facts:\n%s", missing, text)
		}
	}
}

const shop = `
apiVersion: v1
kind: Node
metadata: {name: worker-1, labels: {zone: a}}
spec: {podCIDRs: [10.1.0.0/24]}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: x}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}, annotations: {millrace.io/memif: "[]", other: x}}
spec: {nodeName: worker-1, containers: [{name: c, image: none, ports: [{name: http, containerPort: 80}]}]}
status: {phase: Running, podIP: 10.1.0.5, podIPs: [{ip: 10.1.0.5}, {ip: "fd01::5"}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: shop}
spec: {podSelector: {}, egress: [{ports: [{port: 53}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.10, selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: shop}
spec: {clusterIP: None, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 80, protocol: TCP}]
endpoints: [{addresses: [10.1.0.5], nodeName: worker-1}]
`

const adminPolicy = `
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: deny}
spec: {tier: Admin, priority: 7, subject: {namespaces: {}}, ingress: [{name: all, action: Deny, from: [{namespaces: {}}]}]}
`

// TestIntegrationAPI: objects made, changed and removed at a real API server are so in the
// facts, with the rights of deploy/base/rbac.yaml and no other.
func TestIntegrationAPI(t *testing.T) {
	c := kubetest.Start(t)
	c.ApplyFile("../../deploy/base/rbac.yaml")
	c.Apply(shop)
	a := watchAPI(t, c.Kubeconfig("millrace", "millrace-agent", 0))
	if err := a.WaitSynced(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, a, "node worker-1 address=10.0.0.1 podcidr=10.1.0.0/24 label=", "namespace shop label=kubernetes.io/metadata.name=shop label=team=x",
		"pod shop/web uid=", "networkpolicy shop/deny uid=", "service shop/web uid=", "endpointslice shop/web-1 ",
		"!service shop/headless", "!clusternetworkpolicy")
	before, changes := a.Take()
	if len(changes.Pods) != len(before.Pods) || len(changes.Nodes) != 1 {
		t.Errorf("the first changes are %+v", changes)
	}

	// The CRD comes later.
	c.InstallPolicyAPI()
	c.Apply(adminPolicy)
	await(t, a, "clusternetworkpolicy deny uid=")

	c.Apply(strings.ReplaceAll(shop, "app: web}, ann", "app: other}, ann"))
	await(t, a, "pod shop/web uid="+podUID(a)+" node=worker-1 phase=Running address=10.1.0.5 address=fd01::5 port=http:80/TCP label=app=other annotation=millrace.io/memif=[]")
	c.Delete("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny, namespace: shop}")
	c.Delete(adminPolicy)
	await(t, a, "!networkpolicy", "!clusternetworkpolicy")
	after, changes := a.Take()
	if want := cluster.Compare(before, after); len(changes.Pods) != 1 || len(want.Pods) != 1 || len(changes.NetworkPolicies) != 1 || len(changes.Nodes) != 0 {
		t.Errorf("changes are %+v, compared %+v", changes, want)
	}
	if before.Pods[cluster.PodKey{Namespace: "shop", Name: "web"}].Labels["app"] != "web" {
		t.Error("an old snapshot changed")
	}
}

func podUID(a *API) string {
	return a.Snapshot().Pods[cluster.PodKey{Namespace: "shop", Name: "web"}].UID
}

// always fails the test when a Snapshot comes that lacks a line.
func always(t *testing.T, a *API, line string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for {
			s, next := a.latest()
			if !strings.Contains(s.String(), line) {
				t.Errorf("a snapshot lacks %q:\n%s", line, s)
				return
			}
			select {
			case <-next:
			case <-ctx.Done():
				return
			}
		}
	}()
}

func podNamed(name string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + ", namespace: shop}\nspec: {containers: [{name: c, image: none}]}"
}

// TestIntegrationEvents: an object's author is told once what is wrong, however many nodes
// say it however often, and also of objects of no namespace.
func TestIntegrationEvents(t *testing.T) {
	c := kubetest.Start(t)
	c.ApplyFile("../../deploy/base/rbac.yaml")
	c.Apply(shop)
	kubeconfig := c.Kubeconfig("millrace", "millrace-agent", 0)
	a, b := watchAPI(t, kubeconfig), watchAPI(t, kubeconfig)
	await(t, a, "networkpolicy shop/deny ")
	await(t, b, "networkpolicy shop/deny ")
	policy := a.Snapshot().NetworkPolicies[cluster.PolicyKey{Namespace: "shop", Name: "deny"}]
	admin := cluster.ClusterPolicy{Name: "deny", UID: "1"}
	for range 100 {
		a.Warn(policy.Ref(), "PolicyRejected", "spec.ingress[0]: no")
		b.Warn(policy.Ref(), "PolicyRejected", "spec.ingress[0]: no")
		b.Warn(admin.Ref(), "PolicyRejected", strings.Repeat("x", 5000))
	}
	a.Warn(policy.Ref(), "PolicyBudgetExceeded", "too many")
	var events []string
	for end := time.Now().Add(time.Minute); len(events) < 3 || len(a.recorder.queue)+len(b.recorder.queue) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("events are %v", events)
		}
		events = nil
		for _, e := range c.List("/api/v1/events") {
			if strings.Contains(string(e), `"component":"millrace-agent"`) { // the server writes some itself
				events = append(events, string(e))
			}
		}
	}
	all := strings.Join(events, "\n")
	if len(events) != 3 || strings.Count(all, `"reason":"PolicyRejected"`) != 2 || strings.Count(all, `"uid":"`+policy.UID+`"`) != 2 {
		t.Errorf("events are\n%s", all)
	}
}

// TestIntegrationServerAway: a server that dies, comes back, or comes back without its
// history takes nothing away that is still there and hides nothing that changed.
func TestIntegrationServerAway(t *testing.T) {
	c := kubetest.Start(t)
	c.InstallPolicyAPI()
	c.ApplyFile("../../deploy/base/rbac.yaml")
	c.Apply(shop)
	c.Apply(adminPolicy)
	proxy := c.Proxy()
	a := watchAPI(t, c.Kubeconfig("millrace", "millrace-agent", proxy.Port))
	await(t, a, "pod shop/web ", "clusternetworkpolicy deny ")
	always(t, a, "clusternetworkpolicy deny ")
	always(t, a, "networkpolicy shop/deny ")
	known := a.Snapshot().String()

	c.Kill()
	if got := a.Snapshot().String(); got != known {
		t.Errorf("without a server the facts are\n%s\nand were\n%s", got, known)
	}
	c.Restart()
	c.Apply(podNamed("after-restart"))
	await(t, a, "pod shop/after-restart ", "pod shop/web ")

	// What happens while nobody listens, and is then forgotten by etcd and by the server's
	// own memory of events, can only be seen by listing everything again.
	proxy.Cut()
	c.Apply(podNamed("unheard"))
	c.Delete(podNamed("after-restart"))
	c.Delete("apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}")
	c.Compact()
	c.Kill()
	c.Restart()
	proxy.Mend()
	await(t, a, "pod shop/unheard ", "!pod shop/after-restart ", "!service shop/web ", "pod shop/web ")

	// And it goes on.
	c.Delete(podNamed("unheard"))
	await(t, a, "!pod shop/unheard ")
}

// TestIntegrationForbidden: a right that is missing is named, and nothing is taken for
// synced without it.
func TestIntegrationForbidden(t *testing.T) {
	c := kubetest.Start(t)
	c.ApplyFile("../../deploy/base/rbac.yaml")
	c.Delete("apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: millrace-agent}")
	lines := make(logLines, 100)
	a, err := NewAPI(APIConfig{Kubeconfig: c.Kubeconfig("millrace", "millrace-agent", 0), Log: slog.New(slog.NewTextHandler(lines, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	log := ""
	for range 7 {
		select {
		case line := <-lines:
			log += line
		case <-ctx.Done():
			t.Fatalf("want a line per kind, got\n%s", log)
		}
	}
	cancel()
	if err := a.WaitSynced(ctx); err == nil {
		t.Error("synced without any right")
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, resource := range []string{"nodes", "namespaces", "pods", "networkpolicies.networking.k8s.io", "services", "endpointslices.discovery.k8s.io",
		"clusternetworkpolicies.policy.networking.k8s.io"} {
		if want := `err="` + resource + ` is forbidden`; strings.Count(log, want) != 1 {
			t.Errorf("want one line with %q in\n%s", want, log)
		}
	}
}

// logLines is a log that hands out its lines.
type logLines chan string

func (l logLines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// TestIntegrationDoorsAgree: the same objects are the same facts, whichever door they come
// by.
func TestIntegrationDoorsAgree(t *testing.T) {
	c := kubetest.Start(t)
	c.InstallPolicyAPI()
	c.ApplyFile("../../deploy/base/rbac.yaml")
	c.Apply(shop)
	c.Apply(adminPolicy)
	a := watchAPI(t, c.Kubeconfig("millrace", "millrace-agent", 0))
	await(t, a, "pod shop/web ", "clusternetworkpolicy deny ", "endpointslice shop/web-1 ")
	dir := t.TempDir()
	for path, kind := range map[string]string{
		"/api/v1/nodes": "Node", "/api/v1/namespaces": "Namespace", "/api/v1/pods": "Pod", "/api/v1/services": "Service",
		"/apis/networking.k8s.io/v1/networkpolicies": "NetworkPolicy", "/apis/discovery.k8s.io/v1/endpointslices": "EndpointSlice",
		"/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies": "ClusterNetworkPolicy",
	} {
		version := strings.TrimPrefix(strings.TrimPrefix(path[:strings.LastIndexByte(path, '/')], "/apis/"), "/api/")
		text := ""
		for _, item := range c.List(path) {
			// Items of a list stand without their kind.
			text += `{"apiVersion":"` + version + `","kind":"` + kind + `",` + strings.TrimPrefix(dropHead(t, item), "{") + "\n---\n"
		}
		write(t, dir, kind+".yaml", text)
	}
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	server, files := a.Snapshot(), d.Snapshot()
	if server.String() != files.String() {
		t.Errorf("the API server says\n%s\nthe directory\n%s", server, files)
	}
	if c := cluster.Compare(server, files); !c.Empty() {
		t.Errorf("the doors differ in %+v", c)
	}
}

// dropHead leaves kind and version out of an object.
func dropHead(t *testing.T, item json.RawMessage) string {
	t.Helper()
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(item, &fields); err != nil {
		t.Fatal(err)
	}
	delete(fields, "kind")
	delete(fields, "apiVersion")
	text, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
