package nodeconfig

import (
	"fmt"
	"regexp"
	"strings"
)

// maxLinkName is what a kernel name of a link may have in bytes.
const maxLinkName = 15

// maxQueues and maxRing are above what the drivers offer; a NIC's own limit is asked when
// it is known.
const (
	maxQueues = 256
	minRing   = 64
	maxRing   = 32768
)

var pciAddress = regexp.MustCompile(`^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)

// Name is what the uplink was named by.
func (u Uplink) Name() string {
	if u.Interface != "" {
		return u.Interface
	}
	return u.PCI
}

// checkUplinks finds what is wrong with the uplinks without looking at the machine.
func checkUplinks(list []Uplink) []error {
	var errs []error
	named := map[string]int{}
	for i, u := range list {
		at := fmt.Sprintf("uplinks[%d]", i)
		if err := u.validate(at); err != nil {
			errs = append(errs, err)
			continue
		}
		if first, twice := named[u.Name()]; twice {
			errs = append(errs, fmt.Errorf("%s: %s is uplinks[%d] already: name it once", at, u.Name(), first))
			continue
		}
		named[u.Name()] = i
	}
	return errs
}

// validate names what is wrong by the uplink's path, such as uplinks[0].
func (u Uplink) validate(path string) error {
	switch {
	case u.Interface == "" && u.PCI == "":
		return fmt.Errorf("%s: names no NIC: give interface or pci", path)
	case u.Interface != "" && u.PCI != "":
		return fmt.Errorf("%s: interface %q and pci %q both name a NIC: give one of them", path, u.Interface, u.PCI)
	case u.PCI != "" && !pciAddress.MatchString(u.PCI):
		return fmt.Errorf("%s.pci: %q is not an address with its domain, in small letters, such as 0000:03:00.0 (lspci -D prints it)", path, u.PCI)
	case len(u.Interface) > maxLinkName || strings.ContainsFunc(u.Interface, notLinkName) || u.Interface == "." || u.Interface == "..":
		return fmt.Errorf("%s.interface: %q is not a kernel name: want at most %d letters, digits, dots, - or _", path, u.Interface, maxLinkName)
	}
	if u.Mode == ModeShare {
		switch {
		case u.Driver != DriverAuto && u.Driver != DriverAFXDP:
			return fmt.Errorf("%s.mode: share is by af_xdp, and driver is %s: leave driver out, or set mode: own", path, u.Driver)
		case u.NoHostTap:
			return fmt.Errorf("%s.noHostTap: the host keeps a NIC that is shared: set mode: own, or leave noHostTap out", path)
		}
	}
	for _, q := range []struct {
		name  string
		count int
	}{{"rxQueues", u.RxQueues}, {"txQueues", u.TxQueues}} {
		if q.count < 0 || q.count > maxQueues {
			return fmt.Errorf("%s.%s: %d is not between 0 and %d", path, q.name, q.count, maxQueues)
		}
	}
	for _, r := range []struct {
		name  string
		count int
	}{{"rxRing", u.RxRing}, {"txRing", u.TxRing}} {
		if r.count != 0 && (r.count < minRing || r.count > maxRing || r.count&(r.count-1) != 0) {
			return fmt.Errorf("%s.%s: %d is neither 0 nor a power of two between %d and %d", path, r.name, r.count, minRing, maxRing)
		}
	}
	return nil
}

func notLinkName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r)
}
