package dataplane

import (
	"fmt"
	"net/netip"

	"github.com/millrace/millrace/internal/textline"
)

// ProxyRange is a range of IPv4 addresses, both ends in it, that the interfaces of a table
// with a ProxyARP answer for. The table is none of those that everybody uses, or the range
// could not be told from others'.
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
	if p.Table == 0 {
		return fmt.Errorf("want a table of its own, not 0")
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
