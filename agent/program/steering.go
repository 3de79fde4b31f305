package program

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/steer"
)

// observeSteering reads the maps of each shared uplink. Where there is no program of ours,
// nothing is steered. Maps that cannot be read show as nothing steered: repairing that meets
// the same error as the error of its own step.
func (p *Program) observeSteering(_ context.Context, s *dataplane.State) error {
	for name, u := range p.uplinks {
		if u.Mode != dataplane.UplinkShare {
			continue
		}
		tables, err := steer.Open(u.Link)
		if err != nil {
			continue
		}
		err = readSteering(name, tables, s)
		if err := errors.Join(err, tables.Close()); err != nil {
			return fmt.Errorf("read what is steered on %s: %w", u.Link, err)
		}
	}
	return nil
}

func readSteering(uplink string, tables *steer.Tables, s *dataplane.State) error {
	prefixes, err := tables.Prefixes()
	if err != nil {
		return err
	}
	for _, prefix := range prefixes {
		s.Put(dataplane.Steering{Interface: uplink, Prefix: prefix})
	}
	ports, err := tables.Ports()
	if err != nil {
		return err
	}
	for _, port := range ports {
		s.Put(dataplane.SteerPort(uplink, port.Addr, port.Protocol, port.Port))
	}
	return nil
}

// steer carries out steps that are all of one verb, in the maps of the kernel.
func (p *Program) steer(_ context.Context, steps []dataplane.Step) []error {
	errs := make([]error, len(steps))
	opened := map[string]*steer.Tables{}
	for i, step := range steps {
		o := step.Object.(dataplane.Steering)
		u, ok := p.uplinks[o.Interface]
		if !ok {
			if step.Verb != dataplane.Delete { // what was there went with the uplink
				errs[i] = fmt.Errorf("no uplink is called %s", o.Interface)
			}
			continue
		}
		tables := opened[u.Link]
		if tables == nil {
			var err error
			if tables, err = steer.Open(u.Link); err != nil {
				if step.Verb != dataplane.Delete || !errors.Is(err, steer.ErrNone) {
					errs[i] = err
				}
				continue
			}
			opened[u.Link] = tables
		}
		errs[i] = steerOne(tables, o, step.Verb != dataplane.Delete)
	}
	for _, tables := range opened {
		if err := tables.Close(); err != nil {
			errs[0] = errors.Join(errs[0], err)
		}
	}
	return errs
}

func steerOne(t *steer.Tables, o dataplane.Steering, add bool) error {
	port := steer.Port{Addr: o.Prefix.Addr(), Protocol: o.Protocol, Port: o.Port}
	prefix := map[bool]func(netip.Prefix) error{true: t.PutPrefix, false: t.DeletePrefix}[add]
	each := map[bool]func(steer.Port) error{true: t.PutPort, false: t.DeletePort}[add]
	if o.Protocol == 0 {
		return prefix(o.Prefix)
	}
	return each(port)
}
