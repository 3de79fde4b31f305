// Package nat owns what the engine needs for network address translation, as VPP's cnat
// plugin does it: which backend of a service a flow goes to (Maglev), which flows get
// another source (Policy), from which ports (Ports), and how a packet is given other
// addresses and ports (Rewrite).
//
// It never holds a session or a translation, and never sees an interface: the engine has
// neither sessions of translated flows nor the messages that set translations yet, so it
// does not list those, and clients find cnat missing.
//
// Packets are rewritten without the faults of VPP 25.10, which are, by its source: a UDP
// datagram over IPv4 without a checksum gets a wrong one; in later fragments data is taken
// for ports; SCTP over IPv6 is left alone; an error about a packet with IP options is
// changed in the wrong place.
package nat
