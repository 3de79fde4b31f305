package attach

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/allocator"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/cni"
)

// pool gives addresses from the node's pod ranges. It keeps no list of its own of what is
// in use: the journal's attachments say that, so nothing can leak. In memory are only the
// holds of verbs at work: of an ADD until its fact is stored, and of a removal until the
// loop has applied it.
type pool struct {
	journal *Journal

	mu    sync.Mutex
	holds map[cluster.AttachmentID]hold
	last  map[family]netip.Addr // given last, in this process
}

// hold keeps addresses from being given to another attachment.
type hold struct {
	addresses []netip.Addr
	until     uint64 // revision that frees them; 0 = not known yet
}

type family uint8

const (
	ipv4 family = 4
	ipv6 family = 6
)

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return ipv4
	}
	return ipv6
}

func newPool(j *Journal) *pool {
	return &pool{journal: j, holds: map[cluster.AttachmentID]hold{}, last: map[family]netip.Addr{}}
}

// take gives an attachment n sets of addresses, each with one of each family that the
// ranges have, in their order, and holds them until drop. It gives all or none.
func (p *pool) take(id cluster.AttachmentID, ranges []netip.Prefix, n int) ([][]netip.Addr, error) {
	if len(ranges) == 0 {
		return nil, cni.Errorf(types.ErrTryAgainLater, "allocate addresses for %s: the node has no pod ranges yet; set podCIDRs in its NodeConfig, or wait for spec.podCIDRs of its Node", id)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.ledger()
	sets := make([][]netip.Addr, n)
	var got []netip.Addr
	for i := range sets {
		for _, f := range familiesOf(ranges) {
			a, err := p.takeOne(id, f, ranges, l)
			if err != nil {
				return nil, err
			}
			sets[i], got = append(sets[i], a), append(got, a)
		}
	}
	p.holds[id] = hold{addresses: got}
	return sets, nil
}

func (p *pool) takeOne(id cluster.AttachmentID, f family, ranges []netip.Prefix, l *ledger) (netip.Addr, error) {
	set, err := rangeSet(f, ranges)
	if err != nil {
		return netip.Addr{}, cni.Errorf(types.ErrInvalidNetworkConfig, "allocate addresses for %s: %v", id, err)
	}
	l.lastReserved = l.newest[f]
	if a, ok := p.last[f]; ok {
		l.lastReserved = a
	}
	ip, err := allocator.NewIPAllocator(&set, l, 0).Get(id.ContainerID, id.IfName, nil)
	if err != nil {
		return netip.Addr{}, l.exhausted(id, f, ranges)
	}
	a, ok := netip.AddrFromSlice(ip.Address.IP)
	if !ok {
		return netip.Addr{}, cni.Errorf(types.ErrInternal, "allocate addresses for %s: allocator gave %v", id, ip.Address)
	}
	p.last[f] = a.Unmap()
	return a.Unmap(), nil
}

// ledger gathers what is in use now.
func (p *pool) ledger() *ledger {
	l := &ledger{used: map[netip.Addr]bool{}, newest: map[family]netip.Addr{}}
	newest := map[family]uint64{}
	_, stored := p.journal.all()
	for _, r := range stored {
		for a := range r.AllAddresses() {
			l.used[a] = true
			if f := familyOf(a); r.Revision > newest[f] {
				newest[f], l.newest[f] = r.Revision, a
			}
		}
	}
	for _, h := range p.holds {
		for _, a := range h.addresses {
			l.used[a] = true
		}
		if h.until > 0 {
			l.leaving = append(l.leaving, h.addresses...)
		}
	}
	return l
}

// hold keeps an attachment's addresses while it is being removed.
func (p *pool) hold(id cluster.AttachmentID, addresses []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holds[id] = hold{addresses: addresses}
}

// leave frees an attachment's addresses once revision is applied.
func (p *pool) leave(id cluster.AttachmentID, revision uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.holds[id]
	h.until = revision
	p.holds[id] = h
}

// leaving says whether an attachment's removal is not yet known to be applied.
func (p *pool) leaving(id cluster.AttachmentID) (revision uint64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.holds[id]
	return h.until, h.until > 0
}

// removals are the revisions that free held addresses, the lowest first.
func (p *pool) removals() []uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []uint64
	for _, h := range p.holds {
		if h.until > 0 {
			all = append(all, h.until)
		}
	}
	slices.Sort(all)
	return all
}

