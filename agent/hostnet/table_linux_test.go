package hostnet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/netnstest"
)

func parse(t *testing.T, text string) dataplane.HostNAT {
	t.Helper()
	s, err := dataplane.ParseState(text)
	if err != nil {
		t.Fatal(err)
	}
	o, ok := s.Object(dataplane.HostNAT{}.Key())
	if !ok {
		t.Fatalf("no host-nat in %q", text)
	}
	return o.(dataplane.HostNAT)
}

const someNAT = `host-nat node masquerade=10.1.0.0/24 masquerade=fd01::/64 keep=10.0.0.0/8 keep=192.0.2.0/25 keep=192.0.2.128/26 keep=224.0.0.0/3 keep=fd00::/8` +
	` port=sctp,[2001:db8::1]:30081,[fd96::1]:81 port=tcp,192.0.2.1:30080,10.96.0.1:80 port=udp,192.0.2.1:30080,10.96.0.1:53 port=tcp,[2001:db8::1]:30080,[fd96::1]:80 arriving=tcp,192.0.2.1:30080,10.1.0.1:30080 arriving=udp,[2001:db8::1]:30080,[fd01::1]:30080`

// written is what stands in the kernel, in words; "" is nothing.
func written(t *testing.T, ns *netnstest.Namespace) string {
	t.Helper()
	var s dataplane.State
	ns.Run(t, func() error {
		h, err := Open(t.TempDir())
		if err == nil {
			h.Observe(&s)
		}
		return err
	})
	return strings.TrimSuffix(s.String(), "\n")
}

func write(t *testing.T, ns *netnstest.Namespace, text string) {
	t.Helper()
	n := parse(t, text)
	ns.Run(t, func() error { return writeTable(n) })
}

