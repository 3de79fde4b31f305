package vmtest

import (
	"os"
	"strings"
	"testing"
)

// TestIntegrationVMTaps runs the tests of the node's wiring on real VPP where it has
// /dev/vhost-net, so that the host's links are taps. VPP has to be built for a processor
// without AVX-512, which the guest lacks, and its file may not lie in /tmp, which is the
// guest's own.
func TestIntegrationVMTaps(t *testing.T) {
	bin := os.Getenv("VPP_BIN")
	if bin == "" {
		t.Skip("needs FD.io VPP 25.10: set VPP_BIN to its program")
	}
	g := Boot(t, Machine{Tests: []string{"./vppmanager/uplink"}, MemoryMiB: 3072})
	g.Shell(t, "modprobe -a vhost_net tun veth af_packet && test -c /dev/vhost-net")
	out := g.Run(t, "env", "VPP_BIN="+bin, Tools+"/uplink.test", "-test.v", "-test.run", "^TestIntegrationUplink$/vpp")
	if !strings.Contains(out, "--- PASS: TestIntegrationUplink/vpp") {
		t.Errorf("VPP was not tested:\n%s", out)
	}
}
