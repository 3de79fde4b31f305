package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/textline"
)

// Interface is a port of the dataplane with the settings that live and die with it. It is
// created down; an Up object opens it.
type Interface struct {
	Name   string // at most NameMax bytes, MemifNameMax for a Memif
	Device Device
	MTU    uint32 // bytes at L3, 68 to 65535
	Table  uint32 // routing table of both families
	RPF    RPF    // check of source addresses on packets that come in
	Host   HostSide
}

// Device is what an Interface is made of: Tun, Tap, Veth, Memif, NIC, Bond, VLAN, VXLAN
// or Loopback. It cannot change.
type Device interface {
	device(l *textline.Line)
	check() error
	hasHost() bool  // whether it has an end in the kernel
	sealed() Device // the device without the text of its secrets, for comparing
}

// Tun is an L3 device of the kernel whose other end is the dataplane. The host side lies
// in a network namespace and stays there while the dataplane is away.
type Tun struct {
	Netns          string // absolute path, at most 63 bytes; empty = the dataplane's own
	HostName       string // name of the kernel's device, at most 15 bytes
	Queues         uint16 // receive queues
	RxRing, TxRing uint16 // descriptors per queue, a power of two
	Offload        Offload
}

// Veth is a pair of kernel devices, for machines that cannot make a Tun: the inner end is
// the host side, the outer one is read by the dataplane with a packet socket. Large segments
// and partial checksums cross it.
type Veth struct {
	Netns    string // of the inner end: absolute path, at most 200 bytes; empty = the dataplane's own
	HostName string // name of the inner end, at most 15 bytes
	Outer    string // name of the outer end, in the dataplane's own namespace, at most 15 bytes
	HostMAC  MAC    // of the inner end
	MAC      MAC    // the dataplane's own
}

// Loopback has no other end; it lends its addresses.
type Loopback struct{}

// Offload says who cuts large segments and computes checksums.
type Offload uint8

const (
	OffloadNone Offload = iota // full packets with complete checksums
	OffloadGSO                 // segments up to 64 kB and partial checksums may cross
)

func (o Offload) String() string {
	if o == OffloadGSO {
		return "gso"
	}
	return "none"
}

func parseOffload(s string) (Offload, error) {
	switch s {
	case "gso":
		return OffloadGSO, nil
	case "none":
		return OffloadNone, nil
	}
	return 0, fmt.Errorf("offload %q: want none or gso", s)
}

// RPF is reverse path filtering by source address.
type RPF uint8

const (
	RPFOff    RPF = iota // any source
	RPFLoose             // a route to the source must exist
	RPFStrict            // the route to the source must lead out of the same interface
)

var rpfNames = [...]string{RPFOff: "off", RPFLoose: "loose", RPFStrict: "strict"}

func (r RPF) String() string {
	if int(r) < len(rpfNames) {
		return rpfNames[r]
	}
	return fmt.Sprintf("rpf-%d", uint8(r))
}

func parseRPF(s string) (RPF, error) {
	if i := slices.Index(rpfNames[:], s); i >= 0 {
		return RPF(i), nil
	}
	return 0, fmt.Errorf("rpf %q: want off, loose or strict", s)
}

// MAC is an Ethernet address.
type MAC [6]byte

func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// ParseMAC reads six two-digit groups separated by colons.
func ParseMAC(s string) (m MAC, err error) {
	groups := strings.Split(s, ":")
	for i := range m {
		if len(groups) != len(m) || len(groups[i]) != 2 {
			return MAC{}, fmt.Errorf("parse MAC %q: want six groups of two hexadecimal digits", s)
		}
		n, err := strconv.ParseUint(groups[i], 16, 8)
		if err != nil {
			return MAC{}, fmt.Errorf("parse MAC %q: %w", s, err)
		}
		m[i] = byte(n)
	}
	return m, nil
}

// InterfaceKey is the Key of the Interface of that name.
func InterfaceKey(name string) Key { return Key{KindInterface, name} }

func (i Interface) Key() Key       { return InterfaceKey(i.Name) }
func (i Interface) String() string { return i.line().String() }

