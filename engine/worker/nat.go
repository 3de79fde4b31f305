package worker

import "github.com/millrace/millrace/engine/nat"

// NAT is what workers need to translate addresses on interfaces that ask for it. It is
// immutable.
type NAT struct {
	Tables   *nat.Tables
	Sessions *nat.Sessions
}

// SetNAT replaces it; nil translates nothing. The caller calls Bump afterwards.
func (s *State) SetNAT(n *NAT) { s.nat.Store(n) }
