// Package vnet owns the engine's control state (interfaces, addresses, tables, routes,
// neighbours) and turns each edit into tables that the workers read without a lock.
//
// It is the single writer of forwarding state. It speaks VPP's nouns and VPP's return
// values (api.VPPApiError), but never a message: package engine/api translates those.
package vnet

import (
	"net"
	"net/netip"

	"github.com/millrace/millrace/engine/port"
)

// NoIndex is VPP's ~0: no interface, no table, any.
const NoIndex = ^uint32(0)

// Family is an address family.
type Family uint8

const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// InterfaceSpec is what a caller of AddInterface decides.
type InterfaceSpec struct {
	Name       string // tap0, host-veth1, loop3: unique, at most 63 bytes
	DeviceType string // sw_interface_details.interface_dev_type: "virtio", "af-packet", "Loopback", ...
	MTU        uint32 // L3 MTU in bytes; 0 = the device type's default
	LinkMTU    uint16 // hardware MTU in bytes; 0 = default
	NoMTU      bool   // has neither: shows 0, and forwards as with the default
	MaxLinkMTU uint16 // 0 = 9216
	LinkUp     bool
}

// RxMode as in interface_types.api rx_mode.
type RxMode uint8

const (
	RxPolling   RxMode = 1
	RxInterrupt RxMode = 2
	RxAdaptive  RxMode = 3
)

// Interface is a copy of an interface's state at one moment.
type Interface struct {
	Index        uint32
	Name         string
	DeviceType   string
	Tag          string
	HardwareAddr net.HardwareAddr // nil on IP links
	Link         port.Link
	AdminUp      bool
	LinkUp       bool
	LinkMTU      uint16
	MTU          [4]uint32 // L3, IP4, IP6, MPLS as in mtu_proto; 0 = inherit L3
	RxMode       RxMode
	RxQueues     int
	TxQueues     int
	Table4       uint32
	Table6       uint32
	IP6Enabled   bool
	Unnumbered   uint32 // the lender's index, or NoIndex
}

// InterfaceEvent is one sw_interface_event. As in VPP, it tells what came up with it, not
// the whole state: a link that comes up on an interface that is up is LinkUp alone.
type InterfaceEvent struct {
	Index   uint32
	AdminUp bool
	LinkUp  bool
	Deleted bool
}

// PathType as in fib_types.api fib_path_type.
type PathType uint8

const (
	PathNormal      PathType = 0
	PathLocal       PathType = 1
	PathDrop        PathType = 2
	PathUDPEncap    PathType = 3
	PathBIER        PathType = 4
	PathUnreachable PathType = 5
	PathProhibit    PathType = 6
	PathSourceLook  PathType = 7
	PathDVR         PathType = 8
	PathIfRx        PathType = 9
	PathClassify    PathType = 10
)

// Path is one way of a route. NextHop is the zero Addr for an attached route;
// Interface NoIndex with no NextHop means "look up again in Table".
type Path struct {
	Type       PathType
	Interface  uint32
	Table      uint32
	NextHop    netip.Addr
	Weight     uint8
	Preference uint8
}

// Route is one prefix of a table with its paths as the caller gave them, merged over calls.
type Route struct {
	Table      uint32
	Prefix     netip.Prefix
	Paths      []Path
	Source     uint8 // FIB source, for ip_route_v2_dump (API, interface, adjacency, ...)
	StatsIndex uint32
}

// RouteEdit says what an ip_route_add_del does with the paths.
type RouteEdit uint8

const (
	RouteReplace     RouteEdit = iota // is_add, not multipath
	RouteAddPaths                     // is_add, multipath
	RouteRemovePaths                  // !is_add, multipath
	RouteDelete                       // !is_add, not multipath
)

// Table is one FIB.
type Table struct {
	ID     uint32
	Family Family
	Name   string
}

// Neighbor is one entry of the ARP or ND table.
type Neighbor struct {
	Interface  uint32
	Addr       netip.Addr
	MAC        [6]byte
	Static     bool
	NoFIBEntry bool
	Age        float64 // seconds since last confirmed; 0 for static
}

// NeighborEvent is one ip_neighbor_event_v2.
type NeighborEvent struct {
	Neighbor
	Removed bool
}

// NeighborConfig is ip_neighbor_config of one family.
type NeighborConfig struct {
	MaxNumber uint32
	MaxAge    uint32 // seconds, 0 = never
	Recycle   bool
}

// URPF mode and direction as in urpf.api.
type URPFMode uint8

const (
	URPFOff    URPFMode = 0
	URPFLoose  URPFMode = 1
	URPFStrict URPFMode = 2
)

// ErrorCounter is one drop or event reason, for "show errors" and /err/<node>/<reason>.
type ErrorCounter struct {
	Node, Reason, Severity string
	Count                  uint64
}