func (i Interface) requires() []Key {
	keys := requireTables(nil, i.Table, IPv4, IPv6)
	if d, ok := i.Device.(VLAN); ok {
		keys = append(keys, InterfaceKey(d.Parent))
	}
	if d, ok := i.Device.(VXLAN); ok {
		keys = append(keys, InterfaceKey(d.Uplink))
	}
	return keys
}

// becomes: all but the device and the table can change; a table change would need every
// address to go first.
func (i Interface) becomes(was Object) bool {
	w, ok := was.(Interface)
	return ok && sameDevice(w.Device, i.Device) && w.Table == i.Table
}

func sameDevice(a, b Device) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.sealed() == b.sealed()
}

func (i Interface) equal(o Interface) bool {
	return i.Name == o.Name && sameDevice(i.Device, o.Device) && i.MTU == o.MTU && i.Table == o.Table && i.RPF == o.RPF &&
		i.Host.MTU == o.Host.MTU && slices.Equal(i.Host.Addresses, o.Host.Addresses) &&
		slices.Equal(i.Host.Routes, o.Host.Routes) && slices.Equal(i.Host.Neighbors, o.Host.Neighbors)
}

func (i Interface) line() textline.Line {
	l := textline.New("interface", i.Name)
	if i.Device != nil {
		i.Device.device(&l)
	}
	l.AddUint("mtu", uint64(i.MTU))
	l.AddUint("table", uint64(i.Table))
	if i.RPF != RPFOff {
		l.Add("rpf", i.RPF.String())
	}
	i.Host.add(&l)
	return l
}

func (i Interface) check() error {
	if err := checkName(i.Name); err != nil {
		return err
	}
	if IsUplink(i.Name) {
		return fmt.Errorf("interface name %q is for uplinks, which are not made here", i.Name)
	}
	if i.Device == nil {
		return fmt.Errorf("device is missing")
	}
	if err := i.Device.check(); err != nil {
		return err
	}
	if i.MTU < 68 || i.MTU > 65535 {
		return fmt.Errorf("mtu %d: want 68 to 65535", i.MTU)
	}
	if _, memif := i.Device.(Memif); memif && len(i.Name) > MemifNameMax {
		return fmt.Errorf("interface name %q has %d bytes, want at most %d for a memif", i.Name, len(i.Name), MemifNameMax)
	}
	if v, vlan := i.Device.(VLAN); vlan && i.Name <= v.Parent {
		return fmt.Errorf("interface name %q: want one that sorts behind %q, the parent's", i.Name, v.Parent)
	}
	if !i.Device.hasHost() && !i.Host.isZero() {
		return fmt.Errorf("the device has no host side, and one is given")
	}
	return i.Host.check()
}

func (d Tun) device(l *textline.Line) {
	l.Add("device", "tun")
	l.Add("netns", d.Netns)
	l.Add("host", d.HostName)
	l.AddUint("queues", uint64(d.Queues))
	l.AddUint("rx-ring", uint64(d.RxRing))
	l.AddUint("tx-ring", uint64(d.TxRing))
	l.Add("offload", d.Offload.String())
}

func (d Veth) device(l *textline.Line) {
	l.Add("device", "veth")
	l.Add("netns", d.Netns)
	l.Add("host", d.HostName)
	l.Add("outer", d.Outer)
	l.Add("host-mac", d.HostMAC.String())
	l.Add("mac", d.MAC.String())
}

func (Loopback) device(l *textline.Line) { l.Add("device", "loopback") }

func (Tun) hasHost() bool      { return true }
func (Veth) hasHost() bool     { return true }
func (Loopback) hasHost() bool { return false }

func (d Tun) sealed() Device      { return d }
func (d Veth) sealed() Device     { return d }
func (d Loopback) sealed() Device { return d }

func (d Tun) check() error {
	if d.Queues == 0 || d.Queues > 256 {
		return fmt.Errorf("queues %d: want 1 to 256", d.Queues)
	}
	for _, n := range []uint16{d.RxRing, d.TxRing} {
		if n == 0 || n&(n-1) != 0 {
			return fmt.Errorf("ring of %d descriptors: want a power of two up to 32768", n)
		}
	}
	if err := checkNetns(d.Netns, 63); err != nil {
		return err
	}
	return checkKernelName("host device", d.HostName)
}

