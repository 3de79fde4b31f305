package tap

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"

	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/engine/port/hostns"
	"golang.org/x/sys/unix"
)

const device = "/dev/net/tun"

// Open makes (or with Attach takes over) the interface, sets the host's end up, and
// returns our end. When it fails nothing is left that was not there before, and the
// error is an *Error.
func Open(c Config) (*Port, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	c.RxQueues, c.TxQueues = max(c.RxQueues, 1), max(c.TxQueues, 1)
	p := &Port{host: Host{Namespace: c.Namespace, Bridge: c.HostBridge, Flags: c.Flags, Prefix4: c.HostPrefix4, Prefix6: c.HostPrefix6}}
	if c.Flags&TUN == 0 {
		p.mac = c.HardwareAddr
		if p.mac == nil {
			p.mac = randomMAC()
		}
	}
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

// open runs inside the namespace: the driver makes the interface in the namespace of
// the thread that opened it.
func (p *Port) open(c *Config) error {
	name, err := p.openQueues(c)
	if err != nil {
		return err
	}
	offloads, err := p.setOffloads(c.Flags)
	if err != nil {
		return err
	}
	p.caps = offloads
	if err := p.setUpHost(c, name); err != nil {
		return &Error{Kind: HostSetup, Err: fmt.Errorf("interface %s: %w", name, err)}
	}
	// Persistence comes last, so that a failure before leaves a new device to die with
	// its descriptors and an old one as it was.
	if c.Flags&(Persist|Attach) != 0 {
		if err := p.setPersist(c.Flags&Persist != 0); err != nil {
			return fail(NoDevice, "%w", err)
		}
	}
	for _, fd := range p.fds {
		p.rx = append(p.rx, rxQueue{fd: fd})
	}
	for i := range c.TxQueues {
		p.tx = append(p.tx, txQueue{fd: p.fds[i%len(p.fds)]})
	}
	return nil
}

// openQueues opens one descriptor per receive queue and returns the interface's name.
func (p *Port) openQueues(c *Config) (string, error) {
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if c.Flags&TUN != 0 {
		flags = unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR
	}
	if c.RxQueues > 1 {
		flags |= unix.IFF_MULTI_QUEUE
	}
	name := c.HostIfName
	for i := range c.RxQueues {
		fd, err := unix.Open(device, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return "", fail(NoDriver, "open %s: %w; %s", device, err, adviseDriver(err))
		}
		p.fds = append(p.fds, fd)
		got, err := setInterface(fd, name, flags)
		if errors.Is(err, unix.EINVAL) && i == 0 && c.Flags&Attach != 0 {
			// A persistent device remembers whether it was made for many queues.
			flags ^= unix.IFF_MULTI_QUEUE
			got, err = setInterface(fd, name, flags)
		}
		if err != nil {
			return "", fail(NoDevice, "make interface %q: %w; %s", name, err, adviseDevice(err))
		}
		name = got
		if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, headerLen); err != nil {
			return "", fail(NoDriver, "set virtio header size: %w", err)
		}
	}
	return name, nil
}

func setInterface(fd int, name string, flags uint16) (string, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return "", err
	}
	ifr.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return "", err
	}
	return ifr.Name(), nil
}

// setOffloads tells the driver which unfinished packets we take. The driver always
// takes all that it knows from us; the capabilities follow the flags all the same, as
// a caller that leaves GSO out wants whole packets both ways.
func (p *Port) setOffloads(f Flags) (port.Capabilities, error) {
	const tso = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	switch {
	case f&GSO != 0:
		// Kernels before 6.2 know no UDP segmentation.
		if p.tellOffloads(tso|unix.TUN_F_USO4|unix.TUN_F_USO6) == nil {
			return port.Capabilities{Checksum: true, TSO4: true, TSO6: true, USO: true}, nil
		}
		if err := p.tellOffloads(tso); err != nil {
			return port.Capabilities{}, err
		}
		return port.Capabilities{Checksum: true, TSO4: true, TSO6: true}, nil
	case f&ChecksumOffload != 0:
		return port.Capabilities{Checksum: true}, p.tellOffloads(unix.TUN_F_CSUM)
	}
	return port.Capabilities{}, p.tellOffloads(0)
}

func (p *Port) tellOffloads(features int) error {
	for _, fd := range p.fds {
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, features); err != nil {
			return fail(NoDriver, "set offloads %#x: %w", features, err)
		}
	}
	return nil
}

func (p *Port) setPersist(on bool) error {
	value := 0
	if on {
		value = 1
	}
	if err := unix.IoctlSetInt(p.fds[0], unix.TUNSETPERSIST, value); err != nil {
		return fmt.Errorf("set persistence of %s to %d: %w", p.host.IfName, value, err)
	}
	return nil
}

// Unpersist lets the host's interface go with its last descriptor when it was opened
// with Persist; else it does nothing. The port stays usable: VPP does this when it
// deletes a tap. An interface that went before, with its namespace, is no error.
func (p *Port) Unpersist() error {
	if p.closed.Load() || p.host.Flags&Persist == 0 {
		return nil
	}
	if err := p.setPersist(false); err != nil && !errors.Is(err, unix.EBADFD) {
		return err
	}
	return nil
}

// Remove closes the port and takes the host's interface away, persistent or not.
func (p *Port) Remove() error { return errors.Join(p.Unpersist(), p.Close()) }

// Close gives the descriptors back. The host's interface goes too, unless it was opened
// with Persist. A second Close does nothing.
func (p *Port) Close() error {
	if p.closed.Swap(true) {
		return nil
	}
	var errs []error
	for _, fd := range p.fds {
		if err := unix.Close(fd); err != nil {
			errs = append(errs, fmt.Errorf("close tap %s: %w", p.host.IfName, err))
		}
	}
	return errors.Join(errs...)
}

func adviseDriver(err error) string {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return "load the driver (modprobe tun), or give the container the device (c 10:200)"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return "the device cgroup or the file's mode forbids it; give the container the device"
	}
	return "see the kernel's log"
}

func adviseDevice(err error) string {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return "needs CAP_NET_ADMIN in the namespace"
	case errors.Is(err, unix.EBUSY):
		return "the name is taken by a device that another process holds; choose another or delete it"
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EEXIST):
		return "the name is not allowed, or taken by an interface that is no TUN/TAP device of this kind"
	case errors.Is(err, unix.E2BIG):
		return "too many queues for this kernel"
	}
	return "see the kernel's log"
}

// randomMAC is a locally administered address with VPP's prefix for generated ones.
func randomMAC() net.HardwareAddr {
	m := net.HardwareAddr{0x02, 0xfe, 0, 0, 0, 0}
	rand.Read(m[2:]) // never fails (crypto/rand)
	return m
}
