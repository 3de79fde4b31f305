package nodeconfig

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strings"
)

// maxSocketPath is what fits into a sockaddr_un with its closing NUL.
const maxSocketPath = 107

// Validate reports everything that is wrong with a completed configuration in itself.
// Whether the machine can do it is not asked here.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for _, p := range []struct{ name, path string }{
		{"runtimeDir", c.RuntimeDir}, {"stateDir", c.StateDir}, {"vpp.binary", c.VPP.Binary},
		{"sockets.api", c.Sockets.API}, {"sockets.stats", c.Sockets.Stats}, {"sockets.cni", c.Sockets.CNI}, {"sockets.agent", c.Sockets.Agent},
	} {
		check(path.IsAbs(p.path), "%s: %q is not an absolute path", p.name, p.path)
		check(p.path == path.Clean(p.path), "%s: %q has to be written as %s", p.name, p.path, path.Clean(p.path))
		check(!strings.ContainsFunc(p.path, func(r rune) bool { return r <= ' ' || r == 0x7f }), "%s: %q has a blank or control character", p.name, p.path)
		if strings.HasPrefix(p.name, "sockets.") {
			check(len(p.path) <= maxSocketPath, "%s: %q is longer than a unix socket path may be (%d bytes)", p.name, p.path, maxSocketPath)
		}
	}
	sockets := map[string]bool{c.Sockets.API: true, c.Sockets.Stats: true, c.Sockets.CNI: true, c.Sockets.Agent: true}
	check(len(sockets) == 4, "sockets: api, stats, cni and agent have to be four different paths")
	check(c.MTU >= 1280 && c.MTU <= 9216, "mtu: %d is not between 1280 and 9216", c.MTU)
	check(c.MaxPods >= 1 && c.MaxPods <= 10000, "maxPods: %d is not between 1 and 10000", c.MaxPods)
	check(c.VPP.Workers >= 0 && c.VPP.Workers <= 256, "vpp.workers: %d is not between 0 and 256", c.VPP.Workers)
	check(c.VPP.MainHeapSize >= 64<<20, "vpp.mainHeapSize: %v is less than VPP starts with (64Mi)", c.VPP.MainHeapSize)
	check(c.VPP.BuffersPerNuma == 0 || c.VPP.BuffersPerNuma >= 1024 && c.VPP.BuffersPerNuma <= 1<<24,
		"vpp.buffersPerNuma: %d is neither 0 nor between 1024 and %d", c.VPP.BuffersPerNuma, 1<<24)
	check(c.Engine.Workers >= 0 && c.Engine.Workers <= 256, "engine.workers: %d is not between 0 and 256", c.Engine.Workers)
	errs = append(errs, checkCIDRs(c.PodCIDRs)...)
	errs = append(errs, checkPrefixes("masquerade.nonMasqueradeCIDRs", c.Masquerade.NonMasqueradeCIDRs)...)
	errs = append(errs, checkUplinks(c.Uplinks)...)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("check NodeConfig: %w", err)
	}
	return nil
}

// checkCIDRs finds what is wrong with the ranges of pods: no two may overlap.
func checkCIDRs(list []netip.Prefix) []error {
	errs := checkPrefixes("podCIDRs", list)
	for i, p := range list {
		if p.Addr().Is4In6() || p.Addr().IsMulticast() || p.Addr().IsLoopback() {
			errs = append(errs, fmt.Errorf("podCIDRs[%d]: %v cannot be given to pods", i, p))
		}
		for j, q := range list[:i] {
			if p.Overlaps(q) {
				errs = append(errs, fmt.Errorf("podCIDRs[%d]: %v overlaps podCIDRs[%d] %v", i, p, j, q))
			}
		}
	}
	return errs
}

func checkPrefixes(path string, list []netip.Prefix) []error {
	var errs []error
	for i, p := range list {
		switch {
		case !p.IsValid():
			errs = append(errs, fmt.Errorf("%s[%d]: no prefix", path, i))
		case p != p.Masked():
			errs = append(errs, fmt.Errorf("%s[%d]: %v has host bits set: want %v", path, i, p, p.Masked()))
		case p.Addr().Is4In6() && path != "podCIDRs":
			errs = append(errs, fmt.Errorf("%s[%d]: %v is IPv4 written as IPv6: want %v", path, i, p, netip.PrefixFrom(p.Addr().Unmap(), max(p.Bits()-96, 0))))
		}
	}
	return errs
}
