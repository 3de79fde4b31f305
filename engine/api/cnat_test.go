package api

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.fd.io/govpp/binapi/cnat"
	"go.fd.io/govpp/binapi/feature"
	"go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip_types"
)

// natService is a translation of TCP to backends with port 8080.
func natService(t *testing.T, vip string, port uint16, backends ...string) cnat.CnatTranslation {
	t.Helper()
	at := func(addr string, port uint16) cnat.CnatEndpoint {
		return cnat.CnatEndpoint{Addr: address(t, addr), SwIfIndex: interface_types.InterfaceIndex(none32), Port: port}
	}
	w := cnat.CnatTranslation{Vip: at(vip, port), IPProto: ip_types.IP_API_PROTO_TCP, LbType: cnat.CNAT_LB_TYPE_MAGLEV}
	for _, b := range backends {
		w.Paths = append(w.Paths, cnat.CnatEndpointTuple{DstEp: at(b, 8080), SrcEp: at("::", 0)})
	}
	return w
}

func TestCnatRefuses(t *testing.T) {
	s := testServer(t)
	update := func(w cnat.CnatTranslation) error {
		var r cnat.CnatTranslationUpdateReply
		err := s.cnatTranslationUpdate(nil, &cnat.CnatTranslationUpdate{Translation: w}, &r)
		if err != nil && r.ID != none32 {
			t.Errorf("refused, but has the id %d", r.ID)
		}
		return err
	}
	none, proto, family := natService(t, "10.96.0.1", 80), natService(t, "10.96.0.1", 80, "10.0.0.2"), natService(t, "10.96.0.1", 80, "10.0.0.2")
	proto.IPProto = 61
	family.Paths[0].SrcEp = cnat.CnatEndpoint{SwIfIndex: 1, IfAf: 9}
	excluded := func(prefix ip_types.Prefix) error {
		return s.cnatSnatPolicyAddDelExcludePfx(nil, &cnat.CnatSnatPolicyAddDelExcludePfx{IsAdd: 1, Prefix: prefix}, nil)
	}
	long := ip_types.Prefix{Address: address(t, "10.0.0.0"), Len: 33}
	for what, c := range map[string]struct {
		err  error
		want int32
	}{
		"no paths":          {update(none), -7},
		"unknown protocol":  {update(proto), -153},
		"unknown family":    {update(family), -97},
		"prefix too long":   {excluded(long), -171},
		"prefix of nobody":  {excluded(ip_types.Prefix{Address: ip_types.Address{Af: 7}}), -97},
		"a feature of VPP":  {s.featureEnableDisable(nil, &feature.FeatureEnableDisable{ArcName: "ip4-unicast", FeatureName: "ip4-inacl"}, nil), -7},
		"unknown interface": {s.featureEnableDisable(nil, &feature.FeatureEnableDisable{SwIfIndex: 5, ArcName: "ip4-unicast", FeatureName: "cnat-input-ip4"}, nil), -2},
	} {
		if got := quietSession(t, s).retval(s.table.entries[0], c.err); got != c.want {
			t.Errorf("%s: %v, want retval %d", what, c.err, c.want)
		}
	}
}

func TestCnatCommands(t *testing.T) {
	s := testServer(t)
	c := quietSession(t, s)
	named := natService(t, "10.96.0.2", 81, "10.0.0.2")
	named.Vip = cnat.CnatEndpoint{SwIfIndex: 1, IfAf: ip_types.ADDRESS_IP6, Port: 53}
	named.IPProto, named.LbType, named.FlowHashConfig = ip_types.IP_API_PROTO_UDP, cnat.CNAT_LB_TYPE_DEFAULT, 1
	named.Paths[0].DstEp = cnat.CnatEndpoint{SwIfIndex: 77, Port: 5}
	for _, m := range []wireMessage{
		&interfaces.CreateLoopback{},
		&cnat.CnatTranslationUpdate{Translation: natService(t, "10.96.0.1", 80, "10.0.0.2", "10.0.0.3")},
		&cnat.CnatTranslationUpdate{Translation: named},
		&cnat.CnatSnatPolicyAddDelExcludePfx{IsAdd: 1, Prefix: ip_types.Prefix{Address: address(t, "10.1.2.3"), Len: 8}},
		&cnat.CnatSetSnatPolicy{Policy: cnat.CNAT_POLICY_K8S},
		&cnat.CnatSnatPolicyAddDelIf{SwIfIndex: 1, IsAdd: 1, Table: cnat.CNAT_POLICY_POD},
		&cnat.CnatSetSnatAddresses{SnatIP4: ip_types.IP4Address{192, 0, 2, 1}, SwIfIndex: interface_types.InterfaceIndex(none32)},
		&cnat.CnatSessionPurge{},
	} {
		c.dispatch(encoded(t, s, m))
	}
	const want = `[0] 10.96.0.1;80 TCP lb:maglev fhc:0x9f(default)
  ::;0->10.0.0.2;8080
  ::;0->10.0.0.3;8080
[1] loop0 (ip6);53 UDP lb:default fhc:0x1
  ::;0->DELETED (77) (ip4);5
[1] loop0 (ip6);53 UDP lb:default fhc:0x1
  ::;0->DELETED (77) (ip4);5
CNat Sessions:
    0 active elements
Source NAT
  ip4: 192.0.2.1;0
  ip6: none
  policy: k8s

Excluded prefixes:
  10.0.0.0/8

Included v4 interfaces:

Included v6 interfaces:

k8s pod interfaces:
  loop0

k8s host interfaces:
`
	got := ""
	for _, line := range []string{"show cnat translation", "show cnat translation 1", "show cnat session verbose", "show cnat snat-policy"} {
		out, err := s.runCommand(line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
		got += out
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("commands show (-want +got):\n%s", diff)
	}
	for _, line := range []string{"show cnat translation 2", "show cnat translation x", "show cnat session all"} {
		if out, err := s.runCommand(line); err == nil {
			t.Errorf("%s shows %q", line, out)
		}
	}
}
