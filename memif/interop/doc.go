// Package interop tries package memif against peers that none of us wrote: DPDK's testpmd
// on net_memif (Debian package dpdk-dev) and, where VPP_BIN names one, VPP's memif plugin.
//
// It owns tests only. They judge what arrives, and that a link comes back when either side
// is killed; they measure nothing.
package interop
