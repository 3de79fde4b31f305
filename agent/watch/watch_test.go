package watch

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/cluster"
)

const nodes = `# two documents and a comment
---
apiVersion: v1
kind: Node
metadata: {name: worker-1, labels: {zone: a}}
spec: {podCIDRs: [10.1.0.0/24, "fd01::/64"]}
status:
  addresses:
  - {type: Hostname, address: worker-1}
  - {type: InternalIP, address: 10.0.0.1}
  - {type: InternalIP, address: "fd00::1"}
---
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {team: x}}
`

const pods = `apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata:
    name: web
    uid: 1f
    labels: {app: web}
    annotations: {millrace.io/memif: "[]", other: x, kubernetes.io/egress-bandwidth: 10M}
  spec:
    nodeName: worker-1
    containers:
    - name: c
      ports: [{name: http, containerPort: 80}, {containerPort: 81}]
  status: {phase: Running, podIPs: [{ip: 10.1.0.5}]}
`

const snapshot = `revision 0
node worker-1 address=10.0.0.1 address=fd00::1 podcidr=10.1.0.0/24 podcidr=fd01::/64 label=zone=a
namespace default label=team=x
pod default/web uid=1f node=worker-1 phase=Running address=10.1.0.5 port=http:80/TCP label=app=web annotation=kubernetes.io/egress-bandwidth=10M annotation=millrace.io/memif=[]
`

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "nodes.yaml", nodes)
	write(t, dir, "pods.yml", pods)
	write(t, dir, "notes.txt", "kind: Nonsense")
	write(t, dir, ".hidden.yaml", "kind: Nonsense")
	write(t, dir, "empty.yaml", "---\n# nothing\n---\n")
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Snapshot().String(); got != snapshot {
		t.Errorf("facts are\n%s\nwant\n%s", got, snapshot)
	}
}

func TestOpenErrors(t *testing.T) {
	const node = "apiVersion: v1\nkind: Node\nmetadata: {name: a}\n"
	tests := []struct{ text, want string }{
		{"kind: [", "f.yaml: document 1"},
		{node + "---\n" + node, "f.yaml: document 2: Node a: Node a stands twice, first in"},
		{node + "spec: {podCIDRz: []}", `document 1: Node a: unknown field "spec.podCIDRz"`},
		{node + "spec: {podCIDRs: [10.0.0.0]}", "Node a: spec.podCIDRs[0]"},
		{node + "spec: {podCIDRs: [10.0.0.1/8]}", "want 10.0.0.0/8"},
		{node + "spec: {podCIDRs: 3}", "document 1: Node a: json: cannot unmarshal number"},
		{node + "status: {addresses: [{type: InternalIP, address: x}]}", "status.addresses[0].address"},
		{node + "kind: Node", "already set"},
		{"apiVersion: v1\nkind: Node\n", "Node (no metadata.name): metadata.name is missing"},
		{"apiVersion: v1\nkind: Ingress\nmetadata: {name: s}", `Ingress s: apiVersion "v1" with kind "Ingress" is not known here`},
		{"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelectr: {}}", `NetworkPolicy p: unknown field "spec.podSelectr"`},
		{"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {}", "NetworkPolicy (no metadata.name)"},
		{"apiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\nmetadata: {name: p}", "policy.networking.k8s.io/v1alpha2 with ClusterNetworkPolicy"},
		{"apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {clusterIPs: [10.96.0.300]}", "Service s: spec.clusterIPs[0]"},
		{"apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {clusterIP: 10.96.0.3, ports: [{port: 0}]}", "spec.ports[0].port: 0: want 1 to 65535"},
		{"apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {clusterIP: 10.96.0.3, ports: [{port: 1, nodePort: 65536}]}", "spec.ports[0].nodePort: 65536"},
		{"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: {kubernetes.io/service-name: s}}\naddressType: IPv4\nendpoints: [{addresses: [x]}]", "EndpointSlice s: endpoints[0].addresses[0]"},
		{"apiVersion: v2\nkind: Node\nmetadata: {name: s}", `apiVersion "v2"`},
		{"metadata: {name: s}", "(no kind) s"},
		{"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nstatus: {podIPs: [{ip: x}]}", "Pod p: status.podIPs[0].ip"},
		{"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, ports: [{name: h, containerPort: 70000}]}]}", "ports[0].containerPort: 70000"},
		{"apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Node, metadata: {name: a}}, {kind: X}]", "item 2: X"},
		{"apiVersion: v1\nkind: List\nthings: []", `unknown field "things"`},
		{"just words", "document 1"},
	}
	for _, tt := range tests {
		dir := t.TempDir()
		write(t, dir, "f.yaml", tt.text)
		_, err := Open(dir)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q\ngives %v\nwant  %q", tt.text, err, tt.want)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a missing directory is no error")
	}
}

