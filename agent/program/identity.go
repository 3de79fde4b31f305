package program

import "go.fd.io/govpp/binapi/fib"

// Identity is whose objects a Program works on. Two of them share a machine without seeing
// what is the other's: tags and names of tables begin with a Mark of their own, and routes
// have a Source of their own. Where both have a route to one prefix of one table, the
// machine forwards by that of the lower Priority.
type Identity struct {
	Owner    string // of kernel devices; the same over restarts, another one for another process on the same kernel
	Mark     string // ends in a slash; with the longest name at most 63 bytes
	Source   string // name of the FIB source
	Priority uint8  // of the FIB source; VPP's are in vnet/fib/fib_source.h: interface addresses 3, API 0x80

	// Uplinks is the Mark of who owns the uplinks that ours may route through; empty = none.
	Uplinks string

	// HostLinks says that the kernel's end of a Tap or Veth is the host's own: it is made
	// and deleted, but its addresses, routes and neighbours are others' business. The
	// HostSide of every interface is then empty.
	HostLinks bool
}

const nodeMark = "millrace-node/"

// Agent is who connects pods. Its routes come after interface addresses, and before those
// of the CLI and other clients.
func Agent(node string) Identity {
	return Identity{Owner: node, Mark: "millrace/", Source: "millrace", Priority: 0x7f, Uplinks: nodeMark}
}

// Node is who connects the node itself. Its routes come before interface addresses: what is
// for the host must not end in the machine.
func Node(owner string) Identity {
	return Identity{Owner: owner, Mark: nodeMark, Source: "millrace-node", Priority: 0x02, HostLinks: true}
}

func (i Identity) fibSource() fib.FibSource {
	return fib.FibSource{Name: i.Source, Priority: i.Priority}
}
