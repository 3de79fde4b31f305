package agent

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"go.fd.io/govpp/binapi/ip_neighbor"
	"go.fd.io/govpp/binapi/ip_types"
	binapi "go.fd.io/govpp/binapi/memif"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/internal/memifspec"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/memif"
	"github.com/millrace/millrace/vpp"
)

// TestIntegrationMemifNeighbors: what a memif learned of a peer goes with that peer's link,
// since the next peer may have another MAC address.
func TestIntegrationMemifNeighbors(t *testing.T) {
	for _, m := range machinetest.All(t) {
		t.Run(m.Name, func(t *testing.T) {
			ns, d := netnstest.New(t), newDoors()
			m.Start(t)
			conn := m.Connect(t)
			if missing := conn.Supports(&binapi.MemifCreateV2{}); len(missing) > 0 {
				t.Skipf("this %s lacks %s", m.Name, missing[0])
			}
			l := start(t, m.Socket, d)
			spec := memifspec.Default()
			spec.Name = "memif0"
			a := pod(ns, 2)
			a.Memifs = []cluster.Memif{{Spec: spec, Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.9"), netip.MustParseAddr("fd01::9")}}}
			l.mustApply(t, d.change(a, true))
			for range 2 {
				hangUp := connect(t, ns, "@millrace/memif0")
				// What the agent still does about the last peer may come between.
				for end := time.Now().Add(20 * time.Second); learned(t, conn) != 2; {
					if time.Now().After(end) {
						t.Fatalf("%d neighbours after two were learned", learned(t, conn))
					}
					learn(t, conn, a.Memifs[0].Addresses...)
				}
				hangUp()
				for end := time.Now().Add(20 * time.Second); learned(t, conn) != 0; time.Sleep(10 * time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("%d neighbours are left of a peer that has gone", learned(t, conn))
					}
				}
			}
			idle(t, m, d)
		})
	}
}

// connect brings the link up; the returned function ends it.
func connect(t *testing.T, ns *netnstest.Namespace, address string) (hangUp func()) {
	t.Helper()
	up, hungUp := make(chan struct{}), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	at := memif.SocketConfig{Role: memif.Client, Address: address, Netns: ns.Path, Retry: 20 * time.Millisecond}
	config := memif.Config{OnChange: func(s memif.Status) {
		if s.Up {
			close(up)
		}
	}}
	go func() {
		hungUp <- memif.Attach(ctx, at, config, func(ctx context.Context, _ *memif.RxQueue, _ *memif.TxQueue) error {
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	hangUp = func() {
		cancel()
		if err := <-hungUp; err != nil {
			t.Error(err)
		}
		hungUp <- nil // for another call
	}
	t.Cleanup(hangUp)
	select {
	case <-up:
	case <-time.After(20 * time.Second):
		t.Fatal("no link")
	}
	return hangUp
}

// theMemif is the machine's only one.
func theMemif(t *testing.T, conn *vpp.Conn) *binapi.MemifDetails {
	t.Helper()
	for d, err := range vpp.Dump[binapi.MemifDetails](t.Context(), conn, &binapi.MemifDump{}) {
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	t.Fatal(errors.New("there is no memif"))
	return nil
}

// learn has the machine know neighbours as if it had asked for them.
func learn(t *testing.T, conn *vpp.Conn, addrs ...netip.Addr) {
	t.Helper()
	for _, a := range addrs {
		ip, err := ip_types.ParseAddress(a.String())
		if err != nil {
			t.Fatal(err)
		}
		_, err = vpp.Call[ip_neighbor.IPNeighborAddDelReply](t.Context(), conn, &ip_neighbor.IPNeighborAddDel{IsAdd: true,
			Neighbor: ip_neighbor.IPNeighbor{SwIfIndex: theMemif(t, conn).SwIfIndex, MacAddress: [6]byte{2, 0, 0, 0, 0, 1}, IPAddress: ip}})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// learned counts the neighbours on the memif.
func learned(t *testing.T, conn *vpp.Conn) (n int) {
	t.Helper()
	index := theMemif(t, conn).SwIfIndex
	for _, af := range []ip_types.AddressFamily{ip_types.ADDRESS_IP4, ip_types.ADDRESS_IP6} {
		for _, err := range vpp.Dump[ip_neighbor.IPNeighborDetails](t.Context(), conn, &ip_neighbor.IPNeighborDump{SwIfIndex: index, Af: af}) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	return n
}
