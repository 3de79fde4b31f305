package healthcheck

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/service"
)

func check(name string, port uint16, local int) service.HealthCheck {
	return service.HealthCheck{About: cluster.Ref{Kind: "Service", Namespace: "d", Name: name}, Port: port, Local: local}
}

// free is a port that nobody has now.
func free(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// ask returns the code and the body, 0 where nobody answers.
func ask(t *testing.T, port uint16) (int, string) {
	t.Helper()
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
	if err != nil {
		return 0, ""
	}
	defer r.Body.Close()
	var said report
	if err := json.NewDecoder(r.Body).Decode(&said); err != nil {
		t.Fatal(err)
	}
	if w := r.Header.Get("X-Load-Balancing-Endpoint-Weight"); w != fmt.Sprint(said.LocalEndpoints) {
		t.Errorf("weight %q of %d endpoints", w, said.LocalEndpoints)
	}
	return r.StatusCode, fmt.Sprintf("%s/%s %d %v", said.Service.Namespace, said.Service.Name, said.LocalEndpoints, said.ServiceProxyHealthy)
}

func TestAnswers(t *testing.T) {
	healthy := true
	s := New(func() bool { return healthy })
	defer s.Close()
	a, b := free(t), free(t)
	for _, step := range []struct {
		name         string
		healthy      bool
		set          []service.HealthCheck
		codeA, codeB int
		a, b         string
	}{
		{"nothing", true, nil, 0, 0, "", ""},
		{"one with endpoints, one without", true, []service.HealthCheck{check("a", a, 2), check("b", b, 0)}, 200, 503, "d/a 2 true", "d/b 0 true"},
		{"the numbers change", true, []service.HealthCheck{check("a", a, 0), check("b", b, 1)}, 503, 200, "d/a 0 true", "d/b 1 true"},
		{"the node is not well", false, []service.HealthCheck{check("a", a, 1), check("b", b, 1)}, 503, 503, "d/a 1 false", "d/b 1 false"},
		{"one goes", true, []service.HealthCheck{check("b", b, 1)}, 0, 200, "", "d/b 1 true"},
		{"a port moves to another service", true, []service.HealthCheck{check("c", b, 3)}, 0, 200, "", "d/c 3 true"},
	} {
		t.Run(step.name, func(t *testing.T) {
			healthy = step.healthy
			if failed := s.Set(step.set); failed != nil {
				t.Fatal(failed)
			}
			code, text := ask(t, a)
			if code != step.codeA || text != step.a {
				t.Errorf("the first says %d %s, want %d %s", code, text, step.codeA, step.a)
			}
			if code, text = ask(t, b); code != step.codeB || text != step.b {
				t.Errorf("the second says %d %s, want %d %s", code, text, step.codeB, step.b)
			}
		})
	}
}

// TestTakenPort: the service's author is told, and it is taken as soon as it is free.
func TestTakenPort(t *testing.T) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	s := New(func() bool { return true })
	defer s.Close()
	failed := s.Set([]service.HealthCheck{check("a", port, 1)})
	if len(failed) != 1 || failed[0].Reason != service.HealthCheckUnserved || failed[0].About.Name != "a" {
		t.Errorf("problems are %v", failed)
	}
	l.Close()
	if failed := s.Set([]service.HealthCheck{check("a", port, 1)}); failed != nil {
		t.Errorf("a port that is free: %v", failed)
	}
	if code, _ := ask(t, port); code != 200 {
		t.Errorf("it answers %d", code)
	}
}
