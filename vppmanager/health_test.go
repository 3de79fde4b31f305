package vppmanager

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/startup"
	"github.com/millrace/millrace/vppmanager/supervise"
)

// served is a health server of a state.
func served(t *testing.T, s *state) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serveHealth(ctx, l, s) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return "http://" + l.Addr().String()
}

func get(t *testing.T, url string) (code int, body string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestReadyz(t *testing.T) {
	s := newState(supervise.DefaultTiming())
	url := served(t, s)
	if code, body := get(t, url+"/readyz"); code != 503 || !strings.HasPrefix(body, "preparing since") {
		t.Errorf("at first: %d %q", code, body)
	}
	for _, tt := range []struct {
		phase supervise.Phase
		want  int
	}{{supervise.Starting, 503}, {supervise.Wiring, 503}, {supervise.Ready, 200}, {supervise.Waiting, 503}, {supervise.Stopping, 503}} {
		s.supervised(supervise.Status{Phase: tt.phase})
		if code, body := get(t, url+"/readyz"); code != tt.want || !strings.HasPrefix(body, string(tt.phase)) {
			t.Errorf("%s: %d %q", tt.phase, code, body)
		}
		if code, _ := get(t, url+"/livez"); code != 200 {
			t.Errorf("%s: a manager at work is not alive: %d", tt.phase, code)
		}
	}
	s.enter(GivingBack)
	if code, body := get(t, url+"/readyz"); code != 503 || !strings.HasPrefix(body, "putting the host back since") {
		t.Errorf("at the end: %d %q", code, body)
	}
}

// TestStuck: no sign of life for longer than any step may take is told to the kubelet and,
// by silence, to systemd.
func TestStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newState(supervise.DefaultTiming())
		n := &notifier{watchdog: time.Minute, state: s}
		s.supervised(supervise.Status{Phase: supervise.Ready})
		if text := n.message(); text != "READY=1\nSTATUS=ready\nWATCHDOG=1" {
			t.Errorf("at work: %q", text)
		}
		time.Sleep(19 * time.Second)
		if err := s.stuck(); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		if err := s.stuck(); err == nil || err.Error() != "no progress for 21s while ready" {
			t.Errorf("stuck: %v", err)
		}
		if text := n.message(); text != "" {
			t.Errorf("stuck: %q", text)
		}
		s.alive()
		if text := n.message(); text != "WATCHDOG=1" {
			t.Errorf("back at work: %q", text)
		}
		s.enter(Changing)
		time.Sleep(4 * time.Minute)
		if err := s.stuck(); err != nil {
			t.Error(err)
		}
	})
}

// TestNotifyMessages: what systemd is told in each phase.
func TestNotifyMessages(t *testing.T) {
	s := newState(supervise.DefaultTiming())
	n := &notifier{state: s}
	s.planned(startup.Plan{Dataplane: nodeconfig.UseVPP})
	for _, tt := range []struct {
		status supervise.Status
		want   string
	}{
		{supervise.Status{Phase: supervise.Starting}, "STATUS=vpp dataplane starting\nEXTEND_TIMEOUT_USEC=30000000"},
		{supervise.Status{Phase: supervise.Starting}, "EXTEND_TIMEOUT_USEC=30000000"},
		{supervise.Status{Phase: supervise.Ready}, "READY=1\nSTATUS=vpp dataplane ready"},
		{supervise.Status{Phase: supervise.Ready}, ""},
		{supervise.Status{Phase: supervise.Waiting, Restarts: 2, Last: "exited with code 1"}, "STATUS=vpp dataplane waiting to restart, 2 restarts, the last one exited with code 1"},
		{supervise.Status{Phase: supervise.Stopping}, "STATUS=vpp dataplane stopping\nEXTEND_TIMEOUT_USEC=30000000"},
	} {
		s.supervised(tt.status)
		if got := n.message(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.status.Phase, got, tt.want)
		}
	}
}

func TestStatusDocument(t *testing.T) {
	s := newState(supervise.DefaultTiming())
	url := served(t, s)
	if code, body := get(t, url+"/status"); code != 200 || !strings.Contains(body, `"uplinks": []`) {
		t.Errorf("at first: %d %s", code, body)
	}
	s.planned(startup.Plan{
		Dataplane: nodeconfig.UseVPP, Reason: "it was asked for", Notes: []string{"no vhost-net"},
		Uplinks: []startup.Uplink{{Name: "uplink0", Driver: "dpdk", PCI: "0000:03:00.0", Host: "eth1", MTU: 1500,
			Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.4/24")}, Members: []startup.Uplink{{Name: "uplink0m0"}}}},
	})
	s.supervised(supervise.Status{Phase: supervise.Ready, PID: 12, Restarts: 1, Last: "exited with code 1",
		Crash: &supervise.Crash{How: "exited with code 1", Report: "/s/crashes/x.txt", Uptime: time.Second}})
	_, body := get(t, url+"/status")
	var st Status
	if err := json.Unmarshal([]byte(body), &st); err != nil {
		t.Fatal(err)
	}
	u := st.Uplinks[0]
	if !st.Ready || st.PID != 12 || st.Dataplane != "vpp" || st.LastCrash.Report != "/s/crashes/x.txt" || st.LastCrash.Uptime != time.Second ||
		u.Driver != "dpdk" || u.Host != "eth1" || u.Addresses[0].String() != "192.0.2.4/24" || u.Members[0] != "uplink0m0" {
		t.Errorf("status %+v", st)
	}
}