// drop ends a hold.
func (p *pool) drop(id cluster.AttachmentID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.holds, id)
}

// applied ends the holds of all removals up to revision.
func (p *pool) applied(revision uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, h := range p.holds {
		if h.until > 0 && h.until <= revision {
			delete(p.holds, id)
		}
	}
}

func familiesOf(ranges []netip.Prefix) []family {
	var all []family
	for _, r := range ranges {
		if f := familyOf(r.Addr()); !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all
}

// rangeSet renders the ranges of one family for the allocator, which keeps back the
// network's own address, the first one (a gateway's by custom), and IPv4's broadcast.
func rangeSet(f family, ranges []netip.Prefix) (allocator.RangeSet, error) {
	var set allocator.RangeSet
	for _, r := range ranges {
		if familyOf(r.Addr()) != f {
			continue
		}
		r = r.Masked()
		subnet := types.IPNet{IP: r.Addr().AsSlice(), Mask: net.CIDRMask(r.Bits(), r.Addr().BitLen())}
		one := allocator.Range{Subnet: subnet}
		if err := one.Canonicalize(); err != nil {
			return nil, fmt.Errorf("pod range %s: %w", r, err)
		}
		set = append(set, one)
	}
	if err := set.Canonicalize(); err != nil {
		return nil, fmt.Errorf("pod ranges %v: %w", ranges, err)
	}
	return set, nil
}

// capacity is how many addresses of a range can be given out.
func capacity(r netip.Prefix) uint64 {
	host := r.Addr().BitLen() - r.Bits()
	if host >= 64 {
		return math.MaxUint64
	}
	if r.Addr().Is4() {
		return 1<<host - 3
	}
	return 1<<host - 2
}

// ledger is what is in use at one moment, in the form the allocator asks for it: it lives
// for one allocation and writes nothing down.
type ledger struct {
	used         map[netip.Addr]bool
	leaving      []netip.Addr
	newest       map[family]netip.Addr // of the attachment stored last
	lastReserved netip.Addr
}

// Lock and its kin belong to the allocator's store; the pool's mutex is held already.
func (l *ledger) Lock() error   { return nil }
func (l *ledger) Unlock() error { return nil }
func (l *ledger) Close() error  { return nil }

// Reserve takes an address unless it is in use.
func (l *ledger) Reserve(_, _ string, ip net.IP, _ string) (bool, error) {
	a, ok := netip.AddrFromSlice(ip)
	if !ok {
		return false, fmt.Errorf("reserve address %v: no address", ip)
	}
	a = a.Unmap()
	if l.used[a] {
		return false, nil
	}
	l.used[a] = true
	return true, nil
}

// LastReservedIP is where the search begins, so that an address rests before it is given
// again.
func (l *ledger) LastReservedIP(string) (net.IP, error) {
	if !l.lastReserved.IsValid() {
		return nil, nil
	}
	return l.lastReserved.AsSlice(), nil
}

// ReleaseByID has nothing to release: the journal says what is in use.
func (l *ledger) ReleaseByID(string, string) error { return nil }

// GetByID finds nothing: the server knows whether an attachment has addresses.
func (l *ledger) GetByID(string, string) []net.IP { return nil }

// exhausted names the ranges that are full. While addresses of removed attachments are
// not free yet, trying again may help.
func (l *ledger) exhausted(id cluster.AttachmentID, f family, ranges []netip.Prefix) error {
	var full []string
	leaving := 0
	for _, r := range ranges {
		if familyOf(r.Addr()) != f {
			continue
		}
		var used uint64
		for a := range l.used {
			if r.Contains(a) {
				used++
			}
		}
		for _, a := range l.leaving {
			if r.Contains(a) {
				leaving++
			}
		}
		full = append(full, fmt.Sprintf("%s (%d of %d in use)", r, used, capacity(r)))
	}
	text := fmt.Sprintf("allocate addresses for %s: no address is left in %s", id, strings.Join(full, ", "))
	if leaving > 0 {
		return cni.Errorf(types.ErrTryAgainLater, "%s; %d will be free when their removal is applied", text, leaving)
	}
	return cni.Errorf(cni.CodeExhausted, "%s; delete pods, or give the node a larger range", text)
}
