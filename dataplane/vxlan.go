package dataplane

import (
	"fmt"
	"net/netip"

	"github.com/millrace/millrace/internal/textline"
)

// VXLAN is a tunnel to one other machine (RFC 7348). Its packets have an Ethernet header
// inside, so that any VXLAN device can be the other end.
type VXLAN struct {
	Src, Dst netip.Addr // ours, which need not end in the machine, and the other end's
	Port     uint16     // UDP, of both ends
	VNI      uint32     // 1 to 2^24-1
	MAC      MAC        // the dataplane's own, inside
	// Uplink is by which the tunnel's packets leave, by its routes, and come in, where a
	// TunnelBypass takes them out.
	Uplink string
}

// VXLANOverhead is how many bytes a tunnel over a family takes off the MTU.
func VXLANOverhead(f Family) uint32 {
	const ethernet, udp, vxlan = 14, 8, 8
	if f == IPv6 {
		return 40 + udp + vxlan + ethernet
	}
	return 20 + udp + vxlan + ethernet
}

func (d VXLAN) device(l *textline.Line) {
	l.Add("device", "vxlan")
	l.Add("src", d.Src.String())
	l.Add("dst", d.Dst.String())
	l.AddUint("port", uint64(d.Port))
	l.AddUint("vni", uint64(d.VNI))
	l.Add("mac", d.MAC.String())
	l.Add("uplink", d.Uplink)
}

func (VXLAN) hasHost() bool    { return false }
func (d VXLAN) sealed() Device { return d }

func (d VXLAN) check() error {
	if !d.Src.IsValid() || !d.Dst.IsValid() || FamilyOf(d.Src) != FamilyOf(d.Dst) || d.Src == d.Dst {
		return fmt.Errorf("ends %s and %s: want two addresses of one family", d.Src, d.Dst)
	}
	if d.Dst.IsMulticast() || d.Dst.Zone() != "" || d.Src.Zone() != "" {
		return fmt.Errorf("ends %s and %s: want unicast addresses without zone", d.Src, d.Dst)
	}
	if d.VNI == 0 || d.VNI >= 1<<24 || d.Port == 0 {
		return fmt.Errorf("vni %d, port %d: want a vni of 1 to %d and a port", d.VNI, d.Port, 1<<24-1)
	}
	if d.MAC == (MAC{}) || d.MAC[0]&1 != 0 {
		return fmt.Errorf("MAC %s: want a unicast address", d.MAC)
	}
	if !IsUplink(d.Uplink) {
		return fmt.Errorf("uplink %q: want the name of an uplink", d.Uplink)
	}
	return nil
}

func readVXLAN(r *textline.Reader) VXLAN {
	return VXLAN{
		Src: textline.One(r, "src", netip.ParseAddr), Dst: textline.One(r, "dst", netip.ParseAddr),
		Port: textline.One(r, "port", parseUint[uint16]), VNI: textline.One(r, "vni", parseUint[uint32]),
		MAC: textline.One(r, "mac", ParseMAC), Uplink: r.String("uplink"),
	}
}

// TunnelBypass takes the packets of tunnels out of what comes in by an uplink, before any
// route is asked: their addresses are the host's.
type TunnelBypass struct {
	Uplink string // its Interface
	Family Family
}

func (b TunnelBypass) Key() Key       { return Key{KindTunnelBypass, b.Uplink + " " + b.Family.String()} }
func (b TunnelBypass) String() string { return b.line().String() }

func (b TunnelBypass) line() textline.Line {
	return textline.New("tunnel-bypass", b.Uplink, b.Family.String())
}

func (b TunnelBypass) check() error {
	if !IsUplink(b.Uplink) || b.Family != IPv4 && b.Family != IPv6 {
		return fmt.Errorf("want an uplink and a family")
	}
	return nil
}

func (b TunnelBypass) requires() []Key     { return []Key{InterfaceKey(b.Uplink)} }
func (b TunnelBypass) becomes(Object) bool { return false }
