package policytest_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/agent/compile"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/internal/policytest"
	"github.com/millrace/millrace/policy/oracle"
	"github.com/millrace/millrace/policy/verdict"
	"github.com/millrace/millrace/vpp"
)

var seeds = flag.Uint64("seeds", 2000, "how many random clusters to compile")
var firstSeed = flag.Uint64("first-seed", 0, "the first of them")

func TestMain(m *testing.M) { machinetest.Main(m) }

func compiled(c policytest.Case) (dataplane.State, error) { return compiledFor(c, true) }

// compiledFor is for a machine whose ACLs see the ports of SCTP, or do not.
func compiledFor(c policytest.Case, sctp bool) (dataplane.State, error) {
	options := compile.Defaults()
	options.Policy.SCTPPortsUnseen = !sctp
	r, err := compile.Compile(c.Snapshot, policytest.Node, options)
	for _, problem := range r.Problems {
		err = errors.Join(err, problem)
	}
	return r.State, err
}

// local says for which ends of a flow the node has an interface.
func local(t verdict.Tables, f oracle.Flow) (from, to bool) {
	return t.Interface(f.From) != "", t.Interface(f.To) != ""
}

// disagreement compares what the policies say with what the compiled ACLs say, at the
// pods that the node has; "" = they agree.
func disagreement(c policytest.Case) string {
	state, err := compiled(c)
	if err != nil {
		return err.Error()
	}
	tables, world := verdict.New(state), oracle.New(c.Snapshot)
	for _, f := range c.Flows {
		if f.From == f.To {
			continue // it never leaves the pod
		}
		says, has := world.Judge(f), tables.Judge(wirePacket(f))
		from, to := local(tables, f)
		if from && says.Egress.Allowed != has.Input.Allowed {
			return fmt.Sprintf("%s: the policies: %+v\nthe ACLs: %s", f, says.Egress, has.Input)
		}
		if to && says.Ingress.Allowed != has.Output.Allowed {
			return fmt.Sprintf("%s: the policies: %+v\nthe ACLs: %s", f, says.Ingress, has.Output)
		}
	}
	return ""
}

func wirePacket(f oracle.Flow) verdict.Packet {
	p := verdict.Packet{Src: f.From, Dst: f.To, Protocol: f.Protocol, SrcPort: 40000, DstPort: f.Port}
	if f.Protocol == oracle.ICMP || f.Protocol == oracle.ICMPv6 {
		p.SrcPort, p.DstPort = uint16(f.Type), 0
	}
	return p
}

// TestCompiled: on thousands of random clusters the compiled ACLs say what the policies
// say.
func TestCompiled(t *testing.T) {
	judged := 0
	for seed := range *seeds {
		seed += *firstSeed
		c := policytest.Random(seed, 40)
		if first := disagreement(c); first != "" {
			c = policytest.Shrink(c, func(c policytest.Case) bool {
				_, err := compiled(c) // a cluster that no node can have is another matter
				return err == nil && disagreement(c) != ""
			})
			state, _ := compiled(c)
			t.Fatalf("seed %d: %s\nshrunk: %s\n%s\n%s", seed, first, disagreement(c), c, onlyACLs(state))
		}
		judged += len(c.Flows)
	}
	t.Logf("%d connections in %d clusters", judged, *seeds)
}

// onWire runs a case on a machine and says where packets disagree with the policies.
func (w *wire) onWire(c policytest.Case) string {
	state, err := compiledFor(c, w.sctp)
	if err != nil {
		return err.Error()
	}
	want, places, err := w.place(state)
	if err != nil {
		return err.Error()
	}
	if err := w.reach(want); err != nil {
		return err.Error()
	}
	if diff := dataplane.Diff(w.observed(), want); len(diff) > 0 {
		return "the machine has other ACLs than a fresh one would have:\n" + diff.String()
	}
	world := oracle.New(c.Snapshot)
	packets, expect := map[int][][]byte{}, map[uint32]expectation{}
	for _, f := range fit(c.Flows) {
		from, fromPod := places[f.From]
		to, toPod := places[f.To]
		if !fromPod && !toPod {
			continue // neither end is here
		}
		if !fromPod {
			from = len(w.ends) - 1
		}
		if !toPod {
			to = len(w.ends) - 1
		}
		v := world.Judge(f)
		w.sent++
		mark := uint32(w.sent)
		if f.Protocol == 47 {
			f.Protocol = uint8(150 + w.sent%100) // another one each time
		}
		if f.Protocol >= 150 || f.Protocol == oracle.SCTP && !w.sctp {
			// There are no ports to tell an answer from a beginning.
			if w.portless[oracle.Flow{From: f.To, To: f.From, Protocol: f.Protocol}] {
				continue
			}
			w.portless[oracle.Flow{From: f.From, To: f.To, Protocol: f.Protocol}] = true
		}
		packets[from] = append(packets[from], packet(f, uint16(1024+w.sent%60000), mark))
		expect[mark] = expectation{f, (!fromPod || v.Egress.Allowed) && (!toPod || v.Ingress.Allowed), w.ends[to], v}
	}
	arrived, err := w.exchange(packets)
	if err != nil {
		return err.Error()
	}
	for mark, e := range expect {
		at := arrived[mark]
		if at == nil && e.flow.Protocol == oracle.SCTP && !w.sctp {
			continue // it need not pass where its ports are not seen, but never may
		}
		if (at != nil) != e.allowed || at != nil && at != e.at {
			return fmt.Sprintf("%s: the policies allow it: %t (%+v); it arrived: %t", e.flow, e.allowed, e.why, at != nil)
		}
	}
	return ""
}

