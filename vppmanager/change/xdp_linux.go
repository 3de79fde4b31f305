package change

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/vppmanager/startup"
)

// What VPP puts onto a link is libxdp's: a program that hands packets to sockets, by itself
// or, where there is a BPF file system, behind one that calls several. The latter is kept
// in that file system: dispatch-INDEX-ID holds prog0-prog, prog0-link and so on.
const (
	socketProgram = "xsk_def_prog"
	dispatcher    = "xdp_dispatcher"
	pinDir        = "sys/fs/bpf/xdp"
)

// attached is a program on a link.
type attached struct {
	id   uint32
	mode uint32 // XDP_FLAGS_*_MODE
}

// Flags of linux/if_link.h.
const (
	xdpGeneric = 1 << 1
	xdpDriver  = 1 << 2
	xdpCard    = 1 << 3
	xdpReplace = 1 << 4
)

func (l link) xdp() (list []attached, err error) {
	nested, err := parseAttrs(l.find(unix.IFLA_XDP))
	if err != nil {
		return nil, fmt.Errorf("read the XDP programs of %s: %w", l.name(), err)
	}
	m := message{attrs: nested}
	for _, way := range []struct {
		kind uint16
		mode uint32
	}{{unix.IFLA_XDP_DRV_PROG_ID, xdpDriver}, {unix.IFLA_XDP_SKB_PROG_ID, xdpGeneric}, {unix.IFLA_XDP_HW_PROG_ID, xdpCard}} {
		if id := m.number(way.kind); id != 0 {
			list = append(list, attached{id, way.mode})
		}
	}
	return list, nil
}

// lookXDP refuses a link that has a program: VPP would join it or fail, and it is not ours
// to take away.
func lookXDP(h Host, c startup.Change) (state, error) {
	s, err := lookLink(h, c)
	if err != nil {
		return state{}, err
	}
	l, err := linkByIndex(s.Link.Index)
	if err != nil {
		return state{}, err
	}
	list, err := l.xdp()
	if err != nil {
		return state{}, err
	}
	if len(list) > 0 {
		return state{}, fmt.Errorf("%s has the XDP program %s: end what has put it there, or detach it (ip link set %s xdp off)", c.Link, programName(list[0].id), c.Link)
	}
	s.Pins = h.there(pinDir)
	s.Since, err = sinceBoot()
	return s, err
}

// programName is a program's name and number.
func programName(id uint32) string {
	p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
	if err != nil {
		return fmt.Sprintf("of id %d", id)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil || info.Name == "" {
		return fmt.Sprintf("of id %d", id)
	}
	return fmt.Sprintf("%s (id %d)", info.Name, id)
}

// undoXDP detaches what VPP put onto the link: its sockets end with it, the program stays.
// Another's program is left alone, with a word.
func undoXDP(_ context.Context, h Host, j *Journal, s *step) error {
	l, err := linkByIndex(s.Before.Link.Index)
	if errors.Is(err, errNoLink) {
		return h.unpin(s)
	}
	if err != nil {
		return err
	}
	list, err := l.xdp()
	if err != nil {
		return err
	}
	for _, a := range list {
		if err := h.detach(j, s, l, a); err != nil {
			return fmt.Errorf("detach the XDP program %s from %s: %w", programName(a.id), l.name(), err)
		}
	}
	return h.unpin(s)
}

func (h Host) detach(j *Journal, s *step, l link, a attached) error {
	p, err := ebpf.NewProgramFromID(ebpf.ProgramID(a.id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has gone since
	}
	if err != nil {
		return err
	}
	defer p.Close()
	ours, dir, err := h.fromVPP(p, l.index(), a.id, s.Before.Since)
	if err != nil {
		return err
	}
	if !ours {
		h.tell("%s keeps the XDP program %s: it is not the dataplane's", l.name(), programName(a.id))
		return nil
	}
	if dir != "" {
		if err := j.target(s, state{Value: dir}); err != nil {
			return err
		}
	}
	return h.setXDP(l.index(), -1, a.mode, p.FD())
}

// setXDP puts a program onto a link, or takes one away (-1), if it is the expected one.
func (h Host) setXDP(index, fd int, mode uint32, expected int) error {
	set := func(flags uint32, more ...attr) error {
		list := append([]attr{{unix.IFLA_XDP_FD, u32(uint32(fd))}, {unix.IFLA_XDP_FLAGS, u32(flags)}}, more...)
		return h.setLink(index, 0, 0, attr{unix.IFLA_XDP | unix.NLA_F_NESTED, appendAttrs(nil, list...)})
	}
	err := set(mode|xdpReplace, attr{unix.IFLA_XDP_EXPECTED_FD, u32(uint32(expected))})
	if errors.Is(err, unix.EINVAL) { // Linux before 5.7 does not compare
		err = set(mode)
	}
	return err
}

// fromVPP says whether a program is VPP's: it has the name, and was loaded since the link was
// ours. dir is where a dispatcher is kept; one that calls another's programs, too, is not.
func (h Host) fromVPP(p *ebpf.Program, index int, id uint32, since int64) (ours bool, dir string, err error) {
	info, err := p.Info()
	if err != nil {
		return false, "", err
	}
	if loaded, ok := info.LoadTime(); !ok || int64(loaded/time.Second) < since {
		return false, "", nil
	}
	if info.Name != dispatcher {
		return info.Name == socketProgram, "", nil
	}
	dir = fmt.Sprintf("dispatch-%d-%d", index, id)
	pins, err := filepath.Glob(h.path(pinDir, dir, "*-prog"))
	if err != nil || len(pins) == 0 {
		return false, "", err
	}
	for _, pin := range pins {
		called, err := pinnedName(pin)
		if err != nil || called != socketProgram {
			return false, "", err
		}
	}
	return true, dir, nil
}

func pinnedName(path string) (string, error) {
	p, err := ebpf.LoadPinnedProgram(path, nil)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", path, err)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return "", err
	}
	return info.Name, nil
}

// unpin removes what kept a dispatcher, and libxdp's directory if it was not there before
// and holds nothing.
func (h Host) unpin(s *step) error {
	if s.Target != nil && strings.HasPrefix(s.Target.Value, "dispatch-") && !strings.Contains(s.Target.Value, "/") {
		if err := os.RemoveAll(h.path(pinDir, s.Target.Value)); err != nil {
			return fmt.Errorf("unpin the XDP program: %w", err)
		}
	}
	if s.Before.Pins {
		return nil
	}
	err := os.Remove(h.path(pinDir))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTEMPTY) {
		return nil
	}
	return err
}
