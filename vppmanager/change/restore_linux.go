package change

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/vppmanager/startup"
)

// undoSave puts the settings onto the link that stands for the device now. Links that it
// lies on or in are put right before, whatever their order in the journal.
func undoSave(ctx context.Context, h Host, j *Journal, s *step) error {
	saved := s.Before.Saved
	for _, other := range j.steps {
		if o := other.Before.Saved; o != nil && o != saved && (o.Name == saved.Parent || o.Name == saved.Master) {
			if err := h.undoStep(ctx, j, other); err != nil {
				return err
			}
		}
	}
	to, absent := h.indexes(j, s)
	return h.restore(*saved, to, absent)
}

// absence is which saved links are not there yet, and the addresses on them: of routes that
// need one, the last of their links takes care.
type absence struct {
	links     map[int]bool      // by saved index
	addresses map[string][]byte // by itself
}

func newAbsence() absence { return absence{map[int]bool{}, map[string][]byte{}} }

func (a absence) add(s settings) {
	a.links[s.Index] = true
	for _, body := range s.Addresses {
		if m, err := parseMessage(body, addrLen); err == nil {
			a.addresses[string(m.own())] = m.own()
		}
	}
}

// hinders says whether a route cannot be there yet.
func (a absence) hinders(saved message) bool {
	source := a.addresses[string(saved.find(unix.RTA_PREFSRC))]
	return source != nil || slices.ContainsFunc(saved.links(), func(index int) bool { return a.links[index] })
}

// indexes says which link each saved index stands for now, and which saved links are not
// back yet.
func (h Host) indexes(j *Journal, self *step) (to map[int]int, absent absence) {
	to, absent = map[int]int{}, newAbsence()
	for _, s := range j.steps {
		saved := s.Before.Saved
		if saved == nil {
			continue
		}
		l, err := h.find(*saved)
		if err == nil {
			to[saved.Index] = l.index()
		}
		if s != self && (!s.Undone || err != nil) {
			absent.add(*saved)
		}
	}
	return to, absent
}

func (h Host) restore(s settings, to map[int]int, absent absence) error {
	saved, err := parseMessage(s.Link, infoLen)
	if err != nil {
		return err
	}
	l, err := h.find(s)
	if errors.Is(err, errNoLink) && creatable((link{saved}).virtual()) && s.Parent != "" {
		l, err = h.create(s, saved)
	}
	if err != nil {
		return err
	}
	to[s.Index] = l.index()
	if err := h.rename(l.index(), s.Name); err != nil {
		return err
	}
	if err := h.writeHardware(s.Name, s.Hardware); err != nil {
		return err
	}
	if l, err = linkByIndex(l.index()); err != nil {
		return err
	}
	if err := h.restoreAttributes(l, saved); err != nil {
		return err
	}
	h.writeFiles(s.Name, s.Files, h.mine(l))
	if s.Master != "" {
		if err := h.enslave(l, s.Master); err != nil {
			return err
		}
	}
	if l, err = linkByIndex(l.index()); err != nil {
		return err
	}
	if up := (link{saved}).up(); up != l.up() {
		set := h.setDown
		if up {
			set = h.setUp
		}
		if err := set(l.index()); err != nil {
			return fmt.Errorf("set %s up or down again: %w", s.Name, err)
		}
	}
	// Some sysctls begin anew when a link comes up.
	h.writeFiles(s.Name, s.Files, h.mine(l))
	wrong, err := misplaced(s, l)
	if err != nil {
		return err
	}
	for _, m := range wrong {
		if err := h.removeAddress(m); err != nil {
			return err
		}
	}
	if err := h.hang(s, l, to, absent); err != nil {
		return err
	}
	h.replayQdiscs(s, l)
	return nil
}

// hang puts addresses and all that names a link onto one, in an order the kernel accepts.
func (h Host) hang(s settings, l link, to map[int]int, absent absence) error {
	now, err := sinceBoot()
	if err != nil {
		return err
	}
	elapsed := max(now-s.Taken, 0)
	if err := h.replayAddresses(s, l, elapsed); err != nil {
		return err
	}
	if err := h.replayNeighbors(s, l); err != nil {
		return err
	}
	// Nexthop objects need routes to their gateways, and routes may need nexthop objects:
	// what fails the first time is tried again after them.
	first := h.replayRoutes(s, to, absent, elapsed)
	if err := h.replayNexthops(s, to); err != nil {
		return errors.Join(first, err)
	}
	if first != nil {
		if err := h.replayRoutes(s, to, absent, elapsed); err != nil {
			return err
		}
	}
	return h.replayRules(s)
}

