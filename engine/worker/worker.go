// Package worker owns the forwarding path: threads that take batches of packets from
// ports, send each batch through short stages, and hand it to other ports.
//
//	Receive ─► parse ─► flow cache ─► (miss: uRPF, lookup) ─► rewrite ─► Transmit
//	             │                                              │
//	             └─► ARP, ND, echo, ICMP errors ◄───────────────┘
//
// Access lists judge packets on their way as VPP's acl plugin does. Where this differs, it
// is on purpose, and for nobody to worry about:
//   - Where sessions are judged again after a change of rules, an answer is judged as well
//     as what it answers: a flow that is forbidden now stops with its next packet, whichever
//     way that goes. A session that passes keeps what it knows of its connection.
//   - SCTP has ports. VPP takes them for 0, so that no rule for a port matches.
//   - A packet too long for the way out is judged whole, before it is cut: VPP judges the
//     fragments, and later ones by the first rule for their addresses and protocol.
//
// Addresses are translated as VPP's cnat plugin does it in features, but for these:
//   - UDP, and TCP that is not open yet, leave a backend that is gone with their next packet.
//     VPP's sessions know of no edit until they time out, which busy ones never do.
//   - A client that speaks from one port to one backend by two services at a time is shown
//     to the backend by two ports, as Linux does it; VPP mixes the answers up.
//   - Later fragments get the addresses that the first one got, for two seconds. Those that
//     come before it are dropped if they are for a service or to go out with another source.
//   - A flow that nothing translates is looked for once a second: it may take so long until
//     its packets belong to a session that begins with a packet of another flow.
//
// A worker reads State without a lock and tells what it learned by Learn. It never edits
// a table, and on the path of a packet it never allocates, locks, logs or uses a map.
// The files stand in the order in which a packet meets them.
package worker
