package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/vishvananda/netlink"

	"github.com/millrace/millrace/agent/compile"
	"github.com/millrace/millrace/agent/program"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/vpp"
)

func TestMain(m *testing.M) { machinetest.Main(m) }

// doors are both sources of facts, in memory.
type doors struct {
	mu          sync.Mutex
	revision    uint64
	attachments map[cluster.AttachmentID]cluster.Attachment
	changed     chan struct{}
}

func newDoors() *doors {
	return &doors{attachments: map[cluster.AttachmentID]cluster.Attachment{}, changed: make(chan struct{}, 1)}
}

func (d *doors) Facts() (uint64, []cluster.Attachment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []cluster.Attachment
	for _, a := range d.attachments {
		list = append(list, a)
	}
	return d.revision, list
}

func (d *doors) Changed() <-chan struct{} { return d.changed }

// change stores a fact, or removes it, and returns its revision.
func (d *doors) change(a cluster.Attachment, add bool) uint64 {
	d.mu.Lock()
	d.revision++
	revision := d.revision
	delete(d.attachments, a.ID)
	if add {
		a.Revision = revision
		d.attachments[a.ID] = a
	}
	d.mu.Unlock()
	select {
	case d.changed <- struct{}{}:
	default:
	}
	return revision
}

// cidrs is a cluster of one node that never changes.
type cidrs []netip.Prefix

func (c cidrs) Snapshot() cluster.Snapshot {
	return cluster.Snapshot{Nodes: map[string]cluster.Node{"n": {Name: "n", PodCIDRs: c}}}
}

// Take names everything each time, which is more than is needed.
func (c cidrs) Take() (cluster.Snapshot, cluster.Changes) {
	return c.Snapshot(), cluster.Compare(cluster.Snapshot{}, c.Snapshot())
}
func (cidrs) Changed() <-chan struct{}         { return nil }
func (cidrs) WaitSynced(context.Context) error { return nil }

func ranges() cidrs {
	return cidrs{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd01::/64")}
}

// life is one life of an agent.
type life struct {
	*Agent
	registry *prometheus.Registry
	stop     func()
}

func start(t *testing.T, socket string, d *doors) life {
	t.Helper()
	return startIn(t, socket, ranges(), d)
}

func startIn(t *testing.T, socket string, c Cluster, d *doors) life {
	t.Helper()
	return startWith(t, Config{VPP: vpp.Config{Socket: socket}, Cluster: c, Attachments: d})
}

func startWith(t *testing.T, c Config) life {
	t.Helper()
	l := life{registry: prometheus.NewRegistry()}
	host := c.Options.Host
	c.Node, c.Options, c.Metrics = "n", compile.Defaults(), l.registry
	c.Options.Host = host
	c.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	a, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	l.Agent = a
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("agent: %v", err)
		}
	})
	t.Cleanup(l.stop)
	return l
}

// applied waits for a revision for at most a minute.
func (l life) applied(t *testing.T, revision uint64) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return l.WaitApplied(ctx, revision)
}

func (l life) mustApply(t *testing.T, revision uint64) {
	t.Helper()
	if err := l.applied(t, revision); err != nil {
		t.Fatal(err)
	}
}

// steps sums the steps that this life carried out. On which side of NAT an interface lies is
// told by no dump, so that each life says it once more: that changes nothing, and is left out.
func (l life) steps(t *testing.T) (sum float64) {
	t.Helper()
	families, err := l.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "millrace_agent_steps_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			again := slices.ContainsFunc(m.GetLabel(), func(p *dto.LabelPair) bool {
				return p.GetName() == "kind" && p.GetValue() == dataplane.KindNATInterface.String()
			})
			if !again {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func pod(n *netnstest.Namespace, host byte) cluster.Attachment {
	return cluster.Attachment{
		ID: cluster.AttachmentID{ContainerID: n.Name, IfName: "eth0"}, Netns: n.Path,
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, 0, host}), netip.AddrFrom16([16]byte{0: 0xfd, 1: 1, 15: host})},
	}
}

func ping(t *testing.T, from *netnstest.Namespace, to netip.Addr, flags ...string) error {
	t.Helper()
	out, err := from.Command(t, "ping", append(flags, "-W", "5", to.String())...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ping %s from %s: %w\n%s", to, from.Name, err, out)
	}
	return nil
}

func mustPing(t *testing.T, from *netnstest.Namespace, to ...netip.Addr) {
	t.Helper()
	for _, a := range to {
		if err := ping(t, from, a, "-c", "1"); err != nil {
			t.Error(err)
		}
	}
}

