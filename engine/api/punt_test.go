package api

import (
	"testing"

	"go.fd.io/govpp/binapi/ip_types"
	"go.fd.io/govpp/binapi/punt"
)

func puntOf(l punt.PuntL4) punt.Punt {
	return punt.Punt{Type: punt.PUNT_API_TYPE_L4, Punt: punt.PuntUnionL4(l)}
}

func TestSetPuntRetvals(t *testing.T) {
	_, path := start(t)
	ch := channel(t, connect(t, path))
	const tcp, udp = ip_types.IP_API_PROTO_TCP, ip_types.IP_API_PROTO_UDP
	proto := func(p punt.PuntIPProto) punt.Punt {
		return punt.Punt{Type: punt.PUNT_API_TYPE_IP_PROTO, Punt: punt.PuntUnionIPProto(p)}
	}
	for _, c := range []struct {
		what string
		punt punt.Punt
		want int32
	}{
		{"all UDP", puntOf(punt.PuntL4{Protocol: udp, Port: 0xffff}), 0},
		{"all UDP of IPv6", puntOf(punt.PuntL4{Af: ip_types.ADDRESS_IP6, Protocol: udp, Port: 0xffff}), 0},
		{"all TCP", puntOf(punt.PuntL4{Protocol: tcp, Port: 0xffff}), 0},
		{"one port of TCP", puntOf(punt.PuntL4{Protocol: tcp, Port: 80}), -1},
		{"no transport", puntOf(punt.PuntL4{Protocol: ip_types.IP_API_PROTO_ICMP, Port: 0xffff}), -1},
		{"no protocol", puntOf(punt.PuntL4{Protocol: 61, Port: 0xffff}), -153},
		{"not assigned", puntOf(punt.PuntL4{Protocol: 252, Port: 0xffff}), -153},
		{"for experiments", puntOf(punt.PuntL4{Protocol: 253, Port: 0xffff}), -1},
		{"no family", puntOf(punt.PuntL4{Af: 9, Protocol: 61, Port: 0xffff}), -97},
		{"OSPF", proto(punt.PuntIPProto{Protocol: ip_types.IP_API_PROTO_OSPF}), -1},
		{"no protocol of IP", proto(punt.PuntIPProto{Protocol: 144}), -153},
		{"no family of IP", proto(punt.PuntIPProto{Af: 9}), -97},
		{"exception", punt.Punt{Type: punt.PUNT_API_TYPE_EXCEPTION}, -1},
		{"no type", punt.Punt{Type: 3}, -1},
	} {
		for _, add := range []bool{true, true, false, false} {
			if got := call(t, ch, &punt.SetPunt{IsAdd: add, Punt: c.punt}, &punt.SetPuntReply{}); got != c.want {
				t.Errorf("%s, add %v: retval %d, want %d", c.what, add, got, c.want)
			}
		}
	}
	one := puntOf(punt.PuntL4{Protocol: udp, Port: 53})
	if got := call(t, ch, &punt.SetPunt{Punt: one}, &punt.SetPuntReply{}); got != 0 {
		t.Errorf("remove a port that was never added: retval %d", got)
	}
	// VPP does it; a success here would be a lie.
	if got := call(t, ch, &punt.SetPunt{IsAdd: true, Punt: one}, &punt.SetPuntReply{}); got != -9 {
		t.Errorf("one port of UDP: retval %d, want -9", got)
	}
}