type expectation struct {
	flow    oracle.Flow
	allowed bool
	at      *end
	why     oracle.Verdict
}

// fit leaves out what a machine answers itself or takes for an answer: neighbour discovery
// and echo replies.
func fit(flows []oracle.Flow) []oracle.Flow {
	return slices.DeleteFunc(slices.Clone(flows), func(f oracle.Flow) bool {
		return f.From == f.To || f.Protocol == oracle.ICMP && f.Type == 0 ||
			f.Protocol == oracle.ICMPv6 && (f.Type == 129 || f.Type >= 130 && f.Type <= 138)
	})
}

// place gives each filtered interface of a State an end, leads its addresses there, and
// returns the State's ACLs with the ends' names.
func (w *wire) place(state dataplane.State) (want dataplane.State, places map[netip.Addr]int, err error) {
	places = map[netip.Addr]int{}
	ends := map[string]int{}
	for o := range state.All() {
		switch o := o.(type) {
		case dataplane.ACL:
			want.Put(o)
		case dataplane.ACLBinding:
			if len(ends) == len(w.ends)-1 {
				return want, nil, errors.New("the test has too few interfaces")
			}
			ends[o.Interface] = len(ends)
			o.Interface = w.ends[ends[o.Interface]].name
			want.Put(o)
		}
	}
	for o := range state.All() {
		if r, ok := o.(dataplane.Route); ok && r.Prefix.IsSingleIP() && len(r.Paths) == 1 {
			if i, ok := ends[r.Paths[0].Interface]; ok {
				places[r.Prefix.Addr()] = i
			}
		}
	}
	for a, index := range w.routes {
		if i, ok := places[a]; !ok || w.ends[i].index != index {
			w.route(netip.PrefixFrom(a, a.BitLen()), index, false)
			delete(w.routes, a)
		}
	}
	for a, i := range places {
		if _, ok := w.routes[a]; !ok {
			w.route(netip.PrefixFrom(a, a.BitLen()), w.ends[i].index, true)
			w.routes[a] = w.ends[i].index
		}
	}
	return want, places, nil
}

// packetsAgree sends the packets of random clusters, one after the other, then of some of
// them backwards, each twice.
func packetsAgree(t *testing.T, conn *vpp.Conn, dir string, sctp bool, clusters uint64) {
	w := newWire(t, conn, dir, 14)
	w.sctp = sctp
	var walk []uint64
	for seed := range clusters {
		walk = append(walk, seed)
	}
	for seed := clusters / 10; seed > 0; seed-- {
		walk = append(walk, seed, seed)
	}
	for _, seed := range walk {
		seed += 1_000_000
		c := policytest.Random(seed, 60)
		first := w.onWire(c)
		if first == "" {
			continue
		}
		c = policytest.Shrink(c, func(c policytest.Case) bool {
			_, err := compiled(c) // a cluster that no node can have is another matter
			return err == nil && w.onWire(c) != ""
		})
		state, _ := compiled(c)
		t.Fatalf("seed %d: %s\nshrunk: %s\n%s\n%s", seed, first, w.onWire(c), c, onlyACLs(state))
	}
	if w.sent < int(clusters)*10 {
		t.Errorf("only %d packets in %d clusters", w.sent, clusters)
	}
	t.Logf("%d packets in %d clusters", w.sent, clusters)
}

// TestPackets: real packets through the engine meet what the policies say. The engine runs
// in this process, and its interfaces are memifs: no right is needed.
func TestPackets(t *testing.T) {
	dir := t.TempDir()
	var log strings.Builder
	e, err := engine.New(engine.Config{
		APISocket: filepath.Join(dir, "api.sock"), StatsSocket: filepath.Join(dir, "stats.sock"), MaxInterfaces: 64, MaxRoutes: 1024,
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- e.Run(ctx, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("engine: %v\n%s", err, &log)
		}
	})
	select {
	case <-ready:
	case <-time.After(patience):
		t.Fatal("the engine does not start")
	}
	conn, err := vpp.Dial(t.Context(), vpp.Config{Socket: filepath.Join(dir, "api.sock")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	packetsAgree(t, conn, dir, true, 300)
}

// TestIntegrationPackets: so do packets through VPP.
func TestIntegrationPackets(t *testing.T) {
	for _, m := range machinetest.All(t) {
		if m.Name != "vpp" {
			continue
		}
		m.Start(t)
		packetsAgree(t, m.Connect(t), t.TempDir(), false, 200)
		return
	}
	t.Skip("needs real VPP: set VPP_BIN")
}
