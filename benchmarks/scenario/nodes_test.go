package scenario

import (
	"os/exec"
	"testing"

	"github.com/millrace/millrace/benchmarks/rig"
	"github.com/millrace/millrace/internal/netnstest"
)

// TestIntegrationNodes has the engine's nodes talk by tunnel, and looks that there is a sample
// of everything, with the processor time it cost.
func TestIntegrationNodes(t *testing.T) {
	netnstest.NeedRoot(t)
	netnstest.NeedTun(t)
	for _, tool := range []string{"iperf3", "ethtool"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s: %v", tool, err)
		}
	}
	dir := buildBinaries(t)
	node := rig.Millrace{Binary: dir + "/millrace", PluginDir: dir, Dataplane: "engine"}
	r, err := Nodes{
		Title: "test", Repetitions: 1, Seconds: 1, Ways: []string{"vxlan"}, Wires: []string{"frames"}, Progress: func(Progress) {},
		Kinds: []rig.NodesKind{rig.MillraceNodes("engine", node, "own"), rig.MillraceNodes("engine-share", node, "share")},
	}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !r.Complete || len(r.Subjects) != 2 || len(r.Checks) != 2 {
		t.Errorf("complete %v, subjects %+v, checks %+v; want two of each", r.Complete, r.Subjects, r.Checks)
	}
	for _, name := range []string{"ping-p50", "ping-p99", "tcp-1", "tcp-1-cpu", "tcp-1-back", "tcp-4", "tcp-4-back", "udp-64", "udp-64-cpu"} {
		for _, subject := range []string{"engine", "engine-share"} {
			m, ok := r.Find("vxlan-frames-"+name, subject)
			if !ok || len(m.Samples) != 1 || m.Samples[0] <= 0 {
				t.Errorf("%s of %s is %+v, want one sample", name, subject, m)
			}
		}
	}
}
