package nat

import "net/netip"

// PolicyKind as in cnat.api cnat_snat_policies.
type PolicyKind uint8

const (
	// PolicyNone gives every flow another source.
	PolicyNone PolicyKind = 0
	// PolicyInterfaces goes by the interface a flow comes from, and excluded prefixes.
	PolicyInterfaces PolicyKind = 1
	// PolicyKubernetes is that, and what services need.
	PolicyKubernetes PolicyKind = 2
)

// Interfaces is a set of sw_if_index.
type Interfaces []uint64

// Has reports whether an interface is in the set.
func (s Interfaces) Has(index uint32) bool {
	return uint64(index/64) < uint64(len(s)) && s[index/64]>>(index%64)&1 != 0
}

// With is the set with or without an interface; s stays as it is.
func (s Interfaces) With(index uint32, in bool) Interfaces {
	to := make(Interfaces, max(len(s), int(index/64)+1))
	copy(to, s)
	to[index/64] &^= 1 << (index % 64)
	if in {
		to[index/64] |= 1 << (index % 64)
	}
	return to
}

// Policy says which flows that go out get another source. It is a value that many read; an
// edit makes another.
type Policy struct {
	Kind PolicyKind
	// Include4 and Include6 are the interfaces whose flows get another source, unless
	// they go to Excluded.
	Include4, Include6 Interfaces
	Excluded           Prefixes
	Pods               Interfaces // that lead to pods
	Host               Interfaces // that lead to the host, which sees sources as they are
	// Source4 and Source6 are the other source; flows of a family without one keep theirs.
	Source4, Source6 netip.Addr
}

// Outgoing is a flow that is about to go out: its addresses after that of a service was
// replaced, and the interfaces that it comes in and goes out by.
type Outgoing struct {
	Src, Dst netip.Addr
	In, Out  uint32
	Served   bool // a translation gave it its destination
}

// Source is the source that a flow gets; not valid when it keeps its own.
func (p *Policy) Source(f *Outgoing) (none netip.Addr) {
	source := p.Source4
	if f.Src.Is6() {
		source = p.Source6
	}
	if !source.IsValid() || source.IsUnspecified() || !p.applies(f, source) {
		return none
	}
	return source
}

func (p *Policy) applies(f *Outgoing, source netip.Addr) bool {
	switch {
	case p.Kind == PolicyNone:
		return true
	case p.Kind == PolicyInterfaces:
		return p.leaves(f)
	case p.Kind != PolicyKubernetes || p.Host.Has(f.Out):
		return false
	case p.leaves(f):
		return true
	case !p.Pods.Has(f.In) && !p.Pods.Has(f.Out):
		// From outside to the outside: the answer must come back here, to be undone. VPP does
		// so with what is no service's, too, and that hides the source of what only passes, and
		// of answers of which nothing else came by here.
		return f.Served && f.Src != source
	}
	// A pod that reached itself by a service would answer itself directly.
	return f.Src == f.Dst
}

// leaves reports whether a flow is one of an included interface to where it gets another
// source.
func (p *Policy) leaves(f *Outgoing) bool {
	included := p.Include4
	if f.Src.Is6() {
		included = p.Include6
	}
	if !included.Has(f.In) {
		return false
	}
	return !p.Excluded.Has(f.Dst)
}
