package service

import (
	"cmp"
	"fmt"

	"github.com/millrace/millrace/cluster"
)

// Problem is what the author of a service, or of a pod with a port of the node, asks for and
// does not get.
type Problem struct {
	About  cluster.Ref
	Reason Reason
	Err    error
}

// Reason says in a word what a Problem is.
type Reason string

const (
	ProtocolUnknown      Reason = "ProtocolNotTranslated"
	SCTPOverIPv6         Reason = "SCTPOverIPv6Unsupported"
	AffinityTimeout      Reason = "AffinityTimeoutUnsupported"
	SourceRangesUnserved Reason = "SourceRangesUnsupported"  // the address is not served
	AddressTaken         Reason = "ServiceAddressTaken"      // by another service
	HealthCheckUnserved  Reason = "HealthCheckNodePortTaken" // by another process of the node
	HostPortTaken        Reason = "HostPortTaken"            // by a service or another pod
	HostIPUnknown        Reason = "HostIPUnknown"            // it is no address of the node
)

// Key tells a Problem from all others.
type Key struct {
	About cluster.Ref
	Text  string
}

// Key of a problem is what it says of which object.
func (p Problem) Key() Key { return Key{p.About, p.Err.Error()} }

// Compare orders by the object, then by what is said.
func (p Problem) Compare(o Problem) int {
	return cmp.Or(cmp.Compare(p.About.String(), o.About.String()), cmp.Compare(p.Err.Error(), o.Err.Error()))
}

func (h *held) problem(reason Reason, format string, args ...any) {
	h.problems = append(h.problems, Problem{h.fact.Ref(), reason, fmt.Errorf(format, args...)})
}
