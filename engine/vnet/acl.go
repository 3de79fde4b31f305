package vnet

import (
	"errors"
	"fmt"
	"iter"
	"slices"

	"go.fd.io/govpp/api"

	"github.com/millrace/millrace/engine/acl"
	"github.com/millrace/millrace/engine/worker"
)

// ACL is an access list as its owner gave it.
type ACL struct {
	Index uint32
	Tag   string
	Rules []acl.Rule
}

// ACLLists are the access lists of an interface, by index, in the order in which they are
// asked: Input for what comes from it, Output for what goes out by it. A direction without
// a list is not filtered.
type ACLLists struct {
	Interface     uint32
	Input, Output []uint32
}

// MaxACLLists is how many lists an interface has room for, both directions together.
const MaxACLLists = 255

// RuleCounters gives out the counters of access lists' rules: a row for each thread, as
// Config.Counters has them, with a counter for each rule and one more, all zero. What a
// list had before it may be given to others after Reclaim.
type RuleCounters interface {
	AllotRules(list uint32, rules int) ([][]Combined, error)
	ReclaimRules()
}

// heapRules are counters that nobody else reads.
type heapRules struct{ threads int }

func (h heapRules) AllotRules(_ uint32, rules int) ([][]Combined, error) { return h.rows(rules), nil }

func (h heapRules) rows(rules int) [][]Combined {
	rows := make([][]Combined, h.threads)
	for i := range rows {
		rows[i] = make([]Combined, rules+1)
	}
	return rows
}

func (heapRules) ReclaimRules() {}

// directions of an interface, as indexes.
const (
	input  = 0
	output = 1
)

// accessLists is the part of the control state that is about access lists.
type accessLists struct {
	lists    []*accessList // by index, nil for holes
	free     []uint32      // the last given back is given out first, as by VPP's pools
	counters RuleCounters
	settings worker.Stateful
	limits   sessionLimits
}

// accessList is one list, compiled; an edit makes another value.
type accessList struct {
	ACL
	compiled *acl.List
	rows     [][]Combined
	tcpFlags bool
}

// ReplaceACL gives list index other rules and another tag, or makes a list for NoIndex.
// It returns the list's index. Interfaces that have the list are judged by the new rules
// from the next packet on; the rules' counters start anew. A list may be empty: where it
// is alone, nothing passes.
func (p *Plane) ReplaceACL(index uint32, tag string, rules []acl.Rule) (uint32, error) {
	compiled, err := acl.New(rules)
	if err != nil {
		return index, refusal(err)
	}
	l := &accessList{ACL: ACL{Index: index, Tag: tag, Rules: slices.Clone(rules)}, compiled: compiled}
	l.tcpFlags = slices.ContainsFunc(rules, func(r acl.Rule) bool { return r.TCPMask|r.TCPValue != 0 })
	err = p.edit(func() error {
		replaced := index != NoIndex
		if replaced && p.accessList(index) == nil {
			return api.NO_SUCH_ENTRY
		}
		if !replaced {
			l.Index = p.access.take()
		}
		l.rows = p.allotRules(l.Index, len(rules))
		p.access.lists[l.Index] = l
		if replaced {
			p.rejoin(l.Index)
			p.commit()
			p.barrier() // nobody counts by the old rules any more
			p.access.counters.ReclaimRules()
		}
		return nil
	})
	return l.Index, err
}

// allotRules returns counters for a list's rules. Where there is no room left for them, what
// they count is lost: better than the list.
func (p *Plane) allotRules(list uint32, rules int) [][]Combined {
	rows, err := p.access.counters.AllotRules(list, rules)
	if err == nil {
		return rows
	}
	p.log.Warn("matches of an access list's rules are not shown", "acl", list, "err", err)
	return heapRules{p.cfg.Workers + 1}.rows(rules)
}

// refusal is VPP's number for a rule that cannot be compiled.
func refusal(err error) error {
	e, ok := errors.AsType[*acl.RuleError](err)
	switch {
	case !ok:
		return fmt.Errorf("%w: %w", api.INVALID_VALUE, err)
	case e.Field == acl.FieldSrc:
		return api.INVALID_SRC_ADDRESS
	case e.Field == acl.FieldDst:
		return api.INVALID_DST_ADDRESS
	}
	return api.INVALID_VALUE_2
}

func (a *accessLists) take() uint32 {
	if n := len(a.free); n > 0 {
		index := a.free[n-1]
		a.free = a.free[:n-1]
		return index
	}
	a.lists = append(a.lists, nil)
	return uint32(len(a.lists) - 1)
}

func (a *accessLists) put(index uint32) {
	a.lists[index] = nil
	a.free = append(a.free, index)
}

func (p *Plane) accessList(index uint32) *accessList {
	if uint64(index) >= uint64(len(p.access.lists)) {
		return nil
	}
	return p.access.lists[index]
}

