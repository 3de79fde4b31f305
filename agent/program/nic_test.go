package program

import (
	"testing"

	"github.com/millrace/millrace/dataplane"
)

func TestNICTag(t *testing.T) {
	p := &Program{id: Node("")}
	for _, d := range []dataplane.NIC{
		{Driver: dataplane.NICDPDK, Port: "uplink0"},
		{Driver: dataplane.NICDPDK, Port: "uplink0", Promiscuous: true},
		{Driver: dataplane.NICAFPacket, Port: "p-eth0", RxQueues: 1, TxQueues: 2},
		{Driver: dataplane.NICRDMA, Port: "0123456789abcde", RxQueues: 256, TxQueues: 256, RxRing: 32768, TxRing: 32768},
		{Driver: dataplane.NICAFXDP, Port: "eth0", RxQueues: 4, RxRing: 1024, TxRing: 1024},
		{Driver: dataplane.NICAFXDP, Port: "eth0", RxQueues: 4, RxRing: 1024, TxRing: 1024, Share: true},
		{Driver: dataplane.NICAVF, Port: "0000:3b:02.1"},
	} {
		o := dataplane.Interface{Name: "uplink10", Device: d}
		text := p.tag(o)
		if len(text) > tagMax {
			t.Errorf("tag %s has %d bytes, and VPP keeps %d", text, len(text), tagMax)
		}
		name, settings, ours := p.parseTag(text)
		back, ok := parseNICSettings(settings)
		if name != o.Name || !ours || !ok || back.NIC != d {
			t.Errorf("tag %s is read back as %s %+v, %v %v", text, name, back.NIC, ours, ok)
		}
		if _, _, agents := (&Program{id: Agent("")}).parseTag(text); agents {
			t.Errorf("the agent takes %s for its own", text)
		}
	}
	for _, bad := range []string{"", "d", "z,uplink0,0,0,0,0", "d,uplink0,0,0,0", "d,uplink0,0,0,0,65536", "AQEJCAA"} {
		if s, ok := parseNICSettings(bad); ok {
			t.Errorf("%q is read as %+v", bad, s.NIC)
		}
	}
}
