// Package fib owns longest prefix match and the spreading of flows over paths: the part
// of a route that a worker reads for each packet.
//
//	address ─► Trie4 / Hash6 ─► leaf ─► (owner's arrays) ─► Balance ─► one of its targets
//
// Readers take no lock and may run beside one writer. The slices hold no pointers, so
// that the garbage collector never scans them. The package never knows what a leaf or a
// target means, and keeps no list of routes.
package fib

// Miss is the leaf of an address that no prefix covers. Real leaves are above it.
const Miss uint32 = 0

// MaxLeaf is the largest leaf a table can hold.
const MaxLeaf uint32 = 1<<31 - 1
