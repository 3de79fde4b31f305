package scenario

import (
	"net/netip"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/benchmarks/cores"
	"github.com/millrace/millrace/benchmarks/rig"
	"github.com/millrace/millrace/internal/netnstest"
)

// TestClocksPerPacket reads what VPP 25.10 prints.
func TestClocksPerPacket(t *testing.T) {
	const text = `Thread 0 vpp_main (lcore 1)
Time .7, 10 sec internal node vector rate 0.00 loops/sec 1.00
             Name                 State         Calls          Vectors        Suspends         Clocks       Vectors/Call
api-rx-from-ring              any wait                 0               0               9          4.94e3            0.00
---------------
Thread 1 vpp_wk_0 (lcore 0)
Time .7, 10 sec internal node vector rate 256.00 loops/sec 1.00
             Name                 State         Calls          Vectors        Suspends         Clocks       Vectors/Call
ethernet-input                   active               1000          256000               0          1.00e1          256.00
ip4-lookup                       active               1000          256000               0          2.50e1          256.00
memif-input                      polling              1100          256000               0          4.00e1          232.73
unix-epoll-input                 polling                10               0               0          1.58e3            0.00
`
	if got := clocksPerPacket(text); got != 75 {
		t.Errorf("clocks per packet: %v, want 75", got)
	}
	if got := clocksPerPacket("no worker"); got != 0 {
		t.Errorf("clocks per packet without a worker: %v, want 0", got)
	}
}

// TestRandomRoutes: as many as asked for, all different, each with an address of its own
// in it, the same each time, and none where the generator is.
func TestRandomRoutes(t *testing.T) {
	routes, hosts := randomRoutes(20_000)
	again, _ := randomRoutes(20_000)
	seen := map[netip.Prefix]bool{}
	for i, p := range routes {
		switch {
		case seen[p] || p != p.Masked():
			t.Fatalf("route %d, %s, is not new or not masked", i, p)
		case !p.Contains(hosts[i]):
			t.Fatalf("route %d, %s, does not hold %s", i, p, hosts[i])
		case p != again[i]:
			t.Fatalf("route %d is %s, then %s", i, p, again[i])
		case p.Overlaps(netip.MustParsePrefix("198.18.0.0/15")):
			t.Fatalf("route %d, %s, is the generator's", i, p)
		}
		seen[p] = true
	}
}

// engineRouter builds millrace and returns its engine as a router.
func engineRouter(t *testing.T) *rig.Router {
	t.Helper()
	netnstest.NeedRoot(t)
	if err := cores.Check(0, 1); err != nil {
		t.Skipf("needs two cores: %v", err)
	}
	binary := filepath.Join(t.TempDir(), "millrace")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/millrace/millrace/cmd/millrace").CombinedOutput(); err != nil {
		t.Fatalf("build millrace: %v: %s", err, out)
	}
	return rig.EngineRouter(binary, "test", 0)
}

// TestIntegrationForward runs the comparison with the engine alone: what is sent comes back.
func TestIntegrationForward(t *testing.T) {
	router := engineRouter(t)
	r, err := Forward{Title: "test", Routers: []*rig.Router{router}, Routes: 1000, Hot: 16, Size: 64, Repetitions: 1,
		Timing: rig.Timing{Settle: 20 * time.Millisecond, Warm: 20 * time.Millisecond, Window: 100 * time.Millisecond},
		Cores:  [2]int{1, 0}, Progress: func(Progress) {}}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, load := range []string{"cold", "hot"} {
		near, _ := r.Find("forward-"+load+"-near", "engine")
		far, _ := r.Find("forward-"+load+"-far", "engine")
		if len(near.Samples)+len(far.Samples) == 0 && len(r.Discarded) == 0 {
			t.Errorf("%s: no samples at all", load)
		}
	}
	if !r.Complete {
		t.Errorf("result: %q", r.Problem)
	}
}