func (d Veth) check() error {
	if err := checkNetns(d.Netns, 200); err != nil {
		return err
	}
	if err := checkKernelName("host device", d.HostName); err != nil {
		return err
	}
	for _, m := range []MAC{d.HostMAC, d.MAC} {
		if m == (MAC{}) || m[0]&1 != 0 {
			return fmt.Errorf("MAC %s: want a unicast address", m)
		}
	}
	return checkKernelName("outer device", d.Outer)
}

func (Loopback) check() error { return nil }

func checkNetns(path string, most int) error {
	if path != "" && !strings.HasPrefix(path, "/") {
		return fmt.Errorf("network namespace %q: want an absolute path", path)
	}
	if len(path) > most {
		return fmt.Errorf("network namespace %q has %d bytes, want at most %d", path, len(path), most)
	}
	return nil
}

// checkKernelName applies the kernel's rules for device names.
func checkKernelName(what, name string) error {
	if name == "" || len(name) > 15 || name == "." || name == ".." {
		return fmt.Errorf("%s %q: want 1 to 15 bytes", what, name)
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c >= 0x7f || c == '/' || c == ':' || c == '%' {
			return fmt.Errorf("%s %q has %q, which a kernel device name may not hold", what, name, c)
		}
	}
	return nil
}

// HostSide is what the kernel's end of an interface must have, in its own namespace.
type HostSide struct {
	MTU uint32 // 0 = leave as it is
	// MaxSegments is 1 where the kernel has to cut what it sends to the MTU before the device
	// has it, since nobody behind the device would; 0 = no limit.
	MaxSegments uint32
	Addresses   []netip.Prefix // used without duplicate address detection
	Routes      []HostRoute
	Neighbors   []HostNeighbor
}

// HostRoute is a route in the kernel through the interface.
type HostRoute struct {
	Dst    netip.Prefix
	Via    netip.Addr // taken as on the link whatever the addresses; may be absent
	Source netip.Addr // preferred source; may be absent
}

// HostNeighbor is a permanent neighbour entry of the kernel.
type HostNeighbor struct {
	Addr netip.Addr
	MAC  MAC
}

func (h HostSide) isZero() bool {
	return h.MTU == 0 && h.MaxSegments == 0 && len(h.Addresses) == 0 && len(h.Routes) == 0 && len(h.Neighbors) == 0
}

func (h HostSide) add(l *textline.Line) {
	l.AddUint("host-mtu", uint64(h.MTU))
	l.AddUint("host-max-segments", uint64(h.MaxSegments))
	textline.AddAll(l, "host-address", slices.SortedFunc(slices.Values(h.Addresses), netip.Prefix.Compare))
	addSorted(l, "host-route", h.Routes)
	addSorted(l, "host-neighbor", h.Neighbors)
}

// addSorted prints a set: its order has no meaning, so that it never makes a difference.
func addSorted[T fmt.Stringer](l *textline.Line, key string, values []T) {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = v.String()
	}
	slices.Sort(texts)
	for _, t := range texts {
		l.Add(key, t)
	}
}

func (h HostSide) check() error {
	if h.MaxSegments > 1 {
		return fmt.Errorf("host max segments %d: want 1, or 0 for no limit", h.MaxSegments)
	}
	for _, a := range h.Addresses {
		if !a.IsValid() {
			return fmt.Errorf("host address is invalid")
		}
	}
	for _, r := range h.Routes {
		if !r.Dst.IsValid() || r.Dst != r.Dst.Masked() {
			return fmt.Errorf("host route %s: the destination has host bits", r)
		}
		for _, a := range []netip.Addr{r.Via, r.Source} {
			if a.IsValid() && FamilyOf(a) != FamilyOf(r.Dst.Addr()) {
				return fmt.Errorf("host route %s mixes families", r)
			}
		}
	}
	for _, n := range h.Neighbors {
		if !n.Addr.IsValid() {
			return fmt.Errorf("host neighbor %s has no address", n)
		}
	}
	return nil
}

// String is dst[,via=addr][,src=addr].
func (r HostRoute) String() string {
	s := r.Dst.String()
	if r.Via.IsValid() {
		s += ",via=" + r.Via.String()
	}
	if r.Source.IsValid() {
		s += ",src=" + r.Source.String()
	}
	return s
}

// String is addr,mac.
func (n HostNeighbor) String() string { return n.Addr.String() + "," + n.MAC.String() }
