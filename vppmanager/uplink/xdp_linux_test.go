package uplink

import (
	"strings"
	"testing"

	"go.fd.io/govpp/binapi/af_xdp"

	"github.com/millrace/millrace/internal/nodeconfig"
)

// TestIntegrationXDP has the uplink on AF_XDP sockets, with the largest MTU that a plan
// allows there. The machine is killed, and VPP leaves its XDP program on the link: the next one
// finds its way, and speaks with the NIC's address as the first did. The engine's is gone.
func TestIntegrationXDP(t *testing.T) {
	eachMachine(t, func(r *rig) {
		r.needs(&af_xdp.AfXdpCreateV3{})
		out := outside(r)
		const mtu = "1774"
		r.ip(nil, "link", "set", "p-eth0", "mtu", mtu)
		r.ip(out, "link", "set", "wire0", "mtu", mtu)
		if text := r.try(out, "ethtool", "-K", "wire0", "tx", "off"); strings.Contains(text, "annot") {
			r.Fatal(text)
		}
		u := afPacket(0, "eth0", prefixes("192.0.2.9/24", "2001:db8::9/64"), via("0.0.0.0/0", "192.0.2.1", 100), via("::/0", "fe80::1", 1024))
		u.Driver, u.MTU, u.RxQueues, u.RxRing, u.TxRing = nodeconfig.DriverAFXDP, 1774, 1, 1024, 1024
		r.wire(u)
		reach := func() {
			r.Helper()
			r.wired()
			r.ping(nil, "203.0.113.1", "-s", "1746", "-M", "do")
			r.ping(nil, "2001:db8:f::1", "-s", "1726", "-M", "do")
			r.ping(out, "192.0.2.9")
			r.ping(out, "2001:db8::9")
			r.stream(nil, out, "203.0.113.1")
			r.stream(out, nil, "2001:db8::9")
			if text := r.try(out, "ip", "neighbour", "show", "192.0.2.9"); !strings.Contains(text, u.MAC) {
				r.Errorf("the neighbour is %q, not the NIC %s", text, u.MAC)
			}
		}
		reach()
		r.restart()
		text := r.try(nil, "ip", "-d", "link", "show", "p-eth0")
		switch left := strings.Contains(text, "prog/xdp"); {
		case r.machine.Name == "engine" && left:
			r.Errorf("the engine's XDP program outlives it:\n%s", text)
		case r.machine.Name != "engine" && !left:
			r.Errorf("no XDP program is left on the link, so that this test shows less than it says:\n%s", text)
		}
		r.rewire()
		reach()
	})
}
