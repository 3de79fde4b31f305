package dataplane

import (
	"fmt"
	"net/netip"

	"github.com/millrace/millrace/internal/textline"
)

// ProxyRange is a range of IPv4 addresses, both ends in it, that the interfaces of a table
// with a ProxyARP answer for.
type ProxyRange struct {
	Table     uint32
	Low, High netip.Addr
}

func (p ProxyRange) Key() Key {
	return Key{KindProxyRange, fmt.Sprintf("%d %s-%s", p.Table, p.Low, p.High)}
}
func (p ProxyRange) String() string { return p.line().String() }

func (p ProxyRange) line() textline.Line {
	return textline.New("proxy-range", fmt.Sprint(p.Table), p.Low.String()+"-"+p.High.String())
}

func (p ProxyRange) check() error {
	if !p.Low.Is4() || !p.High.Is4() || p.High.Less(p.Low) {
		return fmt.Errorf("range %s-%s: want two IPv4 addresses, the lower first", p.Low, p.High)
	}
	return nil
}

func (p ProxyRange) requires() []Key     { return requireTables(nil, p.Table, IPv4) }
func (p ProxyRange) becomes(Object) bool { return false }

// ProxyARP lets an interface answer ARP requests for the ProxyRanges of its table.
type ProxyARP struct{ Interface string }

func (p ProxyARP) Key() Key            { return Key{KindProxyARP, p.Interface} }
func (p ProxyARP) String() string      { return p.line().String() }
func (p ProxyARP) line() textline.Line { return textline.New("proxy-arp", p.Interface) }
func (p ProxyARP) check() error        { return checkName(p.Interface) }
func (p ProxyARP) requires() []Key     { return []Key{InterfaceKey(p.Interface)} }
func (p ProxyARP) becomes(Object) bool { return false }

// LinkLocal gives an interface a link-local IPv6 address, from which it asks for neighbours
// and answers them, whether it has others or not. It has the interface advertise no router:
// a machine such as VPP does so by default.
type LinkLocal struct{ Interface string }

func (l LinkLocal) Key() Key            { return Key{KindLinkLocal, l.Interface} }
func (l LinkLocal) String() string      { return l.line().String() }
func (l LinkLocal) line() textline.Line { return textline.New("link-local", l.Interface) }
func (l LinkLocal) check() error        { return checkName(l.Interface) }
func (l LinkLocal) becomes(Object) bool { return false }

// requires: where an address brought IPv6 along, it takes it away.
func (l LinkLocal) requires() []Key {
	return []Key{InterfaceKey(l.Interface), addressesOf(l.Interface)}
}
