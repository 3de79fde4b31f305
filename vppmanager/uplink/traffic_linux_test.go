package uplink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/internal/netnstest"
)

// patience only ends a run that fails.
const patience = time.Minute

// within runs f in a namespace; nil is the host's.
func within(n *netnstest.Namespace, f func() error) error {
	if n == nil {
		return f()
	}
	return n.Do(f)
}

// datagrams sends UDP to an address and back until an answer comes, by ports that nobody
// chose.
func (r *rig) datagrams(from, to *netnstest.Namespace, target string) {
	r.Helper()
	var server net.PacketConn
	err := within(to, func() (err error) {
		server, err = net.ListenPacket("udp", net.JoinHostPort(target, "0"))
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
	defer server.Close()
	go func() {
		buf := make([]byte, 2048)
		for {
			n, peer, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			server.WriteTo(buf[:n], peer) // one that is lost is sent again
		}
	}()
	var client net.Conn
	err = within(from, func() (err error) {
		client, err = net.Dial("udp", server.LocalAddr().String())
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
	defer client.Close()
	want := fmt.Appendf(nil, "%d", rand.Uint64())
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if _, err := client.Write(want); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			r.Fatalf("send to %s: %v", target, err)
		}
		if err := client.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			r.Fatal(err)
		}
		got := make([]byte, 2048)
		if n, err := client.Read(got); err == nil && bytes.Equal(got[:n], want) {
			return
		}
	}
	r.dump()
	r.Fatalf("no datagram came back from %s", server.LocalAddr())
}

// stream sends 4 MB by TCP and gets them back.
func (r *rig) stream(from, to *netnstest.Namespace, target string) {
	r.Helper()
	var server net.Listener
	err := within(to, func() (err error) {
		server, err = net.Listen("tcp", net.JoinHostPort(target, "0"))
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
	done := make(chan struct{})
	defer func() {
		server.Close()
		<-done
	}()
	go func() {
		defer close(done)
		conn, err := server.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		// Hidden types: between sockets the runtime would keep pipes. What it lacks the other
		// end misses.
		io.Copy(struct{ io.Writer }{conn}, struct{ io.Reader }{conn})
	}()
	var client net.Conn
	err = within(from, func() (err error) {
		client, err = net.DialTimeout("tcp", server.Addr().String(), patience)
		return err
	})
	if err != nil {
		r.dump()
		r.Fatalf("connect to %s: %v", server.Addr(), err)
	}
	defer client.Close()
	if err := client.SetDeadline(time.Now().Add(patience)); err != nil {
		r.Fatal(err)
	}
	sent := make([]byte, 4<<20)
	for i := range sent {
		sent[i] = byte(i * i >> 8)
	}
	failed := make(chan error, 1)
	go func() {
		_, err := client.Write(sent)
		failed <- err
	}()
	got := make([]byte, len(sent))
	_, err = io.ReadFull(client, got)
	if err = errors.Join(err, <-failed); err != nil || !bytes.Equal(got, sent) {
		r.dump()
		r.Fatalf("4 MB to %s and back: %v", server.Addr(), err)
	}
}

// refused sends UDP to a port where nobody listens, and hears so.
func (r *rig) refused(from *netnstest.Namespace, target string) {
	r.Helper()
	var client net.Conn
	err := within(from, func() (err error) {
		client, err = net.Dial("udp", net.JoinHostPort(target, "9"))
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
	defer client.Close()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		_, werr := client.Write([]byte("nobody"))
		if err := client.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			r.Fatal(err)
		}
		_, rerr := client.Read(make([]byte, 1))
		if errors.Is(werr, syscall.ECONNREFUSED) || errors.Is(rerr, syscall.ECONNREFUSED) {
			return
		}
	}
	r.dump()
	r.Fatalf("nobody told that port 9 of %s is closed", target)
}

// expired sends a packet that lives for so many hops, and says who told that it died.
func (r *rig) expired(from *netnstest.Namespace, hops int, target string) string {
	r.Helper()
	args := []string{"-n", "-c", "1", "-W", "2", "-t", fmt.Sprint(hops), target}
	var out string
	for end := time.Now().Add(patience); time.Now().Before(end); {
		out = r.try(from, "ping", args...)
		if _, teller, ok := strings.Cut(out, "From "); ok && strings.Contains(out, "exceeded") {
			teller, _, _ = strings.Cut(teller, " ")
			return strings.TrimSuffix(teller, ":")
		}
	}
	r.dump()
	r.Fatalf("no word of the end of a packet for %d hops to %s:\n%s", hops, target, out)
	return ""
}

// TestIntegrationTraffic sends what a host sends and gets, both ways.
func TestIntegrationTraffic(t *testing.T) {
	eachMachine(t, func(r *rig) {
		out := single(r)
		for _, to := range []string{"203.0.113.1", "2001:db8:f::1"} {
			r.ping(nil, to)
			r.datagrams(nil, out, to)
			r.stream(nil, out, to)
			r.refused(nil, to)
		}
		for _, to := range []string{"192.0.2.9", "2001:db8::9"} {
			r.ping(out, to)
			r.datagrams(out, nil, to)
			r.stream(out, nil, to)
			r.refused(out, to)
		}
		if who := r.expired(nil, 1, "203.0.113.1"); who != "169.254.0.1" {
			t.Errorf("the first hop from the host is %s", who)
		}
		if who := r.expired(out, 1, "192.0.2.9"); who != "192.0.2.9" {
			t.Errorf("the first hop to the host is %s", who)
		}
		r.once(out)
	})
}

// once checks that nothing is answered twice: the kernel does not read the NIC's link
// beside the dataplane.
func (r *rig) once(out *netnstest.Namespace) {
	r.Helper()
	text := r.try(out, "ping", "-n", "-c", "5", "-i", "0.2", "-W", "5", "192.0.2.9")
	if strings.Contains(text, "DUP") {
		r.Errorf("the host answers twice:\n%s", text)
	}
}

// reply is a packet socket's next frame that keep wants, or an error when none comes.
func reply(fd int, keep func([]byte) bool) ([]byte, error) {
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return nil, err
	}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		buf := make([]byte, 2048)
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			continue
		}
		if keep(buf[:n]) {
			return buf[:n], nil
		}
	}
	return nil, context.DeadlineExceeded
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
