package api

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/millrace/millrace/engine/nat"
	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/vnet"
)

// The commands of VPP's cnat plugin that show something, in VPP's words without what only
// its graph and its hash tables have. Where VPP answers a translation's id by calling it
// invalid, and keeps the policy in force to itself, these show both.
func (s *Server) cnatCommands() []command {
	return []command{
		{"show cnat session", "show cnat session [verbose]", s.showCnatSession},
		{"show cnat snat-policy", "show cnat snat-policy", s.showCnatPolicy},
		{"show cnat translation", "show cnat translation [<id>]", s.showCnatTranslation},
	}
}

// hashDefault is VPP's flow hash where none is given: all five fields.
const hashDefault = 0x9f

func (s *Server) showCnatTranslation(args []string) (string, error) {
	only := uint64(vnet.NoIndex)
	if len(args) > 0 {
		n, err := strconv.ParseUint(args[0], 10, 32)
		if err != nil || len(args) > 1 {
			return "", unknownInput(args)
		}
		only = n
	}
	var out strings.Builder
	for t := range s.plane.Translations() {
		if uint32(only) == vnet.NoIndex || uint32(only) == t.ID {
			s.writeTranslation(&out, &t)
		}
	}
	if len(args) > 0 && out.Len() == 0 {
		return "", cliError("Invalid translation ID:" + args[0])
	}
	return out.String(), nil
}

func (s *Server) writeTranslation(out *strings.Builder, t *vnet.Translation) {
	lb := map[uint8]string{0: "default", vnet.LBMaglev: "maglev"}[t.LB]
	if lb == "" {
		lb = "unknown"
	}
	hash := fmt.Sprintf("0x%x", t.HashFields)
	if t.HashFields == 0 || t.HashFields == hashDefault {
		hash = fmt.Sprintf("0x%x(default)", hashDefault)
	}
	fmt.Fprintf(out, "[%d] %s %s lb:%s fhc:%s\n", t.ID, s.endpointText(t.VIP), protocolText(t.Protocol), lb, hash)
	for _, p := range t.Paths {
		fmt.Fprintf(out, "  %s->%s\n", s.endpointText(p.Src), s.endpointText(p.Dst))
	}
}

func (s *Server) endpointText(e vnet.NATEndpoint) string {
	addr := fmt.Sprint("ip", e.Family)
	if e.Addr.IsValid() {
		addr = e.Addr.String()
	}
	if e.Interface != vnet.NoIndex {
		addr = fmt.Sprintf("%s (%s)", s.interfaceText(e.Interface), addr)
	}
	return fmt.Sprintf("%s;%d", addr, e.Port)
}

// interfaceText is an interface's name, or what VPP calls one that is gone.
func (s *Server) interfaceText(index uint32) string {
	i, err := s.plane.Interface(index)
	if err != nil {
		return fmt.Sprintf("DELETED (%d)", index)
	}
	return i.Name
}

func protocolText(n uint8) string {
	switch n {
	case packet.ProtoTCP:
		return "TCP"
	case packet.ProtoUDP:
		return "UDP"
	case packet.ProtoSCTP:
		return "SCTP"
	case packet.ProtoICMP:
		return "ICMP"
	case packet.ProtoICMPv6:
		return "ICMP6"
	}
	return fmt.Sprintf("protocol %d", n)
}

func (s *Server) showCnatSession(args []string) (string, error) {
	if len(args) > 1 || len(args) == 1 && args[0] != "verbose" {
		return "", unknownInput(args)
	}
	var list strings.Builder
	n := 0
	for i := range s.plane.NATSessions() {
		n++
		if len(args) == 0 {
			continue
		}
		where := "input"
		if i.Output {
			where = "output"
		}
		fmt.Fprintf(&list, "  session:[%s -> %s, %s] => %s -> %s %s age:%d of:%d\n", portText(i.Src), portText(i.Dst),
			protocolText(i.Proto), portText(i.NewSrc), portText(i.NewDst), where, i.Idle, i.Lifetime)
	}
	return fmt.Sprintf("CNat Sessions:\n%s    %d active elements\n", list.String(), n), nil
}

func portText(a netip.AddrPort) string { return fmt.Sprintf("%v;%d", a.Addr(), a.Port()) }

func (s *Server) showCnatPolicy([]string) (string, error) {
	source, policy := s.plane.NATSource(), s.plane.NATPolicy()
	text := func(a netip.Addr, f vnet.Family) string {
		if !a.IsValid() && source.Interface == vnet.NoIndex {
			return "none"
		}
		return s.endpointText(vnet.NATEndpoint{Addr: a, Interface: source.Interface, Family: f})
	}
	var out strings.Builder
	fmt.Fprintf(&out, "Source NAT\n  ip4: %s\n  ip6: %s\n", text(source.IPv4, vnet.IPv4), text(source.IPv6, vnet.IPv6))
	name := map[nat.PolicyKind]string{nat.PolicyNone: "none", nat.PolicyInterfaces: "if-pfx", nat.PolicyKubernetes: "k8s"}
	fmt.Fprintf(&out, "  policy: %s\n\nExcluded prefixes:\n", name[policy.Kind])
	for _, p := range s.plane.NATExcluded() {
		fmt.Fprintf(&out, "  %v\n", p)
	}
	for _, set := range []struct {
		title string
		set   nat.Interfaces
	}{{"Included v4", policy.Include4}, {"Included v6", policy.Include6}, {"k8s pod", policy.Pods}, {"k8s host", policy.Host}} {
		fmt.Fprintf(&out, "\n%s interfaces:\n", set.title)
		for i := range s.plane.Interfaces() {
			if set.set.Has(i.Index) {
				fmt.Fprintf(&out, "  %s\n", i.Name)
			}
		}
	}
	return out.String(), nil
}
