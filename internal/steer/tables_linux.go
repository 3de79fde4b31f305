package steer

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Tables are the maps that say what is steered on one interface.
type Tables struct {
	prefixes [2]*ebpf.Map // IPv4, IPv6
	ports    *ebpf.Map
	verdicts *ebpf.Map
}

// there is the value of every key.
const there uint8 = 1

// PutPrefix steers what is for addresses of a prefix. It is no error if it is steered already.
func (t *Tables) PutPrefix(p netip.Prefix) error {
	m, key, err := t.prefix(p)
	if err == nil {
		err = m.Put(key, there)
	}
	if err != nil {
		return fmt.Errorf("steer %s: %w", p, explain(err, MaxPrefixes))
	}
	return nil
}

// DeletePrefix lets the kernel have it again. It is no error if it is not steered.
func (t *Tables) DeletePrefix(p netip.Prefix) error {
	m, key, err := t.prefix(p)
	if err == nil {
		err = m.Delete(key)
	}
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("stop steering %s: %w", p, err)
	}
	return nil
}

func (t *Tables) prefix(p netip.Prefix) (*ebpf.Map, any, error) {
	a := p.Addr()
	switch {
	case !p.IsValid() || a.Is4In6() || p != p.Masked():
		return nil, nil, fmt.Errorf("prefix %v: want one without host bits", p)
	case a.Is4():
		return t.prefixes[0], key4{uint32(p.Bits()), a.As4()}, nil
	}
	return t.prefixes[1], key6{uint32(p.Bits()), a.As16()}, nil
}

// PutPort steers what is for an address and port of a protocol.
func (t *Tables) PutPort(p Port) error {
	key, err := keyOfPort(p)
	if err == nil {
		err = t.ports.Put(key, there)
	}
	if err != nil {
		return fmt.Errorf("steer %s: %w", p, explain(err, MaxPorts))
	}
	return nil
}

// DeletePort lets the kernel have it again. It is no error if it is not steered.
func (t *Tables) DeletePort(p Port) error {
	key, err := keyOfPort(p)
	if err == nil {
		err = t.ports.Delete(key)
	}
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("stop steering %s: %w", p, err)
	}
	return nil
}

func explain(err error, most int) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.E2BIG) {
		return fmt.Errorf("there is room for %d: %w", most, err)
	}
	return err
}

// Prefixes lists what is steered, in order.
func (t *Tables) Prefixes() ([]netip.Prefix, error) {
	var list []netip.Prefix
	var value uint8
	var k4 key4
	all := t.prefixes[0].Iterate()
	for all.Next(&k4, &value) {
		list = append(list, netip.PrefixFrom(netip.AddrFrom4(k4.Addr), int(k4.Bits)))
	}
	if err := all.Err(); err != nil {
		return nil, fmt.Errorf("list steered prefixes: %w", err)
	}
	var k6 key6
	all = t.prefixes[1].Iterate()
	for all.Next(&k6, &value) {
		list = append(list, netip.PrefixFrom(netip.AddrFrom16(k6.Addr), int(k6.Bits)))
	}
	if err := all.Err(); err != nil {
		return nil, fmt.Errorf("list steered prefixes: %w", err)
	}
	slices.SortFunc(list, netip.Prefix.Compare)
	return list, nil
}

// Ports lists what is steered, in no order.
func (t *Tables) Ports() ([]Port, error) {
	var list []Port
	var value uint8
	var key portKey
	all := t.ports.Iterate()
	for all.Next(&key, &value) {
		list = append(list, key.port())
	}
	if err := all.Err(); err != nil {
		return nil, fmt.Errorf("list steered ports: %w", err)
	}
	return list, nil
}

// Count is what became of packets so far, each verdict's sum over all processors.
func (t *Tables) Count() (map[Verdict]uint64, error) {
	counts := map[Verdict]uint64{}
	for v := range verdicts {
		var each []uint64
		if err := t.verdicts.Lookup(uint32(v), &each); err != nil {
			return nil, fmt.Errorf("read count of %s: %w", v, err)
		}
		for _, n := range each {
			counts[v] += n
		}
	}
	return counts, nil
}

// Close lets go of the maps.
func (t *Tables) Close() error {
	var errs []error
	for _, m := range []*ebpf.Map{t.prefixes[0], t.prefixes[1], t.ports, t.verdicts} {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}
