package dataplane

import (
	"net/netip"
	"slices"
	"strings"
)

// Uplink is an interface of the machine that belongs to somebody else, the node's manager,
// and by which packets leave the node. It is no object: a wish may have routes through it, but
// never makes, changes or deletes it.
type Uplink struct {
	Name      string // the manager's
	Mode      UplinkMode
	Link      string         // the kernel's name of the network card, if it is shared
	MTU       uint32         // bytes at L3
	Whole     bool           // takes TCP packets above the MTU, and has them cut
	HostLink  bool           // there is a link to the host beside it, by which the host uses it
	Addresses []netip.Addr   // the host's, in order
	Subnets   []netip.Prefix // what is attached to it, in order
}

// UplinkMode is whose the network card of an Uplink is.
type UplinkMode uint8

const (
	UplinkOwn   UplinkMode = iota // the dataplane's: all that comes in passes it
	UplinkShare                   // the kernel's: the dataplane gets what is steered to it
)

func (m UplinkMode) String() string {
	if m == UplinkShare {
		return "share"
	}
	return "own"
}

// uplinkMark begins the names by which objects refer to uplinks; the names of a wish's own
// interfaces do not begin so.
const uplinkMark = "uplink:"

// Interface is the name by which objects refer to the uplink.
func (u Uplink) Interface() string { return uplinkMark + u.Name }

// HostInterface is the name by which objects refer to the link to the host beside it.
func (u Uplink) HostInterface() string { return u.Interface() + "/host" }

// IsUplink tells the names that Interface and HostInterface return.
func IsUplink(name string) bool { return strings.HasPrefix(name, uplinkMark) }

// Equal says whether both are the same.
func (u Uplink) Equal(o Uplink) bool {
	return u.Name == o.Name && u.Mode == o.Mode && u.Link == o.Link && u.MTU == o.MTU && u.Whole == o.Whole && u.HostLink == o.HostLink && slices.Equal(u.Addresses, o.Addresses) && slices.Equal(u.Subnets, o.Subnets)
}

// Attached says whether an address lies in one of the uplink's subnets.
func (u Uplink) Attached(a netip.Addr) bool {
	return slices.ContainsFunc(u.Subnets, func(p netip.Prefix) bool { return p.Contains(a) })
}
