package program

import (
	"strings"
	"testing"

	"go.fd.io/govpp/binapi/feature"
	"go.fd.io/govpp/binapi/interface_types"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/vpp"
)

// natMachines runs a test on those that translate.
func natMachines(t *testing.T, run func(t *testing.T, m machinetest.Machine)) {
	t.Helper()
	for _, m := range machinetest.All(t) {
		t.Run(m.Name, func(t *testing.T) {
			stop := m.Start(t)
			can := program(t, m.Connect(t)).Translates()
			if stop(); !can {
				t.Skipf("this %s has no cnat", m.Name)
			}
			run(t, m)
		})
	}
}

const natBase = `interface node/a device=loopback mtu=1500
interface node/b device=loopback mtu=1500
`

// natWalk are states that a machine is taken through one after the other.
var natWalk = []string{
	natBase,
	natBase + `nat-interface node/a side=pod
nat-interface node/b side=outer
source-nat node address=10.1.0.1 address=fd01::1
translation tcp 10.96.0.1:80 backend=10.1.0.2:8080 backend=10.1.0.3:8080
translation udp 10.96.0.1:80 backend=10.1.0.2:8080 by-client=true
translation sctp 10.96.0.2:80 backend=10.1.0.2:8080
translation tcp [fd96::1]:80 backend=[fd01::2]:8080`,
	natBase + `nat-interface node/a side=outer
nat-interface node/b side=pod
source-nat node address=fd01::1
translation tcp 10.96.0.1:80 backend=10.1.0.3:8080 by-client=true
translation udp 10.96.0.1:80 backend=10.1.0.9:1 backend=10.1.0.2:8080 by-client=true
translation tcp [fd96::1]:80 backend=[fd01::2]:8080 backend=[fd01::3]:8080`,
	natBase + "nat-interface node/b side=host",
	natBase,
}

func TestIntegrationNATWalk(t *testing.T) {
	natMachines(t, func(t *testing.T, m machinetest.Machine) {
		m.Start(t)
		p := program(t, m.Connect(t))
		for i, text := range natWalk {
			want := wanted(t, strings.Split(text, "\n")...)
			t.Logf("state %d", i)
			reach(t, p, want)
			// Another life sees all but the sides, and to say those once more is all it does.
			next := program(t, m.Connect(t))
			for _, step := range dataplane.Diff(observe(t, next), want) {
				if n, ok := step.Was.(dataplane.NATInterface); !ok || step.Verb != dataplane.Update || n.Side != dataplane.NATUnknown {
					t.Errorf("after a restart: %s", step)
				}
			}
			reach(t, next, want)
		}
	})
}

// TestIntegrationNATRepairs: a feature that somebody switched off comes back, and one that
// is on is not switched on twice.
func TestIntegrationNATRepairs(t *testing.T) {
	natMachines(t, func(t *testing.T, m machinetest.Machine) {
		m.Start(t)
		conn := m.Connect(t)
		p := program(t, conn)
		want := wanted(t, strings.Split(natWalk[1], "\n")...)
		reach(t, p, want)
		index, err := p.index("node/a")
		if err != nil {
			t.Fatal(err)
		}
		off := &feature.FeatureEnableDisable{SwIfIndex: interface_types.InterfaceIndex(index), ArcName: natFeatures[1].arc, FeatureName: natFeatures[1].name}
		if _, err := vpp.Call[feature.FeatureEnableDisableReply](t.Context(), conn, off); err != nil {
			t.Fatal(err)
		}
		if plan := reach(t, p, want); len(plan) != 1 {
			t.Errorf("one switch was off, and the plan is\n%s", plan)
		}
		reach(t, p, wanted(t, strings.Split(natBase, "\n")...))
		if on, err := p.askNAT(t.Context(), index); err != nil || on != ([len(natFeatures)]bool{}) {
			t.Errorf("after all was switched off: %v, %v", on, err)
		}
	})
}
