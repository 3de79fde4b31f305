package agent

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/agent/program"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/service"
)

// TestTellServices: the author is told each round, the log once, and once more at the end.
func TestTellServices(t *testing.T) {
	var log strings.Builder
	var events heard
	a, err := New(Config{Node: "n", Cluster: ranges(), Attachments: newDoors(), Events: &events, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	web := service.Problem{About: cluster.Service{Key: cluster.ServiceKey{Namespace: "shop", Name: "web"}, UID: "u1"}.Ref(), Reason: service.AffinityTimeout, Err: errors.New("no timeout")}
	pod := service.Problem{About: cluster.Pod{Key: cluster.PodKey{Namespace: "shop", Name: "p"}, UID: "u2"}.Ref(), Reason: service.HostPortTaken, Err: errors.New("taken")}
	a.tellServices([]service.Problem{web})
	a.tellServices([]service.Problem{web, pod})
	a.tellServices(nil)
	if len(events) != 3 || events[0] != "Service shop/web u1 AffinityTimeoutUnsupported no timeout" || events[2] != "Pod shop/p u2 HostPortTaken taken" {
		t.Errorf("events are %q", events)
	}
	for text, want := range map[string]int{"level=WARN": 2, "level=INFO": 2, `object="Service shop/web"`: 2, `object="Pod shop/p"`: 2} {
		if got := strings.Count(log.String(), text); got != want {
			t.Errorf("%q stands %d times in the log, want %d:\n%s", text, got, want, &log)
		}
	}
}

// TestIntegrationHealthCheckPort: what load balancers hear of a node, as endpoints, the
// machine and the agent come and go.
func TestIntegrationHealthCheckPort(t *testing.T) {
	for _, m := range machinetest.All(t) {
		t.Run(m.Name, func(t *testing.T) {
			stop := m.Start(t)
			p, err := program.New(t.Context(), m.Connect(t), program.Agent("n"))
			if err != nil {
				t.Fatal(err)
			}
			if !p.Translates() {
				t.Skipf("this %s has no cnat", m.Name)
			}
			o := &objects{changed: make(chan struct{}, 1)}
			o.say(t, `endpoint="10.1.0.2 node=n ready=true" endpoint="10.1.9.2 node=m ready=true"`)
			l := startIn(t, m.Socket, o, newDoors())
			awaitAnswer(t, 200, `"localEndpoints":1,"serviceProxyHealthy":true`)
			o.say(t, `endpoint="10.1.0.2 node=n serving=true terminating=true" endpoint="10.1.9.2 node=m ready=true"`)
			awaitAnswer(t, 503, `"localEndpoints":0,"serviceProxyHealthy":true`)
			o.say(t, `endpoint="10.1.0.3 node=n ready=true"`)
			awaitAnswer(t, 200, `"localEndpoints":1`)
			stop()
			awaitAnswer(t, 503, `"localEndpoints":1,"serviceProxyHealthy":false`)
			m.Start(t)
			awaitAnswer(t, 200, `"service":{"namespace":"d","name":"web"}`)
			l.stop()
			if r, err := http.Get(healthURL); err == nil {
				r.Body.Close()
				t.Errorf("without an agent: %s", r.Status)
			}
		})
	}
}

const healthURL = "http://127.0.0.1:32001/healthz"

// say makes the facts a node with a service that load balancers ask for, and its endpoints.
func (o *objects) say(t *testing.T, endpoints string) {
	t.Helper()
	s, err := cluster.ParseSnapshot(`node n podcidr=10.1.0.0/24
service d/web clusterip=10.96.0.1 loadbalancerip=203.0.113.1 port=:80/TCP/30080 external-local=true healthcheck=32001
endpointslice d/web-1 service=web port=:8080/TCP ` + endpoints)
	if err != nil {
		t.Fatal(err)
	}
	o.mu.Lock()
	o.facts = s
	o.mu.Unlock()
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

// awaitAnswer asks until the answer is that.
func awaitAnswer(t *testing.T, code int, part string) {
	t.Helper()
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	said := ""
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		r, err := client.Get(healthURL)
		if err != nil {
			said = err.Error()
			continue
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if said = r.Status + " " + string(body); err == nil && r.StatusCode == code && strings.Contains(said, part) {
			return
		}
	}
	t.Fatalf("it says %s, want %d with %s", said, code, part)
}