// DeleteACL removes a list that no interface has.
func (p *Plane) DeleteACL(index uint32) error {
	return p.edit(func() error {
		if p.accessList(index) == nil {
			return api.NO_SUCH_ENTRY
		}
		for d, inUse := range [2]error{api.ACL_IN_USE_INBOUND, api.ACL_IN_USE_OUTBOUND} {
			for _, i := range p.ifs {
				if i != nil && slices.Contains(i.acls[d], index) {
					return inUse
				}
			}
		}
		p.access.put(index)
		return nil
	})
}

// ACLs yields all lists of one moment, by index.
func (p *Plane) ACLs() iter.Seq[ACL] {
	p.mu.Lock()
	var out []ACL
	for _, l := range p.access.lists {
		if l != nil {
			out = append(out, l.ACL)
		}
	}
	p.mu.Unlock()
	return slices.Values(out)
}

// SetACLLists replaces the lists of an interface, both directions in one step; none when
// something is wrong with one of them, where VPP may have replaced those for output.
func (p *Plane) SetACLLists(index uint32, in, out []uint32) error {
	return p.withInterface(index, func(i *iface) error {
		return p.setLists(i, [2][]uint32{in, out})
	})
}

// AddACL puts a list behind those that an interface has in a direction.
func (p *Plane) AddACL(index uint32, isInput bool, list uint32) error {
	d, inUse := output, error(api.ACL_IN_USE_OUTBOUND)
	if isInput {
		d, inUse = input, api.ACL_IN_USE_INBOUND
	}
	return p.withInterface(index, func(i *iface) error {
		if slices.Contains(i.acls[d], list) {
			return inUse
		}
		lists := i.acls
		lists[d] = append(slices.Clone(lists[d]), list)
		return p.setLists(i, lists)
	})
}

// RemoveACL takes a list off an interface in a direction.
func (p *Plane) RemoveACL(index uint32, isInput bool, list uint32) error {
	d := output
	if isInput {
		d = input
	}
	return p.withInterface(index, func(i *iface) error {
		at := slices.Index(i.acls[d], list)
		if at < 0 {
			return api.NO_SUCH_ENTRY
		}
		lists := i.acls
		lists[d] = slices.Delete(slices.Clone(lists[d]), at, at+1)
		return p.setLists(i, lists)
	})
}

// ACLLists yields the lists of all interfaces of one moment, by interface.
func (p *Plane) ACLLists() iter.Seq[ACLLists] {
	p.mu.Lock()
	var out []ACLLists
	for _, i := range p.ifs {
		if i != nil {
			out = append(out, ACLLists{i.index, i.acls[input], i.acls[output]})
		}
	}
	p.mu.Unlock()
	return slices.Values(out)
}

// listedTwice is VPP's answer to a list that stands twice in a direction: its handler
// turns the error into the truth value of one.
const listedTwice = api.VPPApiError(1)

// checkLists is all that may be wrong with the lists of an interface.
func (p *Plane) checkLists(lists [2][]uint32) error {
	for _, l := range lists {
		for _, index := range l {
			if p.accessList(index) == nil {
				return api.NO_SUCH_ENTRY
			}
		}
	}
	for _, l := range lists {
		for n, index := range l {
			if slices.Contains(l[:n], index) {
				return listedTwice
			}
		}
	}
	if len(lists[input])+len(lists[output]) > MaxACLLists {
		return api.INVALID_VALUE
	}
	return nil
}

// setLists puts lists on an interface, in VPP's order: output first. Where sessions are
// not judged again, other lists end them all.
func (p *Plane) setLists(i *iface, lists [2][]uint32) error {
	if err := p.checkLists(lists); err != nil {
		return err
	}
	changed := false
	for _, d := range [2]int{output, input} {
		changed = changed || !sameSet(i.acls[d], lists[d])
		i.acls[d] = slices.Clone(lists[d])
		p.join(i, d)
	}
	bare := len(lists[input])+len(lists[output]) == 0
	if changed && (!p.access.settings.Reclassify || bare) {
		p.clearSessions(i.index)
	}
	return nil
}

func sameSet(a, b []uint32) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x uint32) bool { return !slices.Contains(b, x) })
}

// join makes what the workers see of an interface's lists in a direction. A session that
// was made by the lists of before is judged again, if that is switched on.
func (p *Plane) join(i *iface, d int) {
	i.dirty, p.bump = true, true
	if p.access.settings.Reclassify {
		i.policy[d]++
	}
	i.guards[d] = nil
	if len(i.acls[d]) == 0 {
		return
	}
	p.needSessions()
	g := &worker.Guard{Policy: i.policy[d]}
	var compiled []*acl.List
	for _, index := range i.acls[d] {
		l := p.access.lists[index]
		compiled = append(compiled, l.compiled)
		g.Rows = append(g.Rows, l.rows)
		g.TCPFlags = g.TCPFlags || l.tcpFlags
	}
	g.Chain = acl.Join(compiled...)
	i.guards[d] = g
}

// rejoin makes all that is seen of a list anew.
func (p *Plane) rejoin(list uint32) {
	for _, i := range p.ifs {
		if i == nil {
			continue
		}
		for d := range i.acls {
			if slices.Contains(i.acls[d], list) {
				p.join(i, d)
			}
		}
	}
}
