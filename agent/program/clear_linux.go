package program

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// ClearHost deletes the links that an agent of that name left in the node's namespace, and with
// them their addresses, routes and settings: the link to the host, and veth pairs of pods. A tun
// that a dataplane still holds stays.
func ClearHost(owner, hostName string) error {
	errs := []error{hostEnd{name: hostName}.removeAbandoned(netlink.TUNTAP_MODE_TUN)}
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, dev := range links {
		if a, ours := parseAlias(dev.Attrs().Alias); ours && a.owner == owner && dev.Type() == "veth" {
			errs = append(errs, removeVeth(dev.Attrs().Name))
		}
	}
	return errors.Join(errs...)
}