// idle checks that a reconcile by somebody new has nothing to do.
func idle(t *testing.T, m machinetest.Machine, d *doors) {
	t.Helper()
	p, err := program.New(t.Context(), m.Connect(t), program.Agent("n"))
	if err != nil {
		t.Fatal(err)
	}
	have, err := p.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	o := compile.Defaults()
	if tun, err := p.CanTun(t.Context()); err != nil {
		t.Fatal(err)
	} else if !tun {
		o.Device = compile.DeviceVeth
	}
	o.Services = p.Translates()
	want, err := compile.Compile(ranges().Snapshot().WithAttachments(d.Facts()), "n", o)
	if err != nil {
		t.Fatal(err)
	}
	for o := range want.State.All() {
		if n, ok := o.(dataplane.NATInterface); ok {
			n.Side = dataplane.NATUnknown // a Program that set nothing is not told
			want.State.Put(n)
		}
	}
	if diff := cmp.Diff(strings.Split(want.State.String(), "\n"), strings.Split(have.String(), "\n")); diff != "" {
		t.Errorf("the machine has another state (-want +have):\n%s", diff)
	}
}

func hasLink(t *testing.T, n *netnstest.Namespace, name string) (found bool) {
	t.Helper()
	n.Netlink(t, func(h *netlink.Handle) error {
		_, err := h.LinkByName(name)
		found = err == nil
		return nil
	})
	return found
}

func TestIntegrationLoop(t *testing.T) {
	for _, m := range machinetest.All(t) {
		t.Run(m.Name, func(t *testing.T) {
			d := newDoors()
			a, b := netnstest.New(t), netnstest.New(t)
			podA, podB := pod(a, 2), pod(b, 3)
			// The agent may be there before the machine.
			l := start(t, m.Socket, d)
			if err := l.Ready(); err == nil {
				t.Error("ready without a machine")
			}
			d.change(podA, true)
			last := d.change(podB, true)
			stop := m.Start(t)
			l.mustApply(t, last)
			if err := l.Ready(); err != nil {
				t.Errorf("not ready: %v", err)
			}
			mustPing(t, a, podB.Addresses...)
			mustPing(t, b, podA.Addresses...)
			idle(t, m, d)

			l = restartAgent(t, l, m, d, func() error { return ping(t, a, podB.Addresses[0], "-c", "20", "-i", "0.1") })

			// The machine dies, and with it goes what it held; a pod leaves meanwhile.
			stop()
			gone := d.change(podB, false)
			begin := time.Now()
			m.Start(t)
			l.mustApply(t, gone)
			t.Logf("machine replaced and programmed within %v", time.Since(begin))
			if hasLink(t, b, "eth0") {
				t.Error("the device of a pod that left while the machine was away is still there")
			}
			l.mustApply(t, d.change(podB, true))
			mustPing(t, a, podB.Addresses...)
			mustPing(t, b, podA.Addresses...)
			idle(t, m, d)

			l.mustApply(t, d.change(podA, false))
			if hasLink(t, a, "eth0") {
				t.Error("the device of a pod that left is still there")
			}
		})
	}
}

// restartAgent lets a flow run while one life of the agent follows another, which must
// find nothing to do, and returns the next life.
func restartAgent(t *testing.T, l life, m machinetest.Machine, d *doors, flow func() error) life {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- flow() }()
	l.stop()
	last, _ := d.Facts()
	second := start(t, m.Socket, d)
	second.mustApply(t, last)
	if n := second.steps(t); n != 0 {
		t.Errorf("a second life of the agent took %v steps, want none", n)
	}
	if err := <-ended; err != nil {
		t.Errorf("while the agent restarted: %v", err)
	}
	return second
}

