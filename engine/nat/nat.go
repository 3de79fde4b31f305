// Package nat owns what the engine needs for network address translation, as VPP's cnat
// plugin does it: which translation a packet is for (Tables), which of its backends a flow
// goes to (Translation), which flows get another source (Policy), from which ports (Ports),
// what the packets of a flow, and of its answers, get from then on (Sessions), and how a
// packet is given other addresses and ports (Rewrite).
//
// It never sees an interface or a message of the API, and reads no clock.
//
// Packets are rewritten without the faults of VPP 25.10, which are, by its source: a UDP
// datagram over IPv4 without a checksum gets a wrong one; in later fragments data is taken
// for ports; SCTP over IPv6 is left alone; an error about a packet with IP options is
// changed in the wrong place.
package nat
