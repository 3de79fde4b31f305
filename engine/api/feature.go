package api

import (
	"slices"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/feature"

	"github.com/millrace/millrace/engine/vnet"
)

// featureMessages are those of feature.api.
func (s *Server) featureMessages() []*entry {
	return slices.Concat(
		handle(s.featureEnableDisable),
		handle(s.featureIsEnabled),
	)
}

// natFeature is a feature that switches address translation.
type natFeature struct {
	arc, name string
	family    vnet.Family
	input     bool
}

var natFeatures = [...]natFeature{
	{"ip4-unicast", "cnat-input-ip4", vnet.IPv4, true},
	{"ip6-unicast", "cnat-input-ip6", vnet.IPv6, true},
	{"ip4-output", "cnat-output-ip4", vnet.IPv4, false},
	{"ip6-output", "cnat-output-ip6", vnet.IPv6, false},
}

func findFeature(arc, name string) (natFeature, bool) {
	at := slices.IndexFunc(natFeatures[:], func(f natFeature) bool { return f.arc == arc && f.name == name })
	if at < 0 {
		return natFeature{}, false
	}
	return natFeatures[at], true
}

// featureEnableDisable knows cnat's features. Others of VPP are here by messages of their
// own, or not at all: to those it answers as VPP to a feature that it does not have.
func (s *Server) featureEnableDisable(_ *session, q *feature.FeatureEnableDisable, _ *feature.FeatureEnableDisableReply) error {
	index := uint32(q.SwIfIndex)
	if _, err := s.plane.Interface(index); err != nil {
		return err
	}
	f, ok := findFeature(q.ArcName, q.FeatureName)
	if !ok {
		return api.INVALID_VALUE
	}
	return s.plane.SetNAT(index, f.family, f.input, q.Enable)
}

// featureIsEnabled tells of the features that can be switched here; all others are off.
func (s *Server) featureIsEnabled(_ *session, q *feature.FeatureIsEnabled, r *feature.FeatureIsEnabledReply) (err error) {
	index := uint32(q.SwIfIndex)
	if f, ok := findFeature(q.ArcName, q.FeatureName); ok {
		r.IsEnabled, err = s.plane.NAT(index, f.family, f.input)
		return err
	}
	switch q.ArcName + " " + q.FeatureName {
	case "ip4-unicast ip4-vxlan-bypass":
		r.IsEnabled, err = s.plane.TunnelBypass(index, vnet.IPv4)
	case "ip6-unicast ip6-vxlan-bypass":
		r.IsEnabled, err = s.plane.TunnelBypass(index, vnet.IPv6)
	default:
		_, err = s.plane.Interface(index)
	}
	return err
}
