package host

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"
)

// Ethtool implements Kernel by ethtool's ioctls.
func (netlinkKernel) Ethtool(link string) (Ethtool, error) {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return Ethtool{}, fmt.Errorf("ask ethtool: %w", err)
	}
	defer e.Close()
	var out Ethtool
	var errs []error
	ask := func(what string, err error) {
		if err != nil && !unsupported(err) {
			errs = append(errs, fmt.Errorf("ask ethtool for the %s of %s: %w", what, link, err))
		}
	}
	ask("driver", out.driver(e, link))
	ask("queues", out.queues(e, link))
	ask("rings", out.rings(e, link))
	ask("features", out.features(e, link))
	ask("speed", out.speed(e, link))
	return out, errors.Join(errs...)
}

// unsupported are a driver's ways to say that it does not have something.
func unsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODATA)
}

func (o *Ethtool) driver(e *ethtool.Ethtool, link string) error {
	info, err := e.DriverInfo(link)
	if err != nil {
		return err
	}
	o.Driver = info.Driver
	mac, err := e.PermAddr(link)
	if mac != "00:00:00:00:00:00" {
		o.Permanent = mac
	}
	return err
}

func (o *Ethtool) queues(e *ethtool.Ethtool, link string) error {
	c, err := e.GetChannels(link)
	if err != nil {
		return err
	}
	o.RxQueues = int(c.RxCount + c.CombinedCount)
	o.TxQueues = int(c.TxCount + c.CombinedCount)
	o.MaxQueues = int(max(c.MaxCombined, min(c.MaxRx, c.MaxTx)))
	return nil
}

func (o *Ethtool) rings(e *ethtool.Ethtool, link string) error {
	r, err := e.GetRing(link)
	if err != nil {
		return err
	}
	o.RxRing, o.TxRing = int(r.RxPending), int(r.TxPending)
	o.MaxRxRing, o.MaxTxRing = int(r.RxMaxPending), int(r.TxMaxPending)
	return nil
}

func (o *Ethtool) features(e *ethtool.Ethtool, link string) error {
	all, err := e.Features(link)
	for name, on := range all {
		if on {
			o.Offloads = append(o.Offloads, name)
		}
	}
	slices.Sort(o.Offloads)
	return err
}

// speed leaves the kernel's word for "unknown" (all ones) out.
func (o *Ethtool) speed(e *ethtool.Ethtool, link string) error {
	v, err := e.CmdGet(&ethtool.EthtoolCmd{}, link)
	if err != nil {
		return err
	}
	if v < math.MaxInt32 {
		o.Speed = int(v)
	}
	return nil
}
