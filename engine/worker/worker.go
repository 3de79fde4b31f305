// Package worker owns the forwarding path: threads that take batches of packets from
// ports, send each batch through short stages, and hand it to other ports.
//
//	Receive ─► parse ─► flow cache ─► (miss: uRPF, lookup) ─► rewrite ─► Transmit
//	             │                                              │
//	             └─► ARP, ND, echo, ICMP errors ◄───────────────┘
//
// A worker reads State without a lock and tells what it learned by Learn. It never edits
// a table, and on the path of a packet it never allocates, locks, logs or uses a map.
// The files stand in the order in which a packet meets them.
package worker
