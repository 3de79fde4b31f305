package program

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/agent/compile"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/flowtest"
	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/internal/netnstest"
)

// phase is what guards both pods during a part of the test, and which of the flows,
// by their port, it permits. Lists not given are "all" alone.
type phase struct {
	name    string
	acls    []string
	lists   map[string][]string // "a input", "a output", "b input", "b output"
	permits []uint16
}

const (
	kept  = 8000 // always permitted
	hit   = 9000 // permitted at times
	never = 9500 // never permitted, but for the first phase, in which it is born
	pings = 1    // ICMP, that no rule with a port permits
)

// phases change what guards the pods in every way there is. In each, a is who begins.
var phases = []phase{
	{"open", nil, nil, []uint16{kept, hit, never, pings}},
	{"b is isolated", []string{"acl p1 rule=" + to(kept)}, map[string][]string{"b output": {"p1"}}, []uint16{kept}},
	{"more rules", []string{"acl p1 rule=" + to(hit) + " rule=" + to(kept)}, map[string][]string{"b output": {"p1"}}, []uint16{kept, hit}},
	{"the permission moves to another", []string{"acl p1 rule=" + to(7000), "acl p2 rule=" + to(kept)},
		map[string][]string{"b output": {"p1", "p2"}}, []uint16{kept}},
	{"and back, as the other goes", []string{"acl p1 rule=" + to(kept)}, map[string][]string{"b output": {"p1"}}, []uint16{kept}},
	{"a is isolated, b not", []string{"acl e1 rule=" + to(kept)}, map[string][]string{"a input": {"e1"}}, []uint16{kept}},
	{"b is isolated, a not: the other way round", []string{"acl p1 rule=" + to(kept)}, map[string][]string{"b output": {"p1"}}, []uint16{kept}},
	{"a is isolated, b not, once more", []string{"acl e1 rule=" + to(kept)}, map[string][]string{"a input": {"e1"}}, []uint16{kept}},
	{"both", []string{"acl e1 rule=" + to(kept) + " rule=" + to(hit), "acl p1 rule=" + to(kept) + " rule=" + to(hit)},
		map[string][]string{"a input": {"e1"}, "b output": {"p1"}}, []uint16{kept, hit}},
	{"a deny before all", []string{"acl d rule=" + strings.ReplaceAll(to(hit), "permit+reflect", "deny") + " rule=" + strings.ReplaceAll(to(never), "permit+reflect", "deny")},
		map[string][]string{"b output": {"d", "all"}}, []uint16{kept, pings}},
	{"b is isolated again", []string{"acl p3 rule=" + to(kept)}, map[string][]string{"b output": {"p3"}}, []uint16{kept}},
}

// to permits UDP, and what the test has that knows no ports.
func to(port uint16) string {
	return fmt.Sprintf("permit+reflect,10.1.0.0/24,0.0.0.0/0,proto=17,dport=%[1]d-%[2]d rule=permit+reflect,10.1.0.0/24,0.0.0.0/0,proto=6,dport=%[1]d-%[2]d", port, port+30)
}

func (p phase) state(t *testing.T, base dataplane.State) dataplane.State {
	t.Helper()
	s := base
	lines := append([]string{"acl all rule=permit+reflect,0.0.0.0/0,0.0.0.0/0 rule=permit+reflect,::/0,::/0"}, p.acls...)
	for o := range wanted(t, lines...).All() {
		s.Put(o)
	}
	for o := range base.All() {
		if i, ok := o.(dataplane.Interface); ok && strings.HasPrefix(i.Name, "pod/") {
			pod := string('a' + i.Name[strings.Index(i.Name, "pod-")+len("pod-")] - '0')
			s.Put(dataplane.ACLBinding{Interface: i.Name, Input: p.list(pod + " input"), Output: p.list(pod + " output")})
		}
	}
	return s
}

func (p phase) list(of string) []string {
	if list := p.lists[of]; list != nil {
		return list
	}
	return []string{"all"}
}

// stream is a flow with the port that decides about it.
type stream struct {
	*flowtest.Flow
	port uint16
}

