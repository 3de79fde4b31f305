package api

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/millrace/millrace/engine/vnet"
)

func (s *Server) showPunt4([]string) (string, error) { return s.showPunt(vnet.IPv4), nil }
func (s *Server) showPunt6([]string) (string, error) { return s.showPunt(vnet.IPv6), nil }

// showPunt lists where packets for the machine itself go instead, by the interface that
// they came by; "any" stands for all that are not named.
func (s *Server) showPunt(f vnet.Family) string {
	names := s.interfaceNames()
	names[vnet.NoIndex] = "any"
	to := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if f == vnet.IPv6 {
		to = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	s.settings.mu.Lock()
	defer s.settings.mu.Unlock()
	var out strings.Builder
	for _, key := range slices.SortedFunc(maps.Keys(s.settings.punt), comparePunt) {
		if key.family != f {
			continue
		}
		fmt.Fprintf(&out, " rx %s via:\n", names[key.rx])
		for _, p := range s.settings.punt[key] {
			fmt.Fprintf(&out, "  %s\n", pathText(p, to, names))
		}
	}
	return out.String()
}
