package compile

import (
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/memifspec"
)

// memifEnd is a memif between a pod and the dataplane. The pod's end has whatever MAC its
// program chooses: the dataplane asks for it by ARP and neighbour discovery, and answers
// for its own addresses.
func (c *compilation) memifEnd(a cluster.Attachment, m cluster.Memif) end {
	d := dataplane.Memif{
		Netns: a.Netns, Socket: m.Socket(), RxQueues: m.RxQueues, TxQueues: m.TxQueues,
		RingSize: m.RingSize, BufferSize: m.BufferSize, Secret: m.Password, UseDMA: c.options.MemifDMA,
	}
	switch m.Mode {
	case memifspec.IP:
		d.Mode = dataplane.MemifIP
	case memifspec.Ethernet:
		d.Mode, d.MAC = dataplane.MemifEthernet, MemifMAC(a, m)
	}
	return end{place: place{a.Netns, "socket @" + m.Socket()}, name: PodMemif(a, m), device: d, mtu: a.MTU, addresses: m.Addresses}
}

// PodMemif names the interface of a memif, like PodInterface.
func PodMemif(a cluster.Attachment, m cluster.Memif) string {
	return interfaceName(a.Pod, m.Name, memifIdentity(a, m), dataplane.MemifNameMax)
}

// MemifMAC is the MAC of the dataplane's end, where the memif carries Ethernet.
func MemifMAC(a cluster.Attachment, m cluster.Memif) dataplane.MAC {
	return mac("dataplane " + memifIdentity(a, m))
}

func memifIdentity(a cluster.Attachment, m cluster.Memif) string {
	return "memif " + a.ID.String() + "/" + m.Name
}
