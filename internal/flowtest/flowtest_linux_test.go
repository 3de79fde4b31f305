package flowtest

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/millrace/millrace/internal/netnstest"
)

// TestIntegrationFlows: over a link that is cut for a while, numbers arrive before and
// after, and none in between.
func TestIntegrationFlows(t *testing.T) {
	netnstest.NeedRoot(t)
	a, b := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, a, "v", b, "v")
	for ns, addr := range map[*netnstest.Namespace]string{a: "10.0.0.1/24", b: "10.0.0.2/24"} {
		ns.Netlink(t, func(h *netlink.Handle) error {
			link, err := h.LinkByName("v")
			if err != nil {
				return err
			}
			ip, err := netlink.ParseAddr(addr)
			if err != nil {
				return err
			}
			return h.AddrAdd(link, ip)
		})
	}
	up := func(up bool) {
		b.Netlink(t, func(h *netlink.Handle) error {
			link, err := h.LinkByName("v")
			if err != nil {
				return err
			}
			if up {
				return h.LinkSetUp(link)
			}
			return h.LinkSetDown(link)
		})
	}
	from, to := End{a, netip.MustParseAddr("10.0.0.1"), 1000}, End{b, netip.MustParseAddr("10.0.0.2"), 2000}
	for _, kind := range []Kind{UDP, Echo, Late, TCP, Ping} {
		f := Start(t, kind, from, to)
		until(t, f, 10)
		up(false)
		time.Sleep(2 * lateness) // no matter how late, what was under way is over
		cut := f.Next()
		time.Sleep(20 * interval)
		back := f.Next()
		if got := f.Arrived(cut, back); len(got) > 0 {
			t.Errorf("%s: %v arrived over a cut link", f.Name, got)
		}
		if missing := f.Missing(0, 10); len(missing) > 0 && kind != TCP {
			t.Errorf("%s: of the first 10 that arrived, %v did not", f.Name, missing)
		}
		up(true)
		until(t, f, 20)
		f.Stop()
	}
}

// until waits for that many arrivals.
func until(t *testing.T, f *Flow, n int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); len(f.Arrived(0, f.Next())) < n; time.Sleep(interval) {
		if time.Now().After(end) {
			t.Fatalf("%s: %d arrived, want %d", f.Name, len(f.Arrived(0, f.Next())), n)
		}
	}
}
