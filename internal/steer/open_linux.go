package steer

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrNone says that no program of ours is on an interface.
var ErrNone = errors.New("no XDP program of millrace is there")

// Open finds the maps of the program on the interface of this network namespace, by the
// program's number. It needs CAP_SYS_ADMIN. The error is ErrNone when there is no program, or
// somebody else's; the error names that.
func Open(ifName string) (*Tables, error) {
	t, err := open(ifName)
	if err != nil {
		return nil, fmt.Errorf("find XDP maps of %s: %w", ifName, err)
	}
	return t, nil
}

func open(ifName string) (*Tables, error) {
	have, err := On(ifName)
	if err != nil {
		return nil, err
	}
	if have == (Attached{}) {
		return nil, ErrNone
	}
	if have.Name != Name {
		return nil, fmt.Errorf("%w, but %s", ErrNone, have)
	}
	p, err := ebpf.NewProgramFromID(have.ID)
	if err != nil {
		return nil, fmt.Errorf("open program %d: %w", have.ID, err)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return nil, fmt.Errorf("read program %d: %w", have.ID, err)
	}
	ids, ok := info.MapIDs()
	if !ok {
		return nil, fmt.Errorf("read program %d: the kernel does not tell its maps (4.15 and later do)", have.ID)
	}
	return openMaps(ids)
}

func openMaps(ids []ebpf.MapID) (*Tables, error) {
	maps := map[string]*ebpf.Map{}
	var errs []error
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			errs = append(errs, fmt.Errorf("open map %d: %w", id, err))
			continue
		}
		info, err := m.Info()
		if err != nil {
			errs = append(errs, fmt.Errorf("read map %d: %w", id, err), m.Close())
			continue
		}
		maps[info.Name] = m
	}
	for _, spec := range mapSpecs() {
		if m := maps[spec.Name]; m == nil && len(errs) == 0 {
			errs = append(errs, fmt.Errorf("it has no map %s: it is of another version", spec.Name))
		} else if m != nil && (m.KeySize() != spec.KeySize || m.ValueSize() != spec.ValueSize) {
			errs = append(errs, fmt.Errorf("its map %s has another layout: it is of another version", spec.Name))
		}
	}
	t := &Tables{prefixes: [2]*ebpf.Map{maps[mapPrefix4], maps[mapPrefix6]}, ports: maps[mapPorts], verdicts: maps[mapVerdicts]}
	used := []*ebpf.Map{t.prefixes[0], t.prefixes[1], t.ports, t.verdicts}
	broken := len(errs) > 0
	for _, m := range maps {
		if broken || !slices.Contains(used, m) {
			errs = append(errs, m.Close())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return t, nil
}

// Attached is an XDP program on an interface.
type Attached struct {
	ID   ebpf.ProgramID // 0 where there are several
	Name string         // at most 15 bytes, may be empty
	Mode Mode
}

// Mode is how a program is attached, in the numbers of IFLA_XDP_ATTACHED.
type Mode uint8

const (
	Native  Mode = 1 // by the driver, before the kernel makes a packet of its own
	Generic Mode = 2 // by the kernel, whatever the driver
	Offload Mode = 3 // on the card
	Several Mode = 4 // more than one of these
)

func (m Mode) String() string {
	switch m {
	case Native:
		return "native"
	case Generic:
		return "generic"
	case Offload:
		return "offload"
	case Several:
		return "several modes"
	}
	return fmt.Sprintf("mode-%d", uint8(m))
}

func (a Attached) String() string {
	return fmt.Sprintf("XDP program %q (id %d, %s)", a.Name, a.ID, a.Mode)
}

// On tells which XDP program is on an interface of this network namespace; the zero value
// when there is none.
func On(ifName string) (Attached, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return Attached{}, fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	link, err := h.LinkByName(ifName)
	if err != nil {
		return Attached{}, fmt.Errorf("find %s: %w", ifName, err)
	}
	xdp := link.Attrs().Xdp
	if xdp == nil || !xdp.Attached {
		return Attached{}, nil
	}
	a := Attached{ID: ebpf.ProgramID(xdp.ProgId), Mode: Mode(xdp.AttachMode)}
	if a.Mode == Several {
		return a, nil
	}
	p, err := ebpf.NewProgramFromID(a.ID)
	if err != nil {
		return a, fmt.Errorf("open XDP program %d on %s: %w", a.ID, ifName, err)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return a, fmt.Errorf("read XDP program %d on %s: %w", a.ID, ifName, err)
	}
	a.Name = info.Name
	return a, nil
}
