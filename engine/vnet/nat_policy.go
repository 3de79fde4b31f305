package vnet

import (
	"net/netip"
	"slices"

	"go.fd.io/govpp/api"

	"github.com/millrace/millrace/engine/nat"
)

// snat is what decides about the sources of flows, as clients gave it.
type snat struct {
	given [2]netip.Addr // by family; not valid for none
	iface uint32        // whose first addresses come before those
	// excluded is sorted; it may have prefixes of prefixes.
	excluded []netip.Prefix
	policy   nat.Policy
}

// NATSource is where flows that get another source are sent from.
type NATSource struct {
	IPv4, IPv6 netip.Addr // not valid for none
	// Interface is whose first addresses these are, while it has some; NoIndex for
	// nobody's.
	Interface uint32
}

// SetNATSource says what flows that get another source are sent from.
func (p *Plane) SetNATSource(s NATSource) error {
	return p.edit(func() error {
		p.nat.snat.given, p.nat.snat.iface = [2]netip.Addr{s.IPv4, s.IPv6}, s.Interface
		p.refreshPolicy()
		return nil
	})
}

// NATSource returns the sources in use.
func (p *Plane) NATSource() NATSource {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.nat.snat
	return NATSource{s.policy.Source4, s.policy.Source6, s.iface}
}

// NATPolicy returns what decides about sources now.
func (p *Plane) NATPolicy() nat.Policy {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nat.snat.policy
}

// refreshPolicy gives the workers the policy with the sources of now.
func (p *Plane) refreshPolicy() {
	s := &p.nat.snat
	sources := s.given
	for k, f := range [2]Family{IPv4, IPv6} {
		if a := p.firstAddress(s.iface, f); a.IsValid() {
			sources[k] = a
		}
	}
	s.policy.Source4, s.policy.Source6 = sources[0], sources[1]
	p.setTables(p.nat.tables.WithPolicy(s.policy))
}

// notDone is VPP's answer to a policy or a prefix that it does not know.
const notDone = api.VPPApiError(1)

// SetNATPolicy chooses by what rules flows get another source.
func (p *Plane) SetNATPolicy(k nat.PolicyKind) error {
	return p.edit(func() error {
		if k > nat.PolicyKubernetes {
			return notDone
		}
		p.nat.snat.policy.Kind = k
		p.refreshPolicy()
		return nil
	})
}

// NATSet is one of the sets of interfaces that a policy knows: cnat_snat_policy_table.
type NATSet uint8

const (
	NATInclude4 NATSet = 0
	NATInclude6 NATSet = 1
	NATPods     NATSet = 2
	NATHosts    NATSet = 3
)

// set is nil for an unknown one.
func (s *snat) set(which NATSet) *nat.Interfaces {
	switch which {
	case NATInclude4:
		return &s.policy.Include4
	case NATInclude6:
		return &s.policy.Include6
	case NATPods:
		return &s.policy.Pods
	case NATHosts:
		return &s.policy.Host
	}
	return nil
}

// SetNATInterface puts an interface into a set, or takes it out.
func (p *Plane) SetNATInterface(index uint32, which NATSet, in bool) error {
	return p.withInterface(index, func(*iface) error {
		s := p.nat.snat.set(which)
		if s == nil {
			return api.INVALID_VALUE
		}
		*s = s.With(index, in)
		p.refreshPolicy()
		return nil
	})
}

// AddNATExcluded says that flows to a prefix keep their source.
func (p *Plane) AddNATExcluded(x netip.Prefix) error {
	return p.edit(func() error {
		if !x.IsValid() {
			return api.INVALID_PREFIX_LENGTH
		}
		at, there := p.excluded(x)
		if !there {
			p.exclude(slices.Insert(p.nat.snat.excluded, at, x.Masked()))
		}
		return nil
	})
}

// DelNATExcluded takes back AddNATExcluded.
func (p *Plane) DelNATExcluded(x netip.Prefix) error {
	return p.edit(func() error {
		if !x.IsValid() {
			return api.INVALID_PREFIX_LENGTH
		}
		at, there := p.excluded(x)
		if !there {
			return notDone
		}
		p.exclude(slices.Delete(p.nat.snat.excluded, at, at+1))
		return nil
	})
}

// excluded is the place of a prefix among those that are excluded.
func (p *Plane) excluded(x netip.Prefix) (at int, there bool) {
	return slices.BinarySearchFunc(p.nat.snat.excluded, x.Masked(), netip.Prefix.Compare)
}

func (p *Plane) exclude(all []netip.Prefix) {
	p.nat.snat.excluded = all
	p.nat.snat.policy.Excluded = nat.NewPrefixes(all)
	p.refreshPolicy()
}

// NATExcluded returns the prefixes flows to which keep their source, sorted.
func (p *Plane) NATExcluded() []netip.Prefix {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.nat.snat.excluded)
}

// SetNAT switches translation of what comes from an interface, or goes out by it, of one
// family. It is on while it was switched on more often than off, as VPP's features.
func (p *Plane) SetNAT(index uint32, f Family, isInput, on bool) error {
	return p.withInterface(index, func(i *iface) error {
		n := &i.nat[direction(isInput)][slot(f)]
		switch {
		case on:
			*n++
			p.needNATSessions()
		case *n > 0:
			*n--
		}
		i.dirty = true
		return nil
	})
}

// NAT reports whether SetNAT has switched it on.
func (p *Plane) NAT(index uint32, f Family, isInput bool) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.iface(index)
	if i == nil {
		return false, api.INVALID_SW_IF_INDEX
	}
	return i.nat[direction(isInput)][slot(f)] > 0, nil
}

func direction(isInput bool) int {
	if isInput {
		return input
	}
	return output
}

// dropNAT forgets an interface that is about to go: the next one of its index is somebody
// else's. VPP forgets only the features.
func (p *Plane) dropNAT(i *iface) {
	i.nat = [2][2]int{}
	for _, which := range []NATSet{NATInclude4, NATInclude6, NATPods, NATHosts} {
		if s := p.nat.snat.set(which); s.Has(i.index) {
			*s = s.With(i.index, false)
			p.refreshPolicy()
		}
	}
}