// replayQdiscs sets the disciplines that somebody had set. What they had of classes and
// filters is not saved; that, and what the kernel refuses, is told.
func (h Host) replayQdiscs(s settings, l link) {
	have, err := qdiscsOf(l.index())
	if err != nil {
		h.tell("%v", err)
		return
	}
	for _, body := range s.Qdiscs {
		m, err := parseMessage(body, qdiscLen)
		if err != nil {
			continue // valid has refused it
		}
		if slices.ContainsFunc(have, func(o message) bool {
			return o.indexAt(8) == m.indexAt(8) && o.text(unix.TCA_KIND) == m.text(unix.TCA_KIND)
		}) {
			continue
		}
		putIndex(m.head, 4, map[int]int{s.Index: l.index()})
		clear(m.head[16:]) // its use count
		m.keep(unix.TCA_KIND, unix.TCA_OPTIONS)
		if err := h.alter(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, m.encode()); err != nil {
			h.tell("the queueing discipline %s of %s could not be put back: %v", m.text(unix.TCA_KIND), s.Name, err)
			continue
		}
		h.tell("the queueing discipline %s of %s is back, classes and filters it had are not", m.text(unix.TCA_KIND), s.Name)
	}
}

// Settle puts what the journal has of a link onto another that stands for it while the
// dataplane runs: addresses, neighbours, routes, rules and sysctls, nothing of the
// hardware. What is there already stays, so it may be called each time the dataplane has
// started. Undo puts the settings back onto the link itself.
func (h Host) Settle(ctx context.Context, j *Journal, saved, onto string) error {
	at := slices.IndexFunc(j.steps, func(s *step) bool { return s.Before.Saved != nil && s.Before.Saved.Name == saved })
	if at < 0 {
		return fmt.Errorf("settle the host on %s: nothing is saved of a link %s", onto, saved)
	}
	s := *j.steps[at].Before.Saved
	l, err := linkByName(onto)
	if err != nil {
		return fmt.Errorf("settle the host on %s: %w", onto, err)
	}
	h.writeFiles(onto, standIn(s.Files), false)
	if !l.up() {
		if err := h.setUp(l.index()); err != nil {
			return fmt.Errorf("settle the host: set %s up: %w", onto, err)
		}
	}
	to, absent, err := h.standIns(j, s)
	if err != nil {
		return fmt.Errorf("settle the host on %s: %w", onto, err)
	}
	to[s.Index] = l.index()
	if err := h.hang(s, l, to, absent); err != nil {
		return fmt.Errorf("settle the host on %s: %w", onto, err)
	}
	return ctx.Err()
}

// standIns says which host link stands for each saved index but that of self, and which
// have none yet, or one that has not got its addresses.
func (h Host) standIns(j *Journal, self settings) (to map[int]int, absent absence, err error) {
	to, absent = map[int]int{}, newAbsence()
	for _, s := range j.steps {
		saved := s.Before.Saved
		if saved == nil || saved.Index == self.Index {
			continue
		}
		announced := slices.ContainsFunc(j.steps, func(o *step) bool { return o.Change.Kind == startup.HostTap && o.Change.Link == saved.Name })
		l, err := linkByName(saved.Name)
		if err != nil && !errors.Is(err, errNoLink) {
			return nil, absent, err
		}
		settled := false
		if announced && err == nil && l.index() != saved.Index {
			if settled, err = saved.settled(l); err != nil {
				return nil, absent, err
			}
		}
		if settled {
			to[saved.Index] = l.index()
		} else {
			absent.add(*saved)
		}
	}
	return to, absent, nil
}

// settled says whether a link has the saved addresses that are for good.
func (s settings) settled(l link) (bool, error) {
	for _, body := range s.Addresses {
		m, err := parseMessage(body, addrLen)
		if err != nil {
			return false, err
		}
		have, err := addressesOf(l.index(), m.head[0])
		if err != nil {
			return false, err
		}
		global := m.head[3] == unix.RT_SCOPE_UNIVERSE && m.addressFlags()&unix.IFA_F_PERMANENT != 0
		if global && !slices.ContainsFunc(have, m.sameAddress) {
			return false, nil
		}
	}
	return true, nil
}

// standIn leaves out what depends on the link's hardware.
func standIn(files map[string]string) map[string]string {
	out := map[string]string{}
	for name, value := range files {
		if name != "proc/sys/net/ipv6/conf/*/mtu" {
			out[name] = value
		}
	}
	return out
}
