package vnet

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/engine/port/tap"
	"github.com/millrace/millrace/internal/netnstest"
)

// tapLink adds a TUN or TAP interface whose host end is in a namespace of its own.
func (r *rig) tapLink(n *netnstest.Namespace, flags tap.Flags, host, ours, host6, ours6, gw, gw6 string) uint32 {
	r.Helper()
	d, err := tap.Open(tap.Config{
		HostIfName: "eth0", Namespace: n.Path, Flags: flags, HostPrefix4: pfx(host), HostPrefix6: pfx(host6),
		HostGateway4: netip.MustParseAddr(gw), HostGateway6: netip.MustParseAddr(gw6),
	})
	r.must(err)
	r.links++
	i, err := r.p.AddInterface(InterfaceSpec{Name: fmt.Sprintf("tap%d", r.links), DeviceType: "virtio", LinkUp: true, MTU: 1500}, d)
	if err != nil {
		r.must(errors.Join(err, d.Close()))
	}
	r.must(r.p.AddAddress(i, pfx(ours)))
	r.must(r.p.AddAddress(i, pfx(ours6)))
	r.must(r.p.SetAdminUp(i, true))
	return i
}

// Two hosts behind two TUN (or TAP) devices reach each other through the engine: ping of
// both families, then a TCP transfer each way.
func TestIntegrationTwoHosts(t *testing.T) {
	netnstest.NeedTun(t)
	for name, flags := range map[string]tap.Flags{
		"TUN with GSO": tap.TUN | tap.GSO, "TUN": tap.TUN, "TAP with GSO": tap.GSO, "TAP": 0,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 2)
			a, b := netnstest.New(t), netnstest.New(t)
			ia := r.tapLink(a, flags, "10.0.0.2/24", "10.0.0.1/24", "fd00:a::2/64", "fd00:a::1/64", "10.0.0.1", "fd00:a::1")
			ib := r.tapLink(b, flags, "10.0.1.2/24", "10.0.1.1/24", "fd00:b::2/64", "fd00:b::1/64", "10.0.1.1", "fd00:b::1")
			t.Cleanup(func() {
				r.must(r.p.DeleteInterface(ia))
				r.must(r.p.DeleteInterface(ib))
			})
			for _, dst := range []string{"10.0.1.2", "fd00:b::2", "10.0.0.1", "fd00:a::1"} {
				if out, err := a.Command(t, "ping", "-c", "3", "-i", "0.2", "-W", "2", dst).CombinedOutput(); err != nil {
					t.Fatalf("ping %s: %v\n%s%s", dst, err, out, r.why())
				}
			}
			const size = 256 << 20
			for _, dst := range []string{"10.0.1.2", "fd00:b::2"} {
				speed := transfer(t, a, b, dst, size)
				t.Logf("TCP to %s: %.2f Gbit/s", dst, speed)
			}
			transfer(t, b, a, "10.0.0.2", size/4)
			if i, err := r.p.Interface(ia); err != nil || (i.Link == port.IP) != (flags&tap.TUN != 0) {
				t.Errorf("interface %+v, %v", i, err)
			}
			r.wantCount("batches dropped after an internal error", 0)
		})
	}
}

// transfer sends size bytes from one namespace to a listener in another and returns
// Gbit/s.
func transfer(t *testing.T, from, to *netnstest.Namespace, dst string, size int64) float64 {
	t.Helper()
	var l net.Listener
	to.Run(t, func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(dst, "0"))
		return err
	})
	defer l.Close()
	got := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			got <- err
			return
		}
		defer c.Close()
		n, err := io.Copy(io.Discard, c)
		if err == nil && n != size {
			err = fmt.Errorf("%d bytes came, want %d", n, size)
		}
		got <- err
	}()
	var c net.Conn
	from.Run(t, func() (err error) {
		c, err = net.DialTimeout("tcp", l.Addr().String(), 5*time.Second)
		return err
	})
	begin := time.Now()
	chunk := make([]byte, 256<<10)
	for left := size; left > 0; left -= int64(len(chunk)) {
		if _, err := c.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
	return float64(size) * 8 / time.Since(begin).Seconds() / 1e9
}
