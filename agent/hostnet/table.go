package hostnet

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// tableName is that of our nftables table, of the family inet. Nobody else's is touched.
const tableName = "millrace"

// The sets and maps. All else of the table is the same on every node.
const (
	setPods4, setPods6         = "pods4", "pods6"         // sources that are masqueraded
	setKeep4, setKeep6         = "keep4", "keep6"         // destinations to which they are not
	mapPorts4, mapPorts6       = "ports4", "ports6"       // for the node's own connections: address, protocol and port to address and port
	mapArriving4, mapArriving6 = "arriving4", "arriving6" // likewise, for those of others
)

// family is what differs between IPv4 and IPv6.
type family struct {
	protocol           byte // NFPROTO
	pods, keep         string
	ports, arriving    string
	address            nftables.SetDatatype
	length, source, to uint32 // of an address, and where they stand in the header
	// registers of a key that begins in register 1, and of the value that a map puts there
	protocolAt, portAt, toPortAt uint32
}

// The registers are those that nft chooses: 1 and 2 are the first two of 16 bytes, 8 and on
// the same as words of 4 bytes.
func families() []family {
	return []family{
		{unix.NFPROTO_IPV4, setPods4, setKeep4, mapPorts4, mapArriving4, nftables.TypeIPAddr, 4, 12, 16, 9, 10, 9},
		{unix.NFPROTO_IPV6, setPods6, setKeep6, mapPorts6, mapArriving6, nftables.TypeIP6Addr, 16, 8, 24, 2, 13, 2},
	}
}

// sets are empty ones, as they are made.
func (f family) sets(t *nftables.Table) []*nftables.Set {
	list := []*nftables.Set{
		{Table: t, Name: f.pods, KeyType: f.address, Interval: true},
		{Table: t, Name: f.keep, KeyType: f.address, Interval: true},
	}
	for _, name := range []string{f.ports, f.arriving} {
		list = append(list, &nftables.Set{
			Table: t, Name: name, IsMap: true, Concatenation: true,
			KeyType:  nftables.MustConcatSetType(f.address, nftables.TypeInetProto, nftables.TypeInetService),
			DataType: nftables.MustConcatSetType(f.address, nftables.TypeInetService),
		})
	}
	return list
}

// chain is a base chain with its rules.
type chain struct {
	nftables.Chain
	rules [][]expr.Any
}

// chains are all of the table: of connections, the rules of the first count those that get
// the node's address, of the second those to the node's own ports from itself, of the third
// from elsewhere.
func chains(t *nftables.Table) []chain {
	accept := nftables.ChainPolicyAccept
	base := func(name string, hook *nftables.ChainHook, priority *nftables.ChainPriority) chain {
		return chain{Chain: nftables.Chain{Table: t, Name: name, Type: nftables.ChainTypeNAT, Policy: &accept, Hooknum: hook, Priority: priority}}
	}
	post := base("postrouting", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	out := base("output", nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	pre := base("prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	for _, f := range families() {
		post.rules = append(post.rules, f.masquerade())
		out.rules = append(out.rules, f.toService(f.ports))
		pre.rules = append(pre.rules, f.toService(f.arriving))
	}
	return []chain{post, out, pre}
}

// only lets a rule go on for packets of the family.
func (f family) only() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{f.protocol}},
	}
}

// masquerade is: saddr @pods daddr != @keep counter masquerade fully-random. Random ports, as
// kube-proxy has them, because two connections that choose one port at the same time cost one
// of them its first packet.
func (f family) masquerade() []expr.Any {
	return append(f.only(),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.source, Len: f.length},
		&expr.Lookup{SourceRegister: 1, SetName: f.pods},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.to, Len: f.length},
		&expr.Lookup{SourceRegister: 1, SetName: f.keep, Invert: true},
		&expr.Counter{},
		&expr.Masq{FullyRandom: true},
	)
}

// toService is: counter dnat to daddr . l4proto . th dport map @ports or @arriving, where the counter
// stands behind the lookup and so counts what is translated.
func (f family) toService(ports string) []expr.Any {
	return append(f.only(),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.to, Len: f.length},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: f.protocolAt},
		&expr.Payload{DestRegister: f.portAt, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: ports},
		&expr.Counter{},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.protocol), RegAddrMin: 1, RegAddrMax: 1, RegProtoMin: f.toPortAt, RegProtoMax: f.toPortAt, Specified: true},
	)
}
