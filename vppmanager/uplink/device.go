package uplink

import (
	"fmt"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
	"github.com/millrace/millrace/vppmanager/startup"
)

// device is the uplink's, and makes the members if it is a bond.
func (w *wiring) device(u startup.Uplink, mac dataplane.MAC) (dataplane.Device, error) {
	if u.Bond == nil {
		return nic(u, mac, len(u.VLANs) > 0)
	}
	bond, err := bondOf(*u.Bond, mac)
	if err != nil {
		return nil, err
	}
	for _, m := range u.Members {
		device, err := nic(m, mac, len(u.VLANs) > 0) // as in Linux, members take the bond's address
		if err != nil {
			return nil, fmt.Errorf("member %s: %w", m.Name, err)
		}
		w.put(
			dataplane.Interface{Name: m.Name, Device: device, MTU: newSite("", "", mac, u.MTU, nil, nil).mtu},
			dataplane.BondMember{Interface: m.Name, Bond: u.Name, LongTimeout: bond.Mode == dataplane.BondLACP && !u.Bond.LACPFast},
			dataplane.Up{Interface: m.Name},
		)
	}
	return bond, nil
}

// nic is the card. Virtio-net keeps frames from DPDK whose VLAN it was not told of, and VPP
// tells only some cards of VLANs: those with some take all frames.
func nic(u startup.Uplink, mac dataplane.MAC, vlans bool) (dataplane.NIC, error) {
	driver, err := dataplane.ParseNICDriver(string(u.Driver))
	if err != nil {
		return dataplane.NIC{}, err
	}
	d := dataplane.NIC{Driver: driver}
	switch u.Driver {
	case nodeconfig.DriverDPDK:
		d.Port = u.Name // startup.conf gives it that name, its queues and its rings
		d.Promiscuous = vlans
		return d, nil
	case nodeconfig.DriverAVF, nodeconfig.DriverVirtio:
		d.Port = u.PCI
	default:
		d.Port = u.Link
	}
	d.Share = u.Share
	if driver.OwnMAC() {
		d.MAC = mac
	}
	for _, n := range []struct {
		from int
		to   *uint16
	}{{u.RxQueues, &d.RxQueues}, {u.TxQueues, &d.TxQueues}, {u.RxRing, &d.RxRing}, {u.TxRing, &d.TxRing}} {
		if n.from < 0 || n.from > 65535 {
			return dataplane.NIC{}, fmt.Errorf("queues and rings %d, %d, %d, %d: want 0 to 65535", u.RxQueues, u.TxQueues, u.RxRing, u.TxRing)
		}
		*n.to = uint16(n.from)
	}
	return d, nil
}

// bondOf reads Linux's words. Of the policies that VPP lacks, those for tunnels become what
// they are without one.
func bondOf(b inventory.Bond, mac dataplane.MAC) (dataplane.Bond, error) {
	mode, err := dataplane.ParseBondMode(b.Mode)
	if err != nil {
		return dataplane.Bond{}, err
	}
	d := dataplane.Bond{Mode: mode, MAC: mac}
	if mode != dataplane.BondXOR && mode != dataplane.BondLACP {
		return d, nil
	}
	switch b.XmitHash {
	case "", "encap2+3":
		d.Balance = map[bool]dataplane.BondBalance{true: dataplane.BalanceL2, false: dataplane.BalanceL23}[b.XmitHash == ""]
		return d, nil
	case "encap3+4":
		d.Balance = dataplane.BalanceL34
		return d, nil
	}
	d.Balance, err = dataplane.ParseBondBalance(b.XmitHash)
	return d, err
}

// hostLink is the dataplane's end of the host's link; it has a MAC of its own, since the
// host's is the NIC's.
func (w *wiring) hostLink(s *site) dataplane.Interface {
	i := dataplane.Interface{Name: s.name + "/host", MTU: s.mtu, Table: s.host}
	if w.options.Tap {
		i.Device = dataplane.Tap{
			HostName: s.link, HostMAC: s.mac, MAC: HostPeer(s.mac),
			Queues: 1, RxRing: 1024, TxRing: 1024, Offload: dataplane.OffloadGSO,
		}
		return i
	}
	i.Device = dataplane.Veth{HostName: s.link, HostMAC: s.mac, Outer: "mr-" + s.name, MAC: HostPeer(s.mac)}
	return i
}

// HostPeer is the MAC address of the dataplane's end of a host link, by that of the host's:
// a locally administered one that no restart changes.
func HostPeer(host dataplane.MAC) dataplane.MAC {
	return dataplane.MAC{0x02, 0x6d, host[2] ^ 0x72, host[3], host[4], host[5]}
}
