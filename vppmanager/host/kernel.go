package host

import (
	"net/netip"

	"github.com/millrace/millrace/vppmanager/inventory"
)

// Kernel answers about links: rtnetlink and ethtool of a machine, or a recording of their
// answers.
type Kernel interface {
	// Links says what rtnetlink knows of every Ethernet link of this network namespace.
	Links() (Links, error)
	// Ethtool asks a link's driver. What it does not support is left zero.
	Ethtool(link string) (Ethtool, error)
	// Way is the link, by index, over which packets from src to dst leave; 0 = none.
	Way(src, dst netip.Addr) (int, error)
}

// Links are the links with what hangs on them, and the rules of policy routing.
type Links struct {
	Links []Link           `json:"links"`
	Rules []inventory.Rule `json:"rules,omitempty"`
}

// Link is the part of a NIC that rtnetlink knows.
type Link struct {
	inventory.NIC
	Parent string `json:"parent,omitempty"` // the device behind it, as its bus names it (IFLA_PARENT_DEV_NAME)
}

// Ethtool is the part of a NIC that its driver knows.
type Ethtool struct {
	Driver    string   `json:"driver,omitempty"`
	Permanent string   `json:"permanentMAC,omitempty"`
	Speed     int      `json:"speed,omitempty"` // Mbit/s
	RxQueues  int      `json:"rxQueues,omitempty"`
	TxQueues  int      `json:"txQueues,omitempty"`
	MaxQueues int      `json:"maxQueues,omitempty"`
	RxRing    int      `json:"rxRing,omitempty"`
	TxRing    int      `json:"txRing,omitempty"`
	MaxRxRing int      `json:"maxRxRing,omitempty"`
	MaxTxRing int      `json:"maxTxRing,omitempty"`
	Offloads  []string `json:"offloads,omitempty"` // features that are on
}