// tick lets the fake clock pass one look at the directory.
func tick() {
	time.Sleep(interval)
	synctest.Wait()
}

func TestRunFollowsChanges(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "nodes.yaml", nodes)
	synctest.Test(t, func(t *testing.T) {
		d, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var log strings.Builder
		done := make(chan error)
		go func() { done <- d.Run(ctx, slog.New(slog.NewTextHandler(&log, nil))) }()
		write(t, dir, "pods.yaml", pods)
		<-d.Changed()
		if got := d.Snapshot().String(); got != snapshot {
			t.Errorf("facts are\n%s\nwant\n%s", got, snapshot)
		}
		// A broken file changes nothing, and is reported once.
		write(t, dir, "pods.yaml", "kind: Broken")
		tick()
		tick()
		if got := d.Snapshot().String(); got != snapshot {
			t.Errorf("a broken file changed the facts to\n%s", got)
		}
		if n := strings.Count(log.String(), "Broken"); n == 0 || strings.Count(log.String(), "level=ERROR") != 1 {
			t.Errorf("want one report of the broken file, got\n%s", &log)
		}
		if err := os.Remove(filepath.Join(dir, "pods.yaml")); err != nil {
			t.Fatal(err)
		}
		<-d.Changed()
		if n := len(d.Snapshot().Pods); n != 0 {
			t.Errorf("%d pods after their file went", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(nodes))
	f.Add([]byte(pods))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := newFacts()
		if err := s.decode("f", data); err == nil {
			_ = s.snapshot.String()
		}
	})
}

// TestSecrets: what a Secret holds is in the facts, and in nothing that is printed.
func TestSecrets(t *testing.T) {
	const text = `apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: web}
type: Opaque
data: {psk: b3BlbiBzZXNhbWU=, old: eA==}
stringData: {old: tell-nobody}
---
apiVersion: v1
kind: Secret
metadata: {name: bare}
`
	dir := t.TempDir()
	write(t, dir, "secrets.yaml", text)
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := d.Snapshot()
	if want := "revision 0\nsecret default/bare\nsecret web/keys key=old key=psk\n"; s.String() != want {
		t.Errorf("facts are\n%s\nwant\n%s", s, want)
	}
	keys := s.Secrets[cluster.SecretKey{Namespace: "web", Name: "keys"}]
	for key, want := range map[string]string{"psk": "open sesame", "old": "tell-nobody"} {
		if got, _, ok := keys.Data[key].Reveal(); got != want || !ok {
			t.Errorf("key %s holds %q, want %q", key, got, want)
		}
	}
	if printed := fmt.Sprintf("%v %+v %#v", s, keys, s); strings.Contains(printed, "sesame") || strings.Contains(printed, "nobody") {
		t.Errorf("a secret stands in\n%s", printed)
	}
	for _, bad := range []string{"data: {psk: '?sesame?'}", "data: {psk: [sesame]}", "stringData: {psk: 4711}", "data: {psk: sesame"} {
		write(t, dir, "secrets.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\n"+bad)
		_, err := Open(dir)
		if err == nil || strings.Contains(err.Error(), "sesame") || strings.Contains(err.Error(), "4711") {
			t.Errorf("%s: error %v", bad, err)
		}
	}
}

// TestTake names what changed since the last time, whatever changed in between.
func TestTake(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "nodes.yaml", nodes)
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, c := d.Take(); len(c.Nodes) != 1 || len(c.Namespaces) != 1 || len(c.Pods) != 0 {
		t.Errorf("at first %+v changed", c)
	}
	write(t, dir, "pods.yaml", pods)
	if err := d.poll(); err != nil {
		t.Fatal(err)
	}
	if s, c := d.Take(); len(c.Pods) != 1 || len(c.Nodes) != 0 || len(s.Pods) != 1 {
		t.Errorf("then %+v changed", c)
	}
	if _, c := d.Take(); !c.Empty() {
		t.Errorf("then, without a change, %+v", c)
	}
}
