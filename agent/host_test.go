package agent

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/agent/compile"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/vpp"
)

// kernel is a node's own, in memory, so that the test's is left alone.
type kernel struct {
	mu     sync.Mutex
	state  dataplane.State
	refuse error
}

func (k *kernel) Observe(s *dataplane.State) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for o := range k.state.All() {
		s.Put(o)
	}
}

func (k *kernel) Carry(steps []dataplane.Step) []error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, step := range steps {
		if k.refuse == nil {
			k.state.Apply(step)
		}
	}
	return slices.Repeat([]error{k.refuse}, len(steps))
}

func (k *kernel) set(s dataplane.State, refuse error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state, k.refuse = s, refuse
}

// await polls until the kernel says what is wanted.
func (k *kernel) await(t *testing.T, want string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		k.mu.Lock()
		have := k.state.String()
		k.mu.Unlock()
		if have == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the kernel has\n%s\nwant\n%s", have, want)
		}
	}
}

// TestIntegrationHost: the node's kernel is told, and told again when somebody took it away;
// one that refuses is named by Ready and holds up no pod.
func TestIntegrationHost(t *testing.T) {
	netnstest.NeedTun(t)
	m := machinetest.All(t)[0]
	m.Start(t)
	k, d := &kernel{refuse: errors.New("no nftables here")}, newDoors()
	p := pod(netnstest.New(t), 2)
	last := d.change(p, true)
	l := startWith(t, Config{
		VPP: vpp.Config{Socket: m.Socket}, Cluster: ranges(), Attachments: d, Host: k, Resync: 20 * time.Millisecond,
		Options: compile.Options{Host: compile.HostOptions{Masquerade: true}},
	})
	l.mustApply(t, last)
	if err := l.Ready(); err == nil || !strings.Contains(err.Error(), "no nftables here") {
		t.Errorf("ready: %v, want to hear that the kernel refuses", err)
	}
	const want = `host-setting net/ipv4/conf/millrace0/rp_filter value=2 interface=host/millrace0
host-setting net/ipv4/ip_forward value=1
host-setting net/ipv6/conf/all/forwarding value=1
host-nat node masquerade=10.1.0.0/24 masquerade=fd01::/64 keep=10.1.0.0/24 keep=fd01::/64
`
	k.set(dataplane.State{}, nil)
	k.await(t, want)
	k.set(dataplane.State{}, nil)
	k.await(t, want)
	l.mustApply(t, d.change(p, false))
	k.await(t, want)
}
