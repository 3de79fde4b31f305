package dataplane

import (
	"strings"
	"testing"
)

func TestHostTextForm(t *testing.T) {
	text := `interface host device=loopback mtu=1500
host-setting net/ipv4/conf/millrace0/rp_filter value=2 interface=host
host-setting net/ipv4/ip_forward value=1
host-nat node masquerade=10.1.0.0/24 masquerade=fd01::/64 keep=10.0.0.0/8 port=sctp,[2001:db8::1]:30081,[fd96::1]:81 port=tcp,192.0.2.1:30080,10.96.0.1:80 arriving=udp,192.0.2.1:30080,10.1.0.1:30080
`
	s, err := ParseState(text)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.String(); got != text {
		t.Errorf("got:\n%s\nwant:\n%s", got, text)
	}
}

func TestHostChecks(t *testing.T) {
	nat := "host-nat node "
	tests := []struct{ line, want string }{
		{nat, "translates nothing"},
		{nat + "keep=10.0.0.0/8", "translates nothing"},
		{"host-nat other masquerade=10.0.0.0/8", "want node"},
		{nat + "masquerade=10.1.2.3/8", "host bits"},
		{nat + "masquerade=10.0.0.0/8 masquerade=10.1.0.0/16", "masquerade 10.1.0.0/16 lies in 10.0.0.0/8"},
		{nat + "masquerade=10.0.0.0/8 keep=fd00::/8 keep=fd01::/16", "keep fd01::/16 lies in fd00::/8"},
		{nat + "port=icmp,192.0.2.1:1,10.96.0.1:1", "want tcp, udp or sctp"},
		{nat + "port=tcp,192.0.2.1:0,10.96.0.1:1", "with their ports"},
		{nat + "port=tcp,192.0.2.1:1,[fd96::1]:1", "of one family"},
		{nat + "port=tcp,192.0.2.1:1", "want protocol,"},
		{nat + "port=tcp,192.0.2.1:1,10.96.0.1:1 port=tcp,192.0.2.1:1,10.96.0.1:2", "stands twice"},
		{nat + "arriving=tcp,192.0.2.1:1,10.96.0.1:1 arriving=tcp,192.0.2.1:1,10.96.0.1:2", "arriving tcp,192.0.2.1:1,10.96.0.1:2 stands twice"},
		{"host-setting net/ipv4/ip_forward", "want a line"},
		{"host-setting kernel/panic value=1", "below net/"},
		{"host-setting net/../kernel/panic value=1", "want a path"},
		{"host-setting /net/x value=1", "want a path"},
		{"host-setting net/x value=1 interface=gone", "interface gone is not there"},
	}
	for _, tt := range tests {
		if _, err := ParseState(tt.line); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want one with %q", tt.line, err, tt.want)
		}
	}
}