func nft(t *testing.T, ns *netnstest.Namespace, args ...string) string {
	t.Helper()
	out, err := ns.Command(t, "nft", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("nft %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// needNFT skips where the kernel, or nft(8) to look at it, lacks nftables.
func needNFT(t *testing.T) *netnstest.Namespace {
	t.Helper()
	ns := netnstest.New(t)
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skipf("needs nft to look: %v", err)
	}
	if out, err := ns.Command(t, "nft", "add table inet probe; add chain inet probe c { type nat hook postrouting priority 0; }; delete table inet probe").CombinedOutput(); err != nil {
		t.Skipf("needs nftables with NAT in the kernel: %v: %s", err, out)
	}
	return ns
}

func TestIntegrationTableIsReadBack(t *testing.T) {
	netnstest.CheckLeaks(t)
	ns := needNFT(t)
	if got := written(t, ns); got != "" {
		t.Fatalf("before anything is written: %s", got)
	}
	for _, text := range []string{
		someNAT, someNAT,
		"host-nat node masquerade=10.1.0.0/24",
		"host-nat node masquerade=0.0.0.0/0 masquerade=::/0 keep=::/1 keep=255.255.255.255/32",
		"host-nat node port=tcp,192.0.2.1:1,10.96.0.1:65535",
	} {
		write(t, ns, text)
		if diff := cmp.Diff(parse(t, text).String(), written(t, ns)); diff != "" {
			t.Errorf("read back (-want +got):\n%s", diff)
		}
	}
}

// TestIntegrationTableIsAsAPersonWouldWriteIt: nft(8) understands what we wrote.
func TestIntegrationTableIsAsAPersonWouldWriteIt(t *testing.T) {
	ns := needNFT(t)
	write(t, ns, someNAT)
	have := nft(t, ns, "list", "table", "inet", "millrace")
	for _, want := range []string{
		"ip saddr @pods4 ip daddr != @keep4 counter packets 0 bytes 0 masquerade fully-random",
		"ip6 saddr @pods6 ip6 daddr != @keep6 counter packets 0 bytes 0 masquerade fully-random",
		"ip daddr . meta l4proto . th dport map @ports4",
		"type nat hook postrouting priority srcnat; policy accept;",
		"ip6 daddr . meta l4proto . th dport map @arriving6", "type nat hook prerouting priority dstnat; policy accept;",
		"type nat hook output priority -100; policy accept;",
		"elements = { 10.0.0.0/8, 192.0.2.0/25,", "224.0.0.0/3 }",
		"192.0.2.1 . tcp . 30080 : 10.96.0.1 . 80",
		"2001:db8::1 . sctp . 30081 : fd96::1 . 81",
	} {
		if !strings.Contains(strings.Join(strings.Fields(have), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("%q is not in\n%s", want, have)
		}
	}
}

// TestIntegrationWhatOthersDidIsSeen: whatever is changed in our table makes it differ from
// the wish, and writing it again mends that.
func TestIntegrationWhatOthersDidIsSeen(t *testing.T) {
	ns, want := needNFT(t), parse(t, someNAT).String()
	for _, harm := range []string{
		"delete table inet millrace",
		"flush chain inet millrace postrouting",
		"flush set inet millrace pods4",
		"delete element inet millrace keep4 { 10.0.0.0/8 }",
		"flush map inet millrace arriving6", "flush chain inet millrace prerouting",
		"delete element inet millrace ports4 { 192.0.2.1 . tcp . 30080 }",
		"add element inet millrace keep6 { 2001:db8::/32 }",
		"add element inet millrace keep4 { 198.51.100.1-198.51.100.6 }",
		"add rule inet millrace postrouting accept",
		"insert rule inet millrace output ip daddr 192.0.2.1 accept",
		"add chain inet millrace more { type filter hook input priority 0; }",
		"chain inet millrace output { policy drop; }",
		"flush ruleset",
	} {
		write(t, ns, someNAT)
		nft(t, ns, harm)
		if got := written(t, ns); got == want {
			t.Errorf("%s: not seen", harm)
		}
		write(t, ns, someNAT)
		if got := written(t, ns); got != want {
			t.Errorf("after %s, written again: %s", harm, got)
		}
	}
	handle := nft(t, ns, "-a", "list", "chain", "inet", "millrace", "postrouting")
	var number string
	for line := range strings.Lines(handle) {
		if strings.Contains(line, "pods4") {
			number = strings.TrimSpace(line[strings.LastIndex(line, " "):])
		}
	}
	nft(t, ns, "replace rule inet millrace postrouting handle "+number+" ip saddr @pods4 ip daddr @keep4 counter masquerade fully-random")
	if got := written(t, ns); got == want {
		t.Errorf("a replaced rule is not seen")
	}
}

func TestIntegrationOthersTablesStay(t *testing.T) {
	ns := needNFT(t)
	nft(t, ns, "add table inet theirs; add chain inet theirs c { type nat hook postrouting priority 100; }; add rule inet theirs c ip saddr 10.9.0.0/16 masquerade")
	nft(t, ns, "add table ip millrace; add chain ip millrace c")
	before := nft(t, ns, "list", "ruleset")
	write(t, ns, someNAT)
	write(t, ns, "host-nat node masquerade=10.1.0.0/24")
	ns.Run(t, deleteTable)
	ns.Run(t, deleteTable)
	if diff := cmp.Diff(before, nft(t, ns, "list", "ruleset")); diff != "" {
		t.Errorf("others' tables (-before +after):\n%s", diff)
	}
}

// TestIntegrationManyPorts: as many as 10,000 services on two addresses have.
func TestIntegrationManyPorts(t *testing.T) {
	ns := needNFT(t)
	n := dataplane.HostNAT{}
	for i := range 20000 {
		to := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 0x0a600000+uint32(i))))
		at := netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", 1+i%2))
		n.Ports = append(n.Ports, dataplane.HostPort{At: netip.AddrPortFrom(at, uint16(20000+i/2)), Protocol: 6, To: netip.AddrPortFrom(to, 80)})
		keep := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 0x0b000000+uint32(2*i))))
		n.Keep = append(n.Keep, netip.PrefixFrom(keep, 32))
	}
	ns.Run(t, func() error { return writeTable(n) })
	if written(t, ns) != n.String() {
		t.Error("what was read back is something else")
	}
}
