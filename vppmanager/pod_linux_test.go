package vppmanager

import (
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/agent/compile"
	"github.com/millrace/millrace/agent/program"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/vpp"
)

// pod connects a pod, as the agent does, and lets it talk to the world, to the node, and be
// talked to.
func (c connected) pod(t *testing.T) {
	t.Helper()
	pod := netnstest.New(t)
	conn, err := vpp.Dial(t.Context(), vpp.Config{Socket: filepath.Join(c.runtimeDir(), "api.sock")})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s := cluster.Snapshot{Nodes: map[string]cluster.Node{"n": {
		Name:      "n",
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.4"), netip.MustParseAddr("2001:db8::4")},
		PodCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd01::/64")},
	}}}.WithAttachments(1, []cluster.Attachment{{
		ID: cluster.AttachmentID{ContainerID: pod.Name, IfName: "eth0"}, Netns: pod.Path,
		Pod:       cluster.PodKey{Namespace: "default", Name: "pod"},
		Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd01::2")}, Revision: 1,
	}})
	c.program(t, conn, s)
	defer c.program(t, conn, cluster.Snapshot{}) // the agent's own links in the host go, too
	for _, to := range []string{"203.0.113.1", "2001:db8:f::1"} {
		ping(t, pod, to)
		stream(t, pod, c.outside, to)
	}
	for _, to := range []string{"192.0.2.4", "2001:db8::4"} {
		ping(t, pod, to)
		stream(t, pod, c.ns, to)
	}
	for _, to := range []string{"10.1.0.2", "fd01::2"} {
		ping(t, c.outside, to)
		stream(t, c.outside, pod, to)
	}
}

// program gives the dataplane the agent's part for a snapshot; an empty one takes it away.
func (c connected) program(t *testing.T, conn *vpp.Conn, s cluster.Snapshot) {
	t.Helper()
	c.ns.Run(t, func() error { // devices are made in the namespace of the dataplane
		p, err := program.New(t.Context(), conn, program.Agent("n"))
		if err != nil {
			return err
		}
		have, err := p.Observe(t.Context())
		if err != nil {
			return err
		}
		var want dataplane.State
		if len(s.Nodes) > 0 {
			if want, err = wish(t, p, s); err != nil {
				return err
			}
		}
		p.Apply(t.Context(), dataplane.Diff(have, want), nil, func(_ dataplane.Step, err error) {
			if err != nil {
				t.Error(err)
			}
		})
		return nil
	})
}

func wish(t *testing.T, p *program.Program, s cluster.Snapshot) (dataplane.State, error) {
	o := compile.Defaults()
	tun, err := p.CanTun(t.Context())
	if err != nil {
		return dataplane.State{}, err
	}
	if !tun {
		o.Device = compile.DeviceVeth
	}
	o.Uplinks = p.Uplinks()
	w, err := compile.Compile(s, "n", o)
	return w.State, err
}
