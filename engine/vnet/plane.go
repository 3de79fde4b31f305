package vnet

import (
	"context"
	"iter"
	"log/slog"
	"net"
	"net/netip"

	"go.fd.io/govpp/api"

	"github.com/millrace/millrace/engine/port"
)

// Combined counts packets and bytes.
type Combined struct{ Packets, Bytes uint64 }

// Counters is one thread's rows. Every slice is preallocated to its capacity and indexed
// by sw_if_index, Errors by the order of ErrorNames, RouteTo by stats_index. Only the
// owning thread writes, by plain aligned stores.
type Counters struct {
	RX, TX, RxUnicast, RxMulticast, RxBroadcast, TxUnicast, TxMulticast, TxBroadcast []Combined
	Drops, Punt, IP4, IP6, RxNoBuf, RxMiss, RxError, TxError                         []uint64
	Errors                                                                           []uint64
	RouteTo                                                                          []Combined
}

// Config of a Plane. Counters has Workers+1 rows; row 0 belongs to the control thread.
type Config struct {
	Workers       int
	MaxInterfaces int
	MaxRoutes     int
	Counters      []Counters
	Logger        *slog.Logger
}

// Placement says which worker serves a receive queue.
type Placement struct {
	Interface uint32
	Queue     int
	Worker    int
	Mode      RxMode
}

// Plane is the control state and its workers.
type Plane struct{}

func ErrorNames() []ErrorCounter               { return nil }
func New(c Config) (*Plane, error)             { return nil, api.UNIMPLEMENTED }
func (p *Plane) Run(ctx context.Context) error { return api.UNIMPLEMENTED }
func (p *Plane) AddInterface(s InterfaceSpec, d port.Port) (uint32, error) {
	return 0, api.UNIMPLEMENTED
}
func (p *Plane) DeleteInterface(i uint32) error                        { return api.UNIMPLEMENTED }
func (p *Plane) Interface(i uint32) (Interface, error)                 { return Interface{}, api.UNIMPLEMENTED }
func (p *Plane) Interfaces() iter.Seq[Interface]                       { return func(func(Interface) bool) {} }
func (p *Plane) SetAdminUp(i uint32, up bool) error                    { return api.UNIMPLEMENTED }
func (p *Plane) SetLinkUp(i uint32, up bool) error                     { return api.UNIMPLEMENTED }
func (p *Plane) SetMTU(i uint32, mtu [4]uint32) error                  { return api.UNIMPLEMENTED }
func (p *Plane) SetLinkMTU(i uint32, mtu uint16) error                 { return api.UNIMPLEMENTED }
func (p *Plane) SetMAC(i uint32, mac net.HardwareAddr) error           { return api.UNIMPLEMENTED }
func (p *Plane) SetTable(i uint32, f Family, table uint32) error       { return api.UNIMPLEMENTED }
func (p *Plane) SetUnnumbered(borrower, lender uint32, add bool) error { return api.UNIMPLEMENTED }
func (p *Plane) SetTag(i uint32, tag string) error                     { return api.UNIMPLEMENTED }
func (p *Plane) SetName(i uint32, name string) error                   { return api.UNIMPLEMENTED }
func (p *Plane) SetRxMode(i uint32, queue int, m RxMode) error         { return api.UNIMPLEMENTED }
func (p *Plane) SetRxPlacement(i uint32, queue, worker int) error      { return api.UNIMPLEMENTED }
func (p *Plane) RxPlacements() iter.Seq[Placement]                     { return func(func(Placement) bool) {} }
func (p *Plane) SetPromisc(i uint32, on bool) error                    { return api.UNIMPLEMENTED }
func (p *Plane) EnableIP6(i uint32, on bool) error                     { return api.UNIMPLEMENTED }
func (p *Plane) AddAddress(i uint32, a netip.Prefix) error             { return api.UNIMPLEMENTED }
func (p *Plane) DelAddress(i uint32, a netip.Prefix) error             { return api.UNIMPLEMENTED }
func (p *Plane) FlushAddresses(i uint32) error                         { return api.UNIMPLEMENTED }
func (p *Plane) Addresses(i uint32, f Family) ([]netip.Prefix, error)  { return nil, api.UNIMPLEMENTED }
func (p *Plane) WatchInterfaces(f func(InterfaceEvent)) (stop func())  { return func() {} }
func (p *Plane) AddTable(t Table) error                                { return api.UNIMPLEMENTED }
func (p *Plane) DelTable(t Table) error                                { return api.UNIMPLEMENTED }
func (p *Plane) FlushTable(t Table) error                              { return api.UNIMPLEMENTED }
func (p *Plane) Tables(f Family) []Table                               { return nil }
func (p *Plane) EditRoute(r Route, e RouteEdit) (statsIndex uint32, err error) {
	return 0, api.UNIMPLEMENTED
}
func (p *Plane) Routes(t Table) iter.Seq[Route]                     { return func(func(Route) bool) {} }
func (p *Plane) AddNeighbor(n Neighbor) error                       { return api.UNIMPLEMENTED }
func (p *Plane) DelNeighbor(n Neighbor) error                       { return api.UNIMPLEMENTED }
func (p *Plane) FlushNeighbors(f Family, i uint32) error            { return api.UNIMPLEMENTED }
func (p *Plane) Neighbors(f Family, i uint32) []Neighbor            { return nil }
func (p *Plane) WatchNeighbors(f func(NeighborEvent)) (stop func()) { return func() {} }
func (p *Plane) SetNeighborConfig(f Family, c NeighborConfig) error { return api.UNIMPLEMENTED }
func (p *Plane) NeighborConfig(f Family) NeighborConfig             { return NeighborConfig{} }
func (p *Plane) SetURPF(i uint32, f Family, input bool, m URPFMode, table uint32) error {
	return api.UNIMPLEMENTED
}
func (p *Plane) SetPuntRedirect(rx uint32, f Family, paths []Path) error { return api.UNIMPLEMENTED }
func (p *Plane) SetFlowHash(t Table, config uint32) error                { return api.UNIMPLEMENTED }
func (p *Plane) SetPathMTU(table uint32, nh netip.Addr, mtu uint16) error {
	return api.UNIMPLEMENTED
}
func (p *Plane) Errors() iter.Seq2[int, ErrorCounter] { return func(func(int, ErrorCounter) bool) {} }
