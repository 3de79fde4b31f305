package uplink

import (
	"testing"

	"github.com/millrace/millrace/internal/netnstest"
)

// outside is the network that one uplink leads to: a router with the addresses .1 and ::1,
// and others behind it.
func outside(r *rig) *netnstest.Namespace {
	r.Helper()
	out := netnstest.New(r.T)
	r.cable("p-eth0", "02:00:00:00:01:00", out, "wire0")
	for _, a := range []string{"192.0.2.1/24", "2001:db8::1/64", "fe80::1/64"} {
		r.ip(out, "addr", "add", a, "dev", "wire0", "nodad")
	}
	for _, a := range []string{"203.0.113.1/32", "2001:db8:f::1/128"} {
		r.ip(out, "addr", "add", a, "dev", "lo", "nodad")
	}
	return out
}

func single(r *rig) *netnstest.Namespace {
	r.Helper()
	out := outside(r)
	r.wire(afPacket(0, "eth0", prefixes("192.0.2.9/24", "2001:db8::9/64"), via("0.0.0.0/0", "192.0.2.1", 100), via("::/0", "fe80::1", 1024)))
	return out
}

func TestIntegrationUplink(t *testing.T) {
	eachMachine(t, func(r *rig) {
		out := single(r)
		r.wired()
		for _, to := range []string{"192.0.2.1", "203.0.113.1", "2001:db8::1", "2001:db8:f::1"} {
			r.ping(nil, to)
		}
		for _, to := range []string{"192.0.2.9", "2001:db8::9"} {
			r.ping(out, to)
		}
	})
}
