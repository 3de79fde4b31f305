package api

import (
	"cmp"
	"sync"

	"github.com/millrace/millrace/engine/vnet"
)

// settings remembers, for dumps, what was set and the control state does not tell back.
type settings struct {
	mu   sync.Mutex // guards all below; held over the edit, so that both agree
	punt map[puntKey][]vnet.Path
	urpf map[urpfKey]urpfSetting
	// linear is what acl_plugin_use_hash_lookup_set wanted instead.
	linear bool
}

type puntKey struct {
	family vnet.Family
	rx     uint32
}

type urpfKey struct {
	index  uint32
	family vnet.Family
	input  bool
}

type urpfSetting struct {
	mode  vnet.URPFMode
	table uint32 // NoIndex = the interface's
}

func newSettings() *settings {
	return &settings{punt: map[puntKey][]vnet.Path{}, urpf: map[urpfKey]urpfSetting{}}
}

// forget drops what was set for an interface that is gone.
func (s *settings) forget(index uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range families() {
		delete(s.punt, puntKey{f, index})
		delete(s.urpf, urpfKey{index, f, true})
		delete(s.urpf, urpfKey{index, f, false})
	}
}

func (s *settings) setLinear(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.linear = on
}

func (s *settings) isLinear() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.linear
}

func comparePunt(a, b puntKey) int {
	return cmp.Or(cmp.Compare(a.family, b.family), cmp.Compare(a.rx, b.rx))
}

// compareURPF orders as VPP walks: interface, family, rx before tx.
func compareURPF(a, b urpfKey) int {
	direction := 0
	if a.input != b.input {
		direction = 1
		if a.input {
			direction = -1
		}
	}
	return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(a.family, b.family), direction)
}
