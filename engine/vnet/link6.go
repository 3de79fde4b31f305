package vnet

import (
	"net/netip"

	"go.fd.io/govpp/api"

	"github.com/millrace/millrace/engine/fib"
	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/worker"
)

// EnableIP6 gives an interface IPv6 and a link-local address without any other, or takes
// back one such request.
func (p *Plane) EnableIP6(index uint32, on bool) error {
	return p.withInterface(index, func(i *iface) error {
		if !on {
			if i.ip6Locks == 0 {
				return api.IP6_NOT_ENABLED
			}
			p.unlockIP6(i)
			return nil
		}
		if !p.lockIP6(i, netip.Addr{}) {
			return api.VALUE_EXIST
		}
		return nil
	})
}

// lockIP6 asks for IPv6 on i and reports whether nobody had before. The link-local
// address is addr, or made from the Ethernet address, or from the index.
func (p *Plane) lockIP6(i *iface, addr netip.Addr) bool {
	i.ip6Locks++
	if i.ip6Locks > 1 {
		return false
	}
	if !addr.IsValid() {
		mac := i.mac
		if mac == (packet.MAC{}) {
			mac = packet.MAC{0x02, 0xfe, byte(i.index >> 24), byte(i.index >> 16), byte(i.index >> 8), byte(i.index)}
		}
		addr = netip.AddrFrom16(packet.LinkLocal(mac))
	}
	i.users[1]++
	i.linkLocals = p.newTable(IPv6, NoIndex, "link-local")
	i.linkLocals.t6 = &worker.Table6{Hash: fib.NewHash6(), ID: NoIndex}
	p.mustSet(i.linkLocals, netip.MustParsePrefix("fe80::/10"), SourceInterface,
		path{Path: Path{Interface: i.index, Weight: 1}, connected: true})
	p.setLinkLocal(i, addr)
	p.reviewNeighbors(i.index)
	return true
}

func (p *Plane) unlockIP6(i *iface) {
	if i.ip6Locks--; i.ip6Locks > 0 {
		return
	}
	i.users[1]--
	p.emptyTable(i.linkLocals)
	i.linkLocals, i.linkLocal = nil, netip.Addr{}
	i.dirty = true
	p.bump = true
}

func (p *Plane) setLinkLocal(i *iface, addr netip.Addr) {
	if i.linkLocal.IsValid() {
		p.dropSource(i.linkLocals, netip.PrefixFrom(i.linkLocal, 128), SourceND)
	}
	i.linkLocal = addr
	p.mustSet(i.linkLocals, netip.PrefixFrom(addr, 128), SourceND, localPath(i.index, addr))
	i.dirty = true
	p.bump = true
}

// mustSet is setSource for the few routes of the engine's own; when even those find no
// room the log tells.
func (p *Plane) mustSet(t *table, prefix netip.Prefix, source uint8, q path) {
	if err := p.setSource(t, prefix, source, []path{q}); err != nil {
		p.log.Error("no room for a route of the engine's own", "prefix", prefix, "err", err)
	}
}

func localPath(index uint32, addr netip.Addr) path {
	return path{Path: Path{Type: PathLocal, Interface: index, NextHop: addr, Weight: 1}}
}
