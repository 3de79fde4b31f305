package api

import (
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/engine/port/tap"
	"github.com/millrace/millrace/engine/vnet"
)

// devices remembers what the control state does not know of an interface: how its
// device was made. A number or host name is taken from before the device is opened
// until after the interface is gone.
type devices struct {
	mu          sync.Mutex // guards all below
	loops       numbers
	taps        numbers
	vxlans      numbers
	vxlanPlaces numbers
	tap         map[uint32]tapDevice  // by sw_if_index
	hosts       map[string]hostDevice // by the host's name of the interface
	xdps        map[uint32]func()     // af_xdp by sw_if_index: what ends the watch of its host interface

	nextXDP int // number in the name of the next af_xdp interface that is given none
}

// tapDevice is one tap_create_v3 that succeeded.
type tapDevice struct {
	id             uint32
	rxRing, txRing uint16
	mtu            uint32 // host_mtu_size as the client gave it
	host           tap.Host
	port           *tap.Port
}

func newDevices() *devices {
	return &devices{
		loops:       numbers{limit: maxLoops, index: map[uint32]uint32{}},
		taps:        numbers{limit: maxTaps, index: map[uint32]uint32{}},
		vxlans:      numbers{limit: vnet.NoIndex, index: map[uint32]uint32{}},
		vxlanPlaces: numbers{limit: vnet.NoIndex, index: map[uint32]uint32{}},
		tap:         map[uint32]tapDevice{},
		hosts:       map[string]hostDevice{},
		xdps:        map[uint32]func(){},
	}
}

// numbers gives out the instance numbers of one kind of device.
type numbers struct {
	limit uint32
	index map[uint32]uint32 // sw_if_index by number; NoIndex while the device opens
}

// take takes number n.
func (k *numbers) take(n uint32) bool {
	if _, ok := k.index[n]; ok || n >= k.limit {
		return false
	}
	k.index[n] = vnet.NoIndex
	return true
}

// takeFree takes the lowest free number.
func (k *numbers) takeFree() (uint32, bool) {
	for n := range k.limit {
		if k.take(n) {
			return n, true
		}
	}
	return 0, false
}

// of returns the number of an interface.
func (k *numbers) of(index uint32) (uint32, bool) {
	for n, i := range k.index {
		if i == index && index != vnet.NoIndex {
			return n, true
		}
	}
	return 0, false
}

// tapIndexes lists the interfaces that are taps, rising.
func (d *devices) tapIndexes() []uint32 {
	return slices.Sorted(maps.Keys(d.tap))
}

// abandon readies the device of a failed request for its closing: what the request made
// must not outlive it, while a device that was there before keeps its persistence.
func (d tapDevice) abandon() error {
	if d.host.Flags&tap.Attach != 0 {
		return nil
	}
	return d.port.Unpersist()
}

// addInterface makes an interface on d, nil for a loopback, and names its statistics.
// When it fails it closes d, after it called abandon, which may be nil.
func (s *Server) addInterface(spec vnet.InterfaceSpec, d port.Port, abandon func() error) (uint32, error) {
	if abandon == nil {
		abandon = func() error { return nil }
	}
	index, err := s.plane.AddInterface(spec, d)
	if err != nil {
		if d != nil {
			err = join(err, errors.Join(abandon(), d.Close()))
		}
		return 0, err
	}
	if err := s.stats.SetInterface(index, spec.Name); err != nil {
		return 0, join(err, errors.Join(abandon(), s.plane.DeleteInterface(index)))
	}
	return index, nil
}

// deleteInterface also forgets what was set for it: the index may serve another soon.
func (s *Server) deleteInterface(index uint32) error {
	if err := s.plane.DeleteInterface(index); err != nil {
		return err
	}
	s.settings.forget(index)
	return s.stats.RemoveInterface(index)
}
