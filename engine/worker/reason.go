package worker

import "slices"

// Reason is why a packet was dropped, or what was done for it. Its name is VPP's node
// and counter description where VPP has such a counter.
type Reason uint16

// Reasons. None is not counted.
const (
	None Reason = iota
	Blackholed
	EthernetTruncated
	EthernetType
	EthernetVLAN
	EthernetMAC
	InterfaceDown
	IP4Short
	IP4Length
	IP4Checksum
	IP4Version
	IP4HeaderLength
	IP4Options
	IP4Fragment
	IP4TTL
	IP4MTU
	IP4Spoofed
	IP4NoSource
	IP4Protocol
	IP4TransportChecksum
	IP4UDPLength
	IP4Multicast
	IP4NotEnabled
	IP4URPFStrict
	IP4URPFLoose
	IP6Short
	IP6Length
	IP6Version
	IP6HopLimit
	IP6MTU
	IP6Extension
	IP6Spoofed
	IP6NoSource
	IP6Protocol
	IP6TransportChecksum
	IP6UDPLength
	IP6Multicast
	IP6NotEnabled
	IP6Scope
	IP6URPFStrict
	IP6URPFLoose
	BadOffload
	LookupLoop
	Unreachable4
	Unreachable6
	Prohibited4
	Prohibited6
	UDPNoListener4
	UDPNoListener6
	ICMP4Type
	ICMP4Short
	ICMP4Checksum
	ICMP4Echo
	ICMP4Unreachable
	ICMP4TimeExceeded
	ICMP4Throttled
	ICMP6Type
	ICMP6Short
	ICMP6Checksum
	ICMP6Echo
	ICMP6Unreachable
	ICMP6TooBig
	ICMP6TimeExceeded
	ICMP6Throttled
	ARPReplies
	ARPProxied
	ARPRepliesReceived
	ARPFormat
	ARPSourceNotLocal
	ARPTargetNotLocal
	ARPSourceIsLocal
	ARPAddressMismatch
	ARPGratuitous
	ARPNotEnabled
	ARPLearned
	ARPSent
	ARPThrottled
	ARPNoSource
	NDNotOnLink
	NDUnknownTarget
	NDAdvertsSent
	NDAdvertsReceived
	NDMalformed
	NDSent
	NDThrottled
	NDNoSource
	FragmentsSent
	FragmentFailed
	SegmentsSent
	SegmentFailed
	TxFull
	TxInterfaceDown
	TxGone
	TxMalformed
	TxTooLong
	RxInvalid
	RxTooLong
	NoBuffers
	VXLAN4Encapsulated
	VXLAN6Encapsulated
	VXLAN4Decapsulated
	VXLAN4NoTunnel
	VXLAN4BadFlags
	VXLAN6Decapsulated
	VXLAN6NoTunnel
	VXLAN6BadFlags
	NoBridge
	TunnelInTunnel
	LearnQueueFull
	Panic
	numPlain
)

// Counters of access lists: a node for each direction and family, each with these.
const (
	aclDeny Reason = iota
	aclPermit
	aclNew
	aclExist
	aclCheck
	aclFull
	aclReasons

	numACL = numPlain + 4*aclReasons
)

// aclReason is a counter of the lists that judge what comes in or goes out.
func aclReason(which Reason, input, v6 bool) Reason {
	r := numPlain + which
	if !input {
		r += 2 * aclReasons
	}
	if v6 {
		r += aclReasons
	}
	return r
}

// aclNames are the names of VPP's acl plugin.
func aclNames() []Name {
	var all []Name
	for _, node := range []string{"acl-plugin-in-ip4-fa", "acl-plugin-in-ip6-fa", "acl-plugin-out-ip4-fa", "acl-plugin-out-ip6-fa"} {
		all = append(all,
			Name{node, "ACL deny packets", Error},
			Name{node, "ACL permit packets", Info},
			Name{node, "new sessions added", Info},
			Name{node, "existing session packets", Info},
			Name{node, "checked packets", Info},
			Name{node, "too many sessions to add new", Error})
	}
	return all
}

// Counters of address translation: a node for each direction and family, each with these.
const (
	natNoPorts Reason = iota
	natFull
	natPiece
	natReasons

	numReasons = numACL + 4*natReasons
)

// natReason is a counter of what translates packets that come in or go out.
func natReason(which Reason, output, v6 bool) Reason {
	r := numACL + which
	if output {
		r += 2 * natReasons
	}
	if v6 {
		r += natReasons
	}
	return r
}

// natNames are the names of VPP's cnat plugin, which has the first only.
func natNames() []Name {
	var all []Name
	for _, node := range []string{"cnat-input-ip4", "cnat-input-ip6", "cnat-output-ip4", "cnat-output-ip6"} {
		all = append(all,
			Name{node, "no more free ports", Error},
			Name{node, "too many sessions to add new", Error},
			Name{node, "fragment before the first of its packet", Error})
	}
	return all
}

// Severity of a counter, as in VPP's .api files.
const (
	Info  = "info"
	Error = "error"
)

