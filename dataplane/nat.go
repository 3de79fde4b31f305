package dataplane

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/millrace/millrace/internal/textline"
)

// Translation sends what comes in for an address and port of a service to one of its
// backends. It is in force on the interfaces that have a NATInterface.
type Translation struct {
	VIP      netip.AddrPort // the service's address and port
	Protocol uint8          // of IP: 6 TCP, 17 UDP or 132 SCTP
	Backends []netip.AddrPort
	// ByClient chooses the backend by the client's address alone, so that all connections
	// of a client go to the same one as long as the backends stay. Else the whole flow
	// decides.
	ByClient bool
}

var translated = map[uint8]string{6: "tcp", 17: "udp", 132: "sctp"}

// Key of a translation is its protocol with address and port.
func (t Translation) Key() Key {
	return Key{KindTranslation, protocolName(t.Protocol) + " " + t.VIP.String()}
}
func (t Translation) String() string { return t.line().String() }

func protocolName(p uint8) string {
	if name, ok := translated[p]; ok {
		return name
	}
	return fmt.Sprintf("protocol-%d", p)
}

func parseProtocol(s string) (uint8, error) {
	for p, name := range translated {
		if name == s {
			return p, nil
		}
	}
	return 0, fmt.Errorf("protocol %q: want tcp, udp or sctp", s)
}

func (t Translation) line() textline.Line {
	l := textline.New("translation", protocolName(t.Protocol), t.VIP.String())
	addSorted(&l, "backend", t.Backends)
	if t.ByClient {
		l.Add("by-client", "true")
	}
	return l
}

func (t Translation) check() error {
	if err := checkEndpoint(t.VIP); err != nil {
		return err
	}
	if _, ok := translated[t.Protocol]; !ok {
		return fmt.Errorf("%s: only tcp, udp and sctp are translated", protocolName(t.Protocol))
	}
	if len(t.Backends) == 0 { // VPP 25.10 aborts on it
		return fmt.Errorf("it has no backend; without any there is no translation")
	}
	seen := map[netip.AddrPort]bool{}
	for _, b := range t.Backends {
		switch err := checkEndpoint(b); {
		case err != nil:
			return fmt.Errorf("backend %s: %w", b, err)
		case b.Addr().Is4() != t.VIP.Addr().Is4():
			return fmt.Errorf("backend %s is of another family", b)
		case seen[b]:
			return fmt.Errorf("backend %s stands twice", b)
		}
		seen[b] = true
	}
	return nil
}

func readTranslation(words []string, r *textline.Reader) (Object, error) {
	t := Translation{Backends: textline.All(r, "backend", netip.ParseAddrPort), ByClient: textline.One(r, "by-client", parseTrue)}
	var err error
	if t.Protocol, err = parseProtocol(words[0]); err == nil {
		t.VIP, err = netip.ParseAddrPort(words[1])
	}
	return t, err
}

func checkEndpoint(a netip.AddrPort) error {
	if !a.IsValid() || a.Addr().IsUnspecified() || a.Addr().Is4In6() || a.Addr().Zone() != "" || a.Port() == 0 {
		return fmt.Errorf("%s: want an address without a zone and a port", a)
	}
	return nil
}

func (t Translation) requires() []Key { return nil }

// becomes: how a backend is chosen is fixed when a translation is made.
func (t Translation) becomes(was Object) bool {
	w, ok := was.(Translation)
	return ok && w.ByClient == t.ByClient
}

// SourceNAT is the source that translated connections get where the answer would
// otherwise not come back here: from outside to a backend elsewhere, and from a pod to
// itself by a service. There is one at most.
type SourceNAT struct {
	IPv4, IPv6 netip.Addr // at least one; no connection of a family without gets another source
}

// Key is the same for all.
func (n SourceNAT) Key() Key       { return Key{KindSourceNAT, "node"} }
func (n SourceNAT) String() string { return n.line().String() }

