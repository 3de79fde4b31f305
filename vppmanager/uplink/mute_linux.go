package uplink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vppmanager/startup"
)

// Mute keeps the kernel from reading what arrives on links that the dataplane reads beside
// it. Without it the kernel would take packets for the host's addresses from the NIC itself,
// too, and answer ARP there: everything would come twice. The dataplane's sockets see the
// packets before.
//
// It is a table of nftables that belongs to this process (NFT_TABLE_F_OWNER, Linux 5.12),
// with an ingress chain per link that drops all. The kernel removes it when the process ends,
// however it ends: a NIC that is given back is never mute.
type Mute struct{ conn *netlink.Conn }

const (
	muteTable    = "millrace-uplinks"
	replyTimeout = time.Minute // it only ends a wait for a kernel that is stuck
)

// MuteLinks mutes the links that stay with the kernel. Nothing is done when there are none.
// It comes before Wire, and is closed when the dataplane has given the links up.
func MuteLinks(uplinks []startup.Uplink) (*Mute, error) {
	names := kernelLinks(uplinks)
	if len(names) == 0 {
		return &Mute{}, nil
	}
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("mute uplinks: open netlink: %w", err)
	}
	if err := muteAll(conn, names); err != nil {
		return nil, errors.Join(fmt.Errorf("mute uplinks %v: %w", names, err), conn.Close())
	}
	return &Mute{conn}, nil
}

// Close lets the kernel read the links again.
func (m *Mute) Close() error {
	if m == nil || m.conn == nil {
		return nil
	}
	if err := m.conn.Close(); err != nil {
		return fmt.Errorf("unmute uplinks: %w", err)
	}
	return nil
}

// kernelLinks are the links that stay with the kernel while the dataplane has them for itself.
func kernelLinks(uplinks []startup.Uplink) (names []string) {
	for _, u := range uplinks {
		if u.Share {
			continue
		}
		for _, part := range append([]startup.Uplink{u}, u.Members...) {
			if d, err := dataplane.ParseNICDriver(string(part.Driver)); err == nil && d.Kernel() && part.Link != "" {
				names = append(names, part.Link)
			}
		}
	}
	return names
}

// muteAll sends one batch, which the kernel takes as a whole or not at all.
func muteAll(conn *netlink.Conn, names []string) error {
	table, err := tableMessage()
	if err != nil {
		return err
	}
	batch := []netlink.Message{boundary(unix.NFNL_MSG_BATCH_BEGIN), table}
	for _, name := range names {
		chain, err := chainMessage(name)
		if err != nil {
			return err
		}
		batch = append(batch, chain)
	}
	sent, err := conn.SendMessages(append(batch, boundary(unix.NFNL_MSG_BATCH_END)))
	if err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(replyTimeout)); err != nil {
		return err
	}
	for answers := 0; answers < len(sent)-2; { // the boundaries have none
		replies, err := conn.Receive()
		if err != nil {
			return err
		}
		answers += len(replies)
	}
	return nil
}

func boundary(kind netlink.HeaderType) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: kind, Flags: netlink.Request},
		Data:   nfHeader(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES),
	}
}

// nfHeader is nfgenmsg: family, version 0, resource in network order.
func nfHeader(family uint8, resource uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource)
}

func tableMessage() (netlink.Message, error) {
	const owner = 2 // NFT_TABLE_F_OWNER
	return nfMessage(unix.NFT_MSG_NEWTABLE, func(e *netlink.AttributeEncoder) {
		e.String(unix.NFTA_TABLE_NAME, muteTable)
		e.Uint32(unix.NFTA_TABLE_FLAGS, owner)
	})
}

func chainMessage(link string) (netlink.Message, error) {
	return nfMessage(unix.NFT_MSG_NEWCHAIN, func(e *netlink.AttributeEncoder) {
		e.String(unix.NFTA_CHAIN_TABLE, muteTable)
		e.String(unix.NFTA_CHAIN_NAME, link)
		e.Nested(unix.NFTA_CHAIN_HOOK, func(h *netlink.AttributeEncoder) error {
			h.ByteOrder = binary.BigEndian
			h.Uint32(unix.NFTA_HOOK_HOOKNUM, unix.NF_NETDEV_INGRESS)
			h.Uint32(unix.NFTA_HOOK_PRIORITY, 0)
			h.String(unix.NFTA_HOOK_DEV, link)
			return nil
		})
		e.Uint32(unix.NFTA_CHAIN_POLICY, 0) // NF_DROP
		e.String(unix.NFTA_CHAIN_TYPE, "filter")
	})
}

func nfMessage(kind uint16, fill func(*netlink.AttributeEncoder)) (netlink.Message, error) {
	e := netlink.NewAttributeEncoder()
	e.ByteOrder = binary.BigEndian
	fill(e)
	attributes, err := e.Encode()
	return netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind),
			Flags: netlink.Request | netlink.Acknowledge | netlink.Create,
		},
		Data: append(nfHeader(unix.NFPROTO_NETDEV, 0), attributes...),
	}, err
}
