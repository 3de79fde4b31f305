package vmtest

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/vppmanager/host"
)

// realVPP is VPP_BIN, which has to be built for a processor without AVX-512, which the
// guest lacks, and may not lie in /tmp, which is the guest's own. The test is skipped
// without it, and where it lacks a plugin.
func realVPP(t *testing.T, plugins ...string) string {
	t.Helper()
	bin := os.Getenv("VPP_BIN")
	if bin == "" {
		t.Skip("needs FD.io VPP 25.10: set VPP_BIN to its program")
	}
	node, err := host.Machine().Inspect(host.Query{VPP: bin})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range plugins {
		if !slices.Contains(node.Plugins, p) {
			t.Skipf("needs a VPP with the plugin %s: that of VPP_BIN (%s) has %q", p, bin, node.Plugins)
		}
	}
	return bin
}

// TestIntegrationVMTaps runs the tests of the node's wiring on real VPP where it has
// /dev/vhost-net, so that the host's links are taps.
func TestIntegrationVMTaps(t *testing.T) {
	bin := realVPP(t)
	g := Boot(t, Machine{Tests: []string{"./vppmanager/uplink"}, MemoryMiB: 3072})
	g.Shell(t, "modprobe -a vhost_net tun veth af_packet && test -c /dev/vhost-net")
	out := g.Run(t, "env", "VPP_BIN="+bin, Tools+"/uplink.test", "-test.v", "-test.run", "^TestIntegrationUplink$/vpp")
	if !strings.Contains(out, "--- PASS: TestIntegrationUplink/vpp") {
		t.Errorf("VPP was not tested:\n%s", out)
	}
}

// TestIntegrationVMVPP has the manager boot real VPP with DPDK on both NICs, with an agent
// and a pod beside the host, and give the NICs back, whatever ends it.
func TestIntegrationVMVPP(t *testing.T) {
	bin := realVPP(t, "dpdk")
	if _, err := exec.LookPath("iperf3"); err != nil {
		t.Skip("needs iperf3: make setup installs it on Debian 12")
	}
	g := Boot(t, Machine{IOMMU: true, Cards: Standard(), MemoryMiB: 3072, Tools: []string{"./cmd/millrace", "./cmd/millrace-cni"}})
	w := ways{config: configFor(bin, "", "e0", "v0"), driver: "vfio-pci"}
	steps(t, g, w.config, step{"pods", w.pods}, step{"kill manager", w.killsManager})
}

// pods: host and pod reach the wires over taps that the kernel's vhost serves, go on when
// VPP was killed, and the NICs come back.
func (w ways) pods(t *testing.T, g *Guest, before State) {
	m := startManager(t, g)
	carries(t, g, w.driver, before)
	streams(t, g, "fd00::2", "e0", "e0far")
	streams(t, g, "10.0.1.2", "v0", "v0far")
	a := startAgent(t, g)
	a.carries(t)
	m.hasTaps()
	g.Run(t, "kill", "-9", m.dataplane())
	m.ready(2)
	carries(t, g, w.driver, before)
	a.carries(t)
	m.hasTaps()
	a.leave(t)
	m.stop()
	g.Returns(t, before)
}

// hasTaps wants the host's links to be taps, whose packets go by /dev/vhost-net.
func (m managed) hasTaps() {
	m.t.Helper()
	for _, link := range []string{"e0", "v0"} {
		m.g.Run(m.t, "cat", "/sys/class/net/"+link+"/tun_flags")
	}
	if files := m.g.Run(m.t, "ls", "-l", "/proc/"+m.dataplane()+"/fd"); strings.Count(files, "/dev/vhost-net") < 3 {
		m.t.Errorf("the dataplane serves its taps without vhost:\n%s", files)
	}
}
