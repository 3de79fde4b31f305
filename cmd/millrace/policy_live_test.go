package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/agent/compile"
	"github.com/millrace/millrace/agent/explain"
	"github.com/millrace/millrace/agent/program"
	"github.com/millrace/millrace/agent/watch"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// live is an engine that has what an agent would want of it, save that loopbacks stand in
// the place of pods' devices, and what the agent answers.
type live struct {
	flags []string
	conn  *vpp.Conn
	want  dataplane.State
}

func newLive(t *testing.T) live {
	t.Helper()
	dir := t.TempDir()
	api, stats, socket := filepath.Join(dir, "api.sock"), filepath.Join(dir, "stats.sock"), filepath.Join(dir, "agent.sock")
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- runEngine(ctx, []string{"--api-socket", api, "--stats-socket", stats}) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	l := live{flags: []string{"--config", writeConfig(t, ""), "--api-socket", api, "--stats-socket", stats, "--agent-socket", socket}}
	s, _, err := watch.Manifests(shop)
	if err != nil {
		t.Fatal(err)
	}
	db := cluster.PodKey{Namespace: "shop", Name: "db"}
	s = s.WithAttachments(3, []cluster.Attachment{{
		ID: cluster.AttachmentID{ContainerID: "c1", IfName: "eth0"}, Netns: "/run/netns/db", Pod: db, Addresses: s.Pods[db].Addresses, Revision: 3,
	}})
	r, err := compile.Compile(s, "n1", compile.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	l.want = r.State
	l.serve(t, socket, map[string]string{"/node": "n1\n", "/facts": s.String(), "/want": r.State.String(), "/have": r.State.String(), "/problems": "NetworkPolicy shop/huge: PolicyTooLarge: it is huge\n"})
	l.conn = l.dial(t, api)
	l.program(t)
	return l
}

func (l live) serve(t *testing.T, socket string, answers map[string]string) {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, answers[r.URL.Path]) })}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

func (l live) dial(t *testing.T, api string) *vpp.Conn {
	t.Helper()
	for conn, err := range vpp.Connections(t.Context(), vpp.Config{Socket: api}) {
		if err != nil {
			continue
		}
		conn, err = vpp.Dial(t.Context(), vpp.Config{Socket: api})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		return conn
	}
	t.Fatal("no engine")
	return nil
}

// program makes the engine have the wish.
func (l live) program(t *testing.T) {
	t.Helper()
	p, err := program.New(t.Context(), l.conn, program.Agent("n1"))
	if err != nil {
		t.Fatal(err)
	}
	have, err := p.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var want dataplane.State
	for o := range l.want.All() {
		if i, ok := o.(dataplane.Interface); ok {
			o = dataplane.Interface{Name: i.Name, Device: dataplane.Loopback{}, MTU: i.MTU}
		}
		if o.Key().Kind != dataplane.KindNeighbor {
			want.Put(o)
		}
	}
	p.Apply(t.Context(), dataplane.Diff(have, want), nil, func(step dataplane.Step, err error) {
		if err != nil {
			t.Error(err)
		}
	})
}

func (l live) explain(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out, notes strings.Builder
	err := policyExplain(t.Context(), append(append([]string{}, l.flags...), args...), &out, &notes)
	return out.String(), err
}

// TestPolicyExplain: three readings of a live node, and what happens when one of them is
// changed behind the agent's back.
func TestPolicyExplain(t *testing.T) {
	l := newLive(t)
	out, err := l.explain(t, "--from", "shop/web", "--to", "shop/db", "--port", "5432/tcp")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"10.1.1.2 to 10.1.0.1 port 5432/TCP: ALLOWED\n", "fd00:0:0:1::2 to fd00::1 port 5432/TCP: ALLOWED\n",
		"    policies   allow  NetworkPolicy shop/db ingress[0]: the rule matches (tier NetworkPolicy)\n",
		"    dataplane  allow  acl policy/shop/db/ingress/0", "permit+reflect,10.1.1.2/32,0.0.0.0/0,proto=6,dport=5432, matched 0 packets\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	if out, err = l.explain(t, "--from", "shop/job", "--to", "shop/db", "--port", "5432/tcp"); err != nil || !strings.Contains(out, "dataplane  deny   the end of the lists of pod/shop/db/") {
		t.Errorf("%v\n%s", err, out)
	}
	// Somebody empties the lists of the pod's ACLs.
	for o := range l.want.All() {
		if b, ok := o.(dataplane.ACLBinding); ok {
			l.want.Put(dataplane.ACLBinding{Interface: b.Interface, Input: b.Input, Output: []string{"open"}})
		}
	}
	open, err := dataplane.ParseState("acl open rule=permit,0.0.0.0/0,0.0.0.0/0 rule=permit,::/0,::/0")
	if err != nil {
		t.Fatal(err)
	}
	for o := range open.All() {
		l.want.Put(o)
	}
	l.program(t)
	out, err = l.explain(t, "--from", "shop/job", "--to", "shop/db", "--port", "5432/tcp", "--output", "json")
	if !errors.Is(err, errDisagree) {
		t.Errorf("error %v, want %v", err, errDisagree)
	}
	var list []explain.Explanation
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	if d := list[0].Disagreements; len(d) != 1 || d[0] != "ingress: the compiled ACLs deny it, those in the dataplane allow it" {
		t.Errorf("disagreements %q", d)
	}
	if len(list[0].FailClosed) != 1 {
		t.Errorf("policies that fail closed: %q", list[0].FailClosed)
	}
	if out, err := l.explain(t, "--from", "shop/job", "--to", "shop/db", "--port", "5432"); !strings.Contains(out, "  fails closed: NetworkPolicy shop/huge: PolicyTooLarge: it is huge\n") {
		t.Errorf("%v\n%s", err, out)
	}
	if code := dispatch(t.Context(), append(append([]string{"policy", "explain"}, l.flags...), "--from", "shop/job", "--to", "shop/db", "--port", "5432"), &strings.Builder{}); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
}

// TestShow prints what an agent answers and what an engine has.
func TestShow(t *testing.T) {
	l := newLive(t)
	for _, tt := range []struct {
		what []string
		want string
	}{
		{[]string{"facts"}, "pod shop/db node=n1"},
		{[]string{"state"}, "acl-binding pod/shop/db/eth0/"},
		{[]string{"state", "--want"}, "acl-binding pod/shop/db/eth0/"},
		{[]string{"plan"}, ""},
		{[]string{"problems"}, "NetworkPolicy shop/huge: PolicyTooLarge"},
		{[]string{"acl"}, "permit+reflect,10.1.1.2/32,0.0.0.0/0,proto=6,dport=5432"},
	} {
		var out strings.Builder
		if err := show(t.Context(), append(append([]string{}, tt.what...), l.flags...), &out); err != nil || !strings.Contains(out.String(), tt.want) {
			t.Errorf("show %v: %v, and it does not say %q:\n%s", tt.what, err, tt.want, &out)
		}
	}
	if err := show(t.Context(), append([]string{"coffee"}, l.flags...), &strings.Builder{}); err == nil || !strings.Contains(err.Error(), "want facts") {
		t.Errorf("show coffee: %v", err)
	}
}