// Name is how a Reason is shown: "show errors" and /err/<node>/<text>.
type Name struct{ Node, Text, Severity string }

// Names returns the name of each Reason, in order.
func Names() []Name {
	return slices.Concat([]Name{
		None:                 {"null-node", "no error", Info},
		Blackholed:           {"null-node", "blackholed packets", Error},
		EthernetTruncated:    {"ethernet-input", "frame shorter than its header", Error},
		EthernetType:         {"ethernet-input", "unknown ethernet type", Error},
		EthernetVLAN:         {"ethernet-input", "unknown vlan", Error},
		EthernetMAC:          {"ethernet-input", "l3 mac mismatch", Error},
		InterfaceDown:        {"ethernet-input", "subinterface down", Error},
		IP4Short:             {"ip4-input", "ip4 length < 20 bytes", Error},
		IP4Length:            {"ip4-input", "ip4 length > l2 length", Error},
		IP4Checksum:          {"ip4-input", "bad ip4 checksum", Error},
		IP4Version:           {"ip4-input", "ip4 version != 4", Error},
		IP4HeaderLength:      {"ip4-input", "ip4 IHL < 5", Error},
		IP4Options:           {"ip4-input", "ip4 options present", Info},
		IP4Fragment:          {"ip4-input", "ip4 fragment offset == 1", Error},
		IP4TTL:               {"ip4-input", "ip4 ttl <= 1", Error},
		IP4MTU:               {"ip4-input", "ip4 MTU exceeded and DF set", Error},
		IP4Spoofed:           {"ip4-local", "ip4 spoofed local-address packet drops", Error},
		IP4NoSource:          {"ip4-local", "ip4 source lookup miss", Error},
		IP4Protocol:          {"ip4-local", "unknown ip protocol", Error},
		IP4TransportChecksum: {"ip4-local", "bad tcp or udp checksum", Error},
		IP4UDPLength:         {"ip4-local", "inconsistent udp/ip lengths", Error},
		IP4Multicast:         {"ip4-mfib-forward-rpf", "Multicast RPF check failed", Error},
		IP4NotEnabled:        {"ip4-not-enabled", "ip4 drop", Error},
		IP4URPFStrict:        {"ip4-rx-urpf-strict", "uRPF Drop", Error},
		IP4URPFLoose:         {"ip4-rx-urpf-loose", "uRPF Drop", Error},
		IP6Short:             {"ip6-input", "ip6 length < 40 bytes", Error},
		IP6Length:            {"ip6-input", "ip6 length > l2 length", Error},
		IP6Version:           {"ip6-input", "ip6 version != 6", Error},
		IP6HopLimit:          {"ip6-input", "ip6 ttl <= 1", Error},
		IP6MTU:               {"ip6-input", "ip6 MTU exceeded", Error},
		IP6Extension:         {"ip6-input", "malformed extension headers", Error},
		IP6Spoofed:           {"ip6-local", "ip6 spoofed local-address packet drops", Error},
		IP6NoSource:          {"ip6-local", "ip6 source lookup miss", Error},
		IP6Protocol:          {"ip6-local", "unknown ip protocol", Error},
		IP6TransportChecksum: {"ip6-local", "bad udp or icmp checksum", Error},
		IP6UDPLength:         {"ip6-local", "inconsistent udp/ip lengths", Error},
		IP6Multicast:         {"ip6-mfib-forward-rpf", "Multicast RPF check failed", Error},
		IP6NotEnabled:        {"ip6-not-enabled", "ip6 drop", Error},
		IP6Scope:             {"ip6-link-local", "link-local source to another link", Error},
		IP6URPFStrict:        {"ip6-rx-urpf-strict", "uRPF Drop", Error},
		IP6URPFLoose:         {"ip6-rx-urpf-loose", "uRPF Drop", Error},
		BadOffload:           {"virtio-input", "offload contradicts the packet", Error},
		LookupLoop:           {"lookup", "too many tables looked up in turn", Error},
		Unreachable4:         {"ip4-null", "unreachable route", Error},
		Unreachable6:         {"ip6-null", "unreachable route", Error},
		Prohibited4:          {"ip4-null", "prohibited route", Error},
		Prohibited6:          {"ip6-null", "prohibited route", Error},
		UDPNoListener4:       {"ip4-udp-lookup", "No listener for dst port", Error},
		UDPNoListener6:       {"ip6-udp-lookup", "No listener for dst port", Error},
		ICMP4Type:            {"ip4-icmp-input", "unknown type", Error},
		ICMP4Short:           {"ip4-icmp-input", "payload length too small for type", Error},
		ICMP4Checksum:        {"ip4-icmp-input", "bad icmp checksum", Error},
		ICMP4Echo:            {"ip4-icmp-echo-request", "echo replies sent", Info},
		ICMP4Unreachable:     {"ip4-icmp-error", "destination unreachable response sent", Info},
		ICMP4TimeExceeded:    {"ip4-icmp-error", "hop limit exceeded response sent", Info},
		ICMP4Throttled:       {"ip4-icmp-error", "error message dropped", Error},
		ICMP6Type:            {"ip6-icmp-input", "unknown type", Error},
		ICMP6Short:           {"ip6-icmp-input", "payload length too small for type", Error},
		ICMP6Checksum:        {"ip6-icmp-input", "bad icmp checksum", Error},
		ICMP6Echo:            {"ip6-icmp-echo-request", "echo replies sent", Info},
		ICMP6Unreachable:     {"ip6-icmp-error", "destination unreachable response sent", Info},
		ICMP6TooBig:          {"ip6-icmp-error", "packet too big response sent", Info},
		ICMP6TimeExceeded:    {"ip6-icmp-error", "hop limit exceeded response sent", Info},
		ICMP6Throttled:       {"ip6-icmp-error", "error message dropped", Error},
		ARPReplies:           {"arp-reply", "ARP replies sent", Info},
		ARPProxied:           {"arp-proxy", "ARP replies sent", Info},
		ARPRepliesReceived:   {"arp-reply", "ARP replies received", Info},
		ARPFormat:            {"arp-input", "L3 type not IP4", Error},
		ARPSourceNotLocal:    {"arp-reply", "IP4 source address not local to subnet", Error},
		ARPTargetNotLocal:    {"arp-reply", "IP4 destination address not local to subnet", Error},
		ARPSourceIsLocal:     {"arp-reply", "IP4 source address matches local interface", Error},
		ARPAddressMismatch:   {"arp-reply", "ARP hw addr does not match L2 frame src addr", Error},
		ARPGratuitous:        {"arp-reply", "ARP probe or announcement dropped", Error},
		ARPNotEnabled:        {"arp-disabled", "Interface is not IP enabled", Error},
		ARPLearned:           {"arp-reply", "ARP request IP4 source address learned", Info},
		ARPSent:              {"ip4-glean", "ARP requests sent", Info},
		ARPThrottled:         {"ip4-glean", "ARP requests throttled", Error},
		ARPNoSource:          {"ip4-glean", "no source address for ARP request", Error},
		NDNotOnLink:          {"ip6-icmp-input", "neighbor solicitations from source not on link", Error},
		NDUnknownTarget:      {"ip6-icmp-input", "neighbor solicitations for unknown targets", Error},
		NDAdvertsSent:        {"ip6-icmp-input", "neighbor advertisements sent", Info},
		NDAdvertsReceived:    {"ip6-icmp-input", "neighbor advertisements received", Info},
		NDMalformed:          {"ip6-icmp-input", "malformed neighbor discovery", Error},
		NDSent:               {"ip6-glean", "neighbor solicitations sent", Info},
		NDThrottled:          {"ip6-glean", "throttled", Error},
		NDNoSource:           {"ip6-glean", "no source address for ND solicitation", Error},
		FragmentsSent:        {"ip4-frag", "number of sent fragments", Info},
		FragmentFailed:       {"ip4-frag", "can't fragment this packet", Error},
		SegmentsSent:         {"interface-output", "segments cut from GSO packets", Info},
		SegmentFailed:        {"interface-output", "GSO packet could not be cut", Error},
		TxFull:               {"interface-output", "no free tx slots", Error},
		TxInterfaceDown:      {"interface-output", "interface is down", Error},
		TxGone:               {"interface-output", "interface is deleted", Error},
		TxMalformed:          {"interface-output", "checksum could not be finished", Error},
		TxTooLong:            {"interface-output", "packet longer than the device's ring", Error},
		RxInvalid:            {"memif-input", "bad descriptor", Error},
		RxTooLong:            {"memif-input", "packet longer than a buffer", Error},
		NoBuffers:            {"interface-output", "out of buffers", Error},
		VXLAN4Encapsulated:   {"vxlan4-encap", "good packets encapsulated", Info},
		VXLAN6Encapsulated:   {"vxlan6-encap", "good packets encapsulated", Info},
		VXLAN4Decapsulated:   {"vxlan4-input", "good packets decapsulated", Info},
		VXLAN4NoTunnel:       {"vxlan4-input", "no such tunnel packets", Error},
		VXLAN4BadFlags:       {"vxlan4-input", "packets with bad flags field in vxlan header", Error},
		VXLAN6Decapsulated:   {"vxlan6-input", "good packets decapsulated", Info},
		VXLAN6NoTunnel:       {"vxlan6-input", "no such tunnel packets", Error},
		VXLAN6BadFlags:       {"vxlan6-input", "packets with bad flags field in vxlan header", Error},
		NoBridge:             {"l2-input", "no bridge for a tunnel's packet", Error},
		TunnelInTunnel:       {"vxlan4-encap", "route to the tunnel's end leads into a tunnel", Error},
		LearnQueueFull:       {"ip-neighbor", "learned neighbours lost: control thread busy", Error},
		Panic:                {"worker", "batches dropped after an internal error", Error},
	}, aclNames(), natNames())
}
