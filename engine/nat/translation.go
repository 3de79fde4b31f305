package nat

import (
	"net/netip"
	"slices"
)

// Endpoint is what packets are sent to. It names a translation.
type Endpoint struct {
	Addr     netip.Addr
	Port     uint16
	Protocol uint8
}

// Backend is where a translation sends flows.
type Backend struct {
	Dst netip.AddrPort
	// Src is what they shall come from instead of their own source, as far as it is set.
	// VPP's features never use it, only its forwarding without features does.
	Src netip.AddrPort
}

// Translation sends the flows to an Endpoint to one of its backends each. It is a value that
// many read; an edit makes another. NewTranslation fills in what is not exported.
type Translation struct {
	Endpoint
	ID       uint32    // place of its counters
	Backends []Backend // those that are resolved, of Addr's family; may be empty
	// Maglev spreads flows so that few move when backends come or go; else backends are
	// chosen by the flow's hash modulo their number.
	Maglev bool
	// HashFields says which fields of a flow are hashed, as VPP's flow_hash_config; 0
	// means all five.
	HashFields uint32
	AllocPort  bool // CNAT_TRANSLATION_ALLOC_PORT
	NoReturn   bool // CNAT_TRANSLATION_NO_RETURN_SESSION: answers are left as they are
	// RealIP says that Addr is also somebody's own: packets to its other ports go on.
	// Where it is not set, nobody has the address.
	RealIP bool

	places []uint16
	alive  []netip.AddrPort // sorted
}

// NewTranslation returns t, which the caller does not change any more, ready to be asked.
func NewTranslation(t Translation) *Translation {
	t.alive = make([]netip.AddrPort, len(t.Backends))
	for i := range t.Backends {
		t.alive[i] = t.Backends[i].Dst
	}
	t.places = nil
	if t.Maglev && len(t.Backends) > 1 {
		t.places = Maglev(t.alive, maglevSize(len(t.alive)))
	}
	slices.SortFunc(t.alive, netip.AddrPort.Compare)
	return &t
}

// Pick is the backend of a flow with that hash, or nil when there is none.
func (t *Translation) Pick(hash uint32) *Backend {
	switch {
	case len(t.Backends) == 0:
		return nil
	case t.places != nil:
		return &t.Backends[t.places[hash%uint32(len(t.places))]]
	}
	return &t.Backends[hash%uint32(len(t.Backends))]
}

// Alive reports whether an address and port are one of its backends now.
func (t *Translation) Alive(backend netip.AddrPort) bool {
	_, ok := slices.BinarySearchFunc(t.alive, backend, netip.AddrPort.Compare)
	return ok
}

func (t *Translation) key() Endpoint { return t.Endpoint }