func (n SourceNAT) line() textline.Line {
	l := textline.New("source-nat", "node")
	for _, a := range []netip.Addr{n.IPv4, n.IPv6} {
		if a.IsValid() {
			l.Add("address", a.String())
		}
	}
	return l
}

func (n SourceNAT) check() error {
	if !n.IPv4.IsValid() && !n.IPv6.IsValid() {
		return fmt.Errorf("it has no address")
	}
	if n.IPv4.IsValid() && !n.IPv4.Is4() || n.IPv6.IsValid() && (!n.IPv6.Is6() || n.IPv6.Is4In6() || n.IPv6.Zone() != "") {
		return fmt.Errorf("addresses %s and %s: want one of IPv4 and one of IPv6", n.IPv4, n.IPv6)
	}
	return nil
}

func (n SourceNAT) requires() []Key     { return nil }
func (n SourceNAT) becomes(Object) bool { return true }

func readSourceNAT(name string, r *textline.Reader) (Object, error) {
	if name != "node" {
		return nil, fmt.Errorf("it is called %q, want node", name)
	}
	var n SourceNAT
	for _, a := range textline.All(r, "address", netip.ParseAddr) {
		if a.Is4() && !n.IPv4.IsValid() {
			n.IPv4 = a
		} else if a.Is6() && !n.IPv6.IsValid() {
			n.IPv6 = a
		} else {
			return nil, fmt.Errorf("address %s: there is one of each family at most", a)
		}
	}
	return n, nil
}

// NATInterface has an interface's packets translated: what comes in by Translations, what
// leaves back to what the sender asked for.
type NATInterface struct {
	Interface string
	Side      NATSide
}

// NATSide is what is behind an interface.
type NATSide uint8

const (
	NATUnknown NATSide = iota // a machine does not tell; it is in no wish
	NATPod                    // one pod, which sees the sources of its clients as they are
	NATOuter                  // the host with what is outside behind it, or what is outside
	NATHost                   // the host alone, which sees all sources as they are
	NATMasked                 // like NATPod; what it sends to none of the NATKept gets the SourceNAT's source
)

var natSides = [...]string{NATUnknown: "unknown", NATPod: "pod", NATOuter: "outer", NATHost: "host", NATMasked: "masked"}

func (s NATSide) String() string { return natSides[min(int(s), len(natSides)-1)] }

func parseNATSide(s string) (NATSide, error) {
	for i, name := range natSides {
		if name == s {
			return NATSide(i), nil
		}
	}
	return 0, fmt.Errorf("side %q: want %s", s, strings.Join(natSides[1:], ", "))
}

// Key is that of the interface.
func (n NATInterface) Key() Key       { return Key{KindNATInterface, n.Interface} }
func (n NATInterface) String() string { return n.line().String() }

func (n NATInterface) line() textline.Line {
	l := textline.New("nat-interface", n.Interface)
	l.Add("side", n.Side.String())
	return l
}

func (n NATInterface) check() error {
	if n.Side == NATUnknown || int(n.Side) >= len(natSides) {
		return fmt.Errorf("side %s: want pod, outer, host or masked", n.Side)
	}
	return checkName(n.Interface)
}

func (n NATInterface) requires() []Key     { return []Key{InterfaceKey(n.Interface)} }
func (n NATInterface) becomes(Object) bool { return true }

// NATKept are destinations to which those behind a NATMasked keep their source.
type NATKept struct{ Prefix netip.Prefix }

func (k NATKept) Key() Key            { return Key{KindNATKept, k.Prefix.String()} }
func (k NATKept) String() string      { return k.line().String() }
func (k NATKept) line() textline.Line { return textline.New("nat-kept", k.Prefix.String()) }
func (k NATKept) check() error        { return checkDisjoint("prefix", []netip.Prefix{k.Prefix}) }
func (k NATKept) requires() []Key     { return nil }
func (k NATKept) becomes(Object) bool { return true }
