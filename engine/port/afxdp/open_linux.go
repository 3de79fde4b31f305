package afxdp

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/cilium/ebpf/link"
	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/engine/port/hostlink"
	"github.com/millrace/millrace/engine/port/hostns"
	"github.com/millrace/millrace/internal/steer"
)

// Open attaches the program and opens a socket on each queue. When it fails nothing is left
// behind, and the error is an *Error.
func Open(c Config) (*Port, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	for _, n := range []*int{&c.RxRing, &c.TxRing} {
		if *n == 0 {
			*n = defaultRing
		}
	}
	p := &Port{namespace: c.Namespace}
	err := hostns.Do(c.Namespace, func() error { return p.open(&c) })
	if err == nil {
		return p, nil
	}
	closing := p.Close()
	if e, ok := errors.AsType[*Error](err); ok {
		e.Err = errors.Join(e.Err, closing)
		return nil, e
	}
	return nil, fail(NoNamespace, "%w", errors.Join(err, closing))
}

func (p *Port) open(c *Config) error {
	if err := p.findHost(c.HostIfName); err != nil {
		return err
	}
	queues, err := queuesOf(c)
	if err != nil {
		return err
	}
	if err := p.attach(c); err != nil {
		return err
	}
	// Until a socket stands in the map, its queue's packets go to the kernel.
	for q := range queues {
		s, err := openQueue(c, p.host.IfIndex, q, p.how == steer.Generic)
		if err != nil {
			return fail(NoSocket, "queue %d of %s: %w; %s", q, c.HostIfName, err, advise(err))
		}
		p.queues = append(p.queues, s)
	}
	for q, s := range p.queues {
		if err := p.program.SetSocket(q, s.fd); err != nil {
			return fail(NoSocket, "%w", err)
		}
	}
	return nil
}

func (p *Port) findHost(name string) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fail(NoSocket, "open netlink: %w", err)
	}
	defer h.Close()
	l, err := h.LinkByName(name)
	if err != nil {
		return fail(NoInterface, "find host interface %q: %w", name, err)
	}
	p.host = hostlink.Of(l)
	if len(p.host.HardwareAddr) != 6 {
		return fail(NoInterface, "host interface %s is no Ethernet: it has no MAC address", name)
	}
	if l.Attrs().Flags&net.FlagUp == 0 {
		return fail(NoInterface, "host interface %s is down: set it up first (ip link set %s up)", name, name)
	}
	p.mac = slices.Clone(p.host.HardwareAddr)
	return nil
}

// queuesOf is how many queues to serve. An interface that cannot tell has one.
func queuesOf(c *Config) (int, error) {
	have := 1
	e, err := ethtool.NewEthtool()
	if err != nil {
		return 0, fail(NoSocket, "open ethtool: %w", err)
	}
	defer e.Close()
	if ch, err := e.GetChannels(c.HostIfName); err == nil {
		have = max(1, int(max(ch.CombinedCount, ch.RxCount)))
	}
	want := max(1, c.RxQueues)
	switch {
	case c.RxQueues == AllQueues && have > steer.MaxQueues:
		return 0, fail(NoInterface, "%s has %d receive queues, and there is room for %d: reduce them (ethtool -L %s combined %d)",
			c.HostIfName, have, steer.MaxQueues, c.HostIfName, steer.MaxQueues)
	case c.RxQueues == AllQueues:
		want = have
	case want > have:
		return 0, fail(NoInterface, "%s has %d receive queues, and %d are wanted", c.HostIfName, have, want)
	}
	return want, nil
}

// attach brings the program onto the interface: by its driver, or where that refuses by the
// kernel.
func (p *Port) attach(c *Config) error {
	if err := refuseOther(c.HostIfName); err != nil {
		return err
	}
	var err error
	if p.program, err = steer.Load(!c.Share); err != nil {
		return fail(NoProgram, "%w; %s", err, advise(err))
	}
	if err := p.program.SetMAC(p.host.HardwareAddr); err != nil {
		return fail(NoProgram, "%w", err)
	}
	var errs []error
	for _, way := range []struct {
		how   steer.Mode
		flags link.XDPAttachFlags
	}{{steer.Native, link.XDPDriverMode}, {steer.Generic, link.XDPGenericMode}} {
		p.xdp, err = link.AttachXDP(link.XDPOptions{Program: p.program.XDP(), Interface: p.host.IfIndex, Flags: way.flags})
		if err == nil {
			p.how = way.how
			return nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", way.how, err))
	}
	return fail(NoProgram, "attach XDP program to %s: %w; %s", c.HostIfName, errors.Join(errs...), advise(err))
}

// refuseOther names a program that is there already.
func refuseOther(ifName string) error {
	have, err := steer.On(ifName)
	if err != nil {
		return fail(NoProgram, "%w", err)
	}
	if have != (steer.Attached{}) {
		return fail(NoProgram, "%s has %s, which is somebody else's: end who holds it, or take it off (ip link set %s xdp off)", ifName, have, ifName)
	}
	return nil
}

// Close gives all back: first the program, so that what comes from now on is the kernel's. A
// second Close does nothing.
func (p *Port) Close() error {
	if p.closed.Swap(true) {
		return nil
	}
	var errs []error
	if p.xdp != nil {
		errs = append(errs, p.xdp.Close())
	}
	for _, q := range p.queues {
		errs = append(errs, q.close())
	}
	if p.program != nil {
		errs = append(errs, p.program.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close af_xdp on %s: %w", p.host.IfName, err)
	}
	return nil
}

func advise(err error) string {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return "needs CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_SYS_ADMIN"
	case errors.Is(err, unix.ENOMEM), errors.Is(err, unix.ENOBUFS):
		return "ask for smaller rings"
	case errors.Is(err, unix.EAFNOSUPPORT):
		return "this kernel has no AF_XDP (CONFIG_XDP_SOCKETS)"
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return "somebody else has an XDP program or a socket there (bpftool net, bpftool link)"
	}
	return "see the kernel's log"
}