// TestIntegrationChangeUnderTraffic changes what guards two pods while flows run: none
// that old and new permit loses a number, none that both forbid gets one through, and
// what a change forbids ends with the change.
func TestIntegrationChangeUnderTraffic(t *testing.T) {
	aclMachines(t, func(t *testing.T, m machinetest.Machine) {
		m.Start(t)
		p := program(t, m.Connect(t))
		o := compile.Defaults()
		if tun, err := p.CanTun(t.Context()); err != nil {
			t.Fatal(err)
		} else if !tun {
			o.Device = compile.DeviceVeth
		}
		nodeAddresses(t)
		a, b := netnstest.New(t), netnstest.New(t)
		base := wish(t, node(a, b), o)
		reach(t, p, phases[0].state(t, base))
		ping(t, a, podAddr4(1))
		var streams []stream
		local := uint16(40000)
		for _, port := range []uint16{kept, hit, never} {
			for i, kind := range []flowtest.Kind{flowtest.UDP, flowtest.Echo, flowtest.TCP, flowtest.Late} {
				local++
				at := port + uint16(i)*10 // each has its own, and they share their fate
				f := flowtest.Start(t, kind,
					flowtest.End{Namespace: a, Addr: podAddr4(0), Port: local}, flowtest.End{Namespace: b, Addr: podAddr4(1), Port: at})
				streams = append(streams, stream{f, port})
			}
		}
		f := flowtest.Start(t, flowtest.Ping, flowtest.End{Namespace: a, Addr: podAddr4(0)}, flowtest.End{Namespace: b, Addr: podAddr4(1)})
		streams = append(streams, stream{f, pings})
		for i, from := range phases {
			into := phases[(i+1)%len(phases)]
			t.Logf("from %q to %q", from.name, into.name)
			change(t, p, streams, from, into, into.state(t, base))
		}
	})
}

// settle is how long flows run between two changes.
const settle = 150 * time.Millisecond

// window is where the numbers of a flow stood before a change, when it was acknowledged,
// and some time after.
type window struct{ first, acked, end uint64 }

// change applies a phase and judges every flow over it.
func change(t *testing.T, p *Program, streams []stream, from, into phase, want dataplane.State) {
	t.Helper()
	plan := dataplane.Diff(observe(t, p), want)
	windows := make([]window, len(streams))
	for i, s := range streams {
		windows[i].first = s.Next()
	}
	time.Sleep(settle)
	begin := time.Now()
	p.Apply(t.Context(), plan, nil, func(_ dataplane.Step, err error) {
		if err != nil {
			t.Error(err)
		}
	})
	took := time.Since(begin)
	for i, s := range streams {
		windows[i].acked = s.Next()
	}
	time.Sleep(settle)
	for i, s := range streams {
		windows[i].end = s.Next()
	}
	lost := 0
	for i, s := range streams {
		w := windows[i]
		old, now := slices.Contains(from.permits, s.port), slices.Contains(into.permits, s.port)
		switch {
		case old && now:
			lost += arrive(t, s, w.first, w.end)
		case now:
			lost += arrive(t, s, w.acked, w.end)
		case old:
			passed(t, s, "sent after it was forbidden", w.acked, w.end)
			t.Logf("%s: forbidden within %v, last number %v after the apply began", s.Name, took, s.Last().Sub(begin))
		default:
			passed(t, s, "forbidden before and after", w.first, w.end)
		}
	}
	// What VPP's driver of veths drops for want of room is no matter of ACLs.
	if full := overruns(t, p); lost > full {
		t.Errorf("%d numbers did not arrive, and %d found no room in a ring", lost, full)
	}
}

func passed(t *testing.T, s stream, what string, first, end uint64) {
	t.Helper()
	if got := s.Arrived(first, end); len(got) > 0 {
		t.Errorf("%s: %d numbers arrived, %s, from %d on", s.Name, len(got), what, got[0])
	}
}

// arrive waits until all of [first, end) have arrived, and returns how many have not.
func arrive(t *testing.T, s stream, first, end uint64) int {
	t.Helper()
	for last := time.Now().Add(10 * time.Second); len(s.Missing(first, end)) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(last) {
			missing := s.Missing(first, end)
			t.Logf("%s: of [%d,%d) %d did not arrive, from %d on", s.Name, first, end, len(missing), missing[0])
			return len(missing)
		}
	}
	return 0
}

// overruns counts, since the last call, what VPP dropped because a ring was full.
func overruns(t *testing.T, p *Program) (n int) {
	t.Helper()
	text, err := p.conn.CLI(t.Context(), "show errors")
	if err == nil {
		_, err = p.conn.CLI(t.Context(), "clear errors")
	}
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		var count int
		if _, err := fmt.Sscan(line, &count); err == nil && strings.Contains(line, "ring overrun") {
			n += count
		}
	}
	return n
}