// TestIntegrationOneBadPod: one that cannot be served is told so, holds up nobody, and
// leaves nothing.
func TestIntegrationOneBadPod(t *testing.T) {
	for _, m := range machinetest.All(t) {
		t.Run(m.Name, func(t *testing.T) {
			m.Start(t)
			d := newDoors()
			l := start(t, m.Socket, d)
			good, taken := netnstest.New(t), netnstest.New(t)
			taken.Netlink(t, func(h *netlink.Handle) error {
				return h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "other"})
			})
			tests := []struct {
				pod  cluster.Attachment
				want string
			}{
				{cluster.Attachment{
					ID: cluster.AttachmentID{ContainerID: "gone", IfName: "eth0"}, Netns: "/run/netns/mrtest-is-not-there",
					Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.9")},
				}, "create interface pod/eth0/"},
				{pod(taken, 10), "create interface pod/eth0/"},
				{cluster.Attachment{ID: cluster.AttachmentID{ContainerID: "none", IfName: "eth0"}, Netns: good.Path}, "it has no address"},
			}
			for _, tt := range tests {
				bad := d.change(tt.pod, true)
				err := l.applied(t, bad)
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%s: %v, want an error with %q", tt.pod, err, tt.want)
				}
			}
			l.mustApply(t, d.change(pod(good, 2), true))
			if err := l.Ready(); err != nil {
				t.Errorf("one bad pod makes the node unready: %v", err)
			}
			for _, tt := range tests {
				l.mustApply(t, d.change(tt.pod, false))
			}
			idle(t, m, d)
			if !hasLink(t, taken, "eth0") {
				t.Error("a device that is not ours was deleted")
			}
		})
	}
}

// TestIntegrationRepair: what somebody else broke is put right at the next look.
func TestIntegrationRepair(t *testing.T) {
	for _, m := range machinetest.All(t) {
		t.Run(m.Name, func(t *testing.T) {
			m.Start(t)
			d := newDoors()
			a := netnstest.New(t)
			p := pod(a, 2)
			last := d.change(p, true)
			l := start(t, m.Socket, d)
			l.mustApply(t, last)
			a.Netlink(t, func(h *netlink.Handle) error {
				dev, err := h.LinkByName("eth0")
				if err != nil {
					return err
				}
				return h.LinkSetDown(dev) // takes the routes along
			})
			l.stop()
			l = start(t, m.Socket, d)
			l.mustApply(t, last)
			idle(t, m, d)
			a.Netlink(t, func(h *netlink.Handle) error {
				dev, err := h.LinkByName("eth0")
				if err != nil {
					return err
				}
				return h.LinkDel(dev)
			})
			l.stop()
			l = start(t, m.Socket, d)
			l.mustApply(t, last)
			if !hasLink(t, a, "eth0") {
				t.Error("a deleted device was not made again")
			}
			idle(t, m, d)
		})
	}
}

func TestJudge(t *testing.T) {
	id := cluster.AttachmentID{ContainerID: "c", IfName: "eth0"}
	at := map[cluster.AttachmentID]cluster.Attachment{id: {ID: id, Revision: 5}}
	refusal, away := fmt.Errorf("no"), fmt.Errorf("call: %w", vpp.ErrDisconnected)
	refused := func(err error) map[cluster.AttachmentID]error { return map[cluster.AttachmentID]error{id: err} }
	tests := []struct {
		name             string
		outcome          outcome
		revision         uint64
		verdict, pending error
	}{
		{"nothing yet", outcome{down: ErrNotReady}, 0, nil, ErrNotReady},
		{"too old", outcome{revision: 4}, 5, nil, errComing},
		{"applied", outcome{revision: 6, attachments: at}, 5, nil, nil},
		{"refused", outcome{revision: 5, attachments: at, refused: refused(refusal)}, 5, refusal, nil},
		{"cut off", outcome{revision: 5, attachments: at, refused: refused(away)}, 5, nil, away},
		{"another is refused", outcome{revision: 6, attachments: at, refused: refused(refusal)}, 6, nil, nil},
		{"removed", outcome{revision: 6}, 6, nil, nil},
		{"not yet removed", outcome{revision: 6, stuck: refusal}, 6, nil, refusal},
		{"applied beside a stuck one", outcome{revision: 6, attachments: at, stuck: refusal}, 5, nil, nil},
	}
	for _, tt := range tests {
		verdict, pending := tt.outcome.judge(tt.revision)
		if verdict != tt.verdict || pending != tt.pending {
			t.Errorf("%s: verdict %v, pending %v; want %v, %v", tt.name, verdict, pending, tt.verdict, tt.pending)
		}
	}
}

func TestWaitAppliedEndsWithItsContext(t *testing.T) {
	a, err := New(Config{Node: "n", Cluster: ranges(), Attachments: newDoors(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = a.WaitApplied(ctx, 1)
	for _, want := range []error{context.Canceled, ErrNotReady} {
		if !slices.ContainsFunc([]error{err}, func(err error) bool { return strings.Contains(err.Error(), want.Error()) }) {
			t.Errorf("error %v does not say %v", err, want)
		}
	}
}
