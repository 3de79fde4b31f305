package change

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/vppmanager/startup"
)

// program is one that passes all packets.
func program(name string) (*ebpf.Program, error) {
	const pass = 2 // XDP_PASS
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: name, Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, pass), asm.Return()},
	})
}

// attach leaves a program on a link, as VPP does.
func attach(h Host, link, name string) error {
	p, err := program(name)
	if err != nil {
		return fmt.Errorf("load %s: %w", name, err)
	}
	defer p.Close()
	l, err := linkByName(link)
	if err != nil {
		return err
	}
	return h.setXDP(l.index(), p.FD(), xdpDriver, -1)
}

// attachedTo is the name of the program on a link, "" if there is none.
func attachedTo(t *testing.T, n node, link string) (name string, id uint32) {
	t.Helper()
	n.Run(t, func() error {
		l, err := linkByName(link)
		if err != nil {
			return err
		}
		list, err := l.xdp()
		if err == nil && len(list) > 0 {
			name, id = programName(list[0].id), list[0].id
		}
		return err
	})
	name, _, _ = strings.Cut(name, " ")
	return name, id
}

// TestIntegrationXDP: what is VPP's is detached, what is another's stays, and a link with one
// is refused by its name.
func TestIntegrationXDP(t *testing.T) {
	netnstest.NeedRoot(t)
	probe, err := program("probe")
	if err != nil {
		t.Skipf("needs a kernel that loads XDP programs: %v", err)
	}
	probe.Close()
	for _, tt := range []struct {
		name   string
		before string // on the link from the start
		since  string // put onto it later
		left   string
		refuse string
	}{
		{"VPP's", "", socketProgram, "", ""},
		{"none came", "", "", "", ""},
		{"another's came", "", "cil_xdp_entry", "cil_xdp_entry", ""},
		{"a dispatcher that nobody pinned", "", dispatcher, dispatcher, ""},
		{"another's was there", "cil_xdp_entry", "", "cil_xdp_entry", "eth1 has the XDP program cil_xdp_entry (id "},
		{"another's sockets were there", socketProgram, "", socketProgram, "eth1 has the XDP program xsk_def_prog (id "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t)
			m := newMachine(t)
			put := func(name string) {
				if name != "" {
					n.Run(t, func() error { return attach(Host{}, "eth1", name) })
				}
			}
			put(tt.before)
			j, err := Open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer j.Close()
			h := Host{Root: m.root}
			err = n.Do(func() error {
				return h.Apply(context.Background(), j, []startup.Change{{Kind: startup.XDPProgram, Link: "eth1"}})
			})
			if tt.refuse == "" && err != nil || tt.refuse != "" && (err == nil || !strings.Contains(err.Error(), tt.refuse)) {
				t.Fatalf("error %v, want %q", err, tt.refuse)
			}
			put(tt.since)
			n.Run(t, func() error { return h.Undo(context.Background(), j) })
			if left, _ := attachedTo(t, n, "eth1"); left != tt.left {
				t.Errorf("on the link is %q, want %q", left, tt.left)
			}
		})
	}
}

// TestIntegrationXDPEarlier: a program that was loaded before the link was ours is another's,
// whatever its name.
func TestIntegrationXDPEarlier(t *testing.T) {
	netnstest.NeedRoot(t)
	p, err := program(socketProgram)
	if err != nil {
		t.Skipf("needs a kernel that loads XDP programs: %v", err)
	}
	defer p.Close()
	now, err := sinceBoot()
	if err != nil {
		t.Fatal(err)
	}
	for since, want := range map[int64]bool{now - 60: true, now + 60: false} {
		if ours, _, err := (Host{}).fromVPP(p, 1, 1, since); err != nil || ours != want {
			t.Errorf("ours since %d, at %d: %v, %v", since, now, ours, err)
		}
	}
}

// TestIntegrationXDPPinned: a dispatcher that calls VPP's program only goes with what keeps it in
// the BPF file system; one that calls another's, too, stays.
func TestIntegrationXDPPinned(t *testing.T) {
	netnstest.NeedRoot(t)
	for _, tt := range []struct {
		name    string
		called  []string
		stays   bool
		further bool // something else is in libxdp's directory
	}{
		{"VPP's", []string{socketProgram}, false, false},
		{"beside others' dispatchers", []string{socketProgram}, false, true},
		{"with another's", []string{socketProgram, "filter"}, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, m := newNode(t), newMachine(t)
			bpf := filepath.Join(m.root, "sys/fs/bpf")
			mountBPF(t, bpf)
			j, err := Open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer j.Close()
			h := Host{Root: m.root}
			n.Run(t, func() error {
				err := h.Apply(context.Background(), j, []startup.Change{{Kind: startup.XDPProgram, Link: "eth1"}})
				return errors.Join(err, attach(h, "eth1", dispatcher))
			})
			_, id := attachedTo(t, n, "eth1")
			var dir string
			n.Run(t, func() error {
				l, err := linkByName("eth1")
				dir = filepath.Join(bpf, "xdp", fmt.Sprintf("dispatch-%d-%d", l.index(), id))
				return errors.Join(err, os.MkdirAll(dir, 0o755))
			})
			if tt.further {
				if err := os.Mkdir(filepath.Join(bpf, "xdp", "dispatch-99-1"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for i, name := range tt.called {
				p, err := program(name)
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				if err := p.Pin(filepath.Join(dir, fmt.Sprintf("prog%d-prog", i))); err != nil {
					t.Fatal(err)
				}
			}
			n.Run(t, func() error { return h.Undo(context.Background(), j) })
			_, err = os.Stat(dir)
			if left, _ := attachedTo(t, n, "eth1"); (left != "") != tt.stays || (err == nil) != tt.stays {
				t.Errorf("on the link is %q, its directory: %v", left, err)
			}
			if _, err := os.Stat(filepath.Dir(dir)); (err == nil) != (tt.stays || tt.further) {
				t.Errorf("libxdp's directory: %v", err)
			}
		})
	}
}

// mountBPF mounts a BPF file system for the length of the test.
func mountBPF(t *testing.T, at string) {
	t.Helper()
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", at, "bpf", 0, ""); err != nil {
		t.Skipf("needs a BPF file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}
