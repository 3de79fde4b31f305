package scenario

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/millrace/millrace/benchmarks/rig"
	"github.com/millrace/millrace/internal/netnstest"
)

// TestIntegrationRestart kills the engine once: the pods' pause and the memif's are there,
// each also as the longest.
func TestIntegrationRestart(t *testing.T) {
	netnstest.NeedRoot(t)
	netnstest.NeedTun(t)
	dir := buildBinaries(t)
	r, err := Restart{
		Title: "test", Kills: 1, Pods: 1, Progress: func(Progress) {},
		Subjects: func() []*rig.Millrace {
			return []*rig.Millrace{{Binary: dir + "/millrace", PluginDir: dir, Dataplane: "engine"}}
		},
	}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{podsCutOff, memifCutOff, podsCutOff + "-longest", memifCutOff + "-longest"} {
		if m, ok := r.Find(name, "engine"); !ok || len(m.Samples) != 1 || m.Samples[0] <= 0 {
			t.Errorf("%s is %+v, want one sample", name, m)
		}
	}
	if !r.Complete {
		t.Error("the run is not complete")
	}
}

// buildBinaries builds the product and returns where.
func buildBinaries(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-o", dir+"/", "../../cmd/millrace", "../../cmd/millrace-cni")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the product: %v: %s", err, out)
	}
	return dir
}

func TestLongestPause(t *testing.T) {
	out := "PING 10.244.0.3 (10.244.0.3) 56(84) bytes of data.\n" +
		"[1764000000.000100] 64 bytes from 10.244.0.3: icmp_seq=1 ttl=63 time=0.05 ms\n" +
		"[1764000000.002100] 64 bytes from 10.244.0.3: icmp_seq=2 ttl=63 time=0.05 ms\n" +
		"[1764000000.500000] From 10.244.0.1 icmp_seq=9 Destination Host Unreachable\n" +
		"[1764000001.252100] 64 bytes from 10.244.0.3: icmp_seq=600 ttl=63 time=0.05 ms\n" +
		"[1764000001.254100] 64 bytes from 10.244.0.3: icmp_seq=601 ttl=63 time=0.05 ms\n"
	pause, last, err := longestPause([]byte(out))
	if err != nil || pause != 1250*time.Millisecond || !last.Equal(time.Unix(1764000001, 254100000)) {
		t.Errorf("%v, %v, %v", pause, last, err)
	}
	if _, _, err := longestPause([]byte("PING\n")); err == nil {
		t.Error("no answer is a pause")
	}
}
