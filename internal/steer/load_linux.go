package steer

import (
	"errors"
	"fmt"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// Program is the program in the kernel, with its maps, as who holds it has them. Nothing
// else keeps them there.
type Program struct {
	Tables
	program *ebpf.Program
	config  *ebpf.Map
	sockets *ebpf.Map
}

// Load brings the program and empty maps into the kernel; with everything set it is one that
// takes all packets, whatever the maps say. It needs CAP_BPF and CAP_NET_ADMIN, or root.
func Load(everything bool) (*Program, error) {
	// Kernels before 5.11 count maps against what a process may lock.
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("load XDP program: %w", err)
	}
	maps := map[string]*ebpf.Map{}
	p, err := load(everything, maps)
	if err != nil {
		for _, m := range maps {
			err = errors.Join(err, m.Close())
		}
		return nil, fmt.Errorf("load XDP program: %w", err)
	}
	return p, nil
}

func load(everything bool, maps map[string]*ebpf.Map) (*Program, error) {
	name, code := Name, program()
	if everything {
		name, code = nameAll, programAll()
	}
	for _, spec := range mapSpecs() {
		m, err := ebpf.NewMap(spec)
		if err != nil {
			return nil, fmt.Errorf("make map %s: %w", spec.Name, err)
		}
		maps[spec.Name] = m
		if err := code.AssociateMap(spec.Name, m); err != nil && !errors.Is(err, asm.ErrUnreferencedSymbol) {
			return nil, fmt.Errorf("use map %s: %w", spec.Name, err)
		}
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: name, Type: ebpf.XDP, Instructions: code, License: "Apache-2.0",
	})
	if err != nil {
		return nil, err
	}
	return &Program{
		Tables: Tables{
			prefixes: [2]*ebpf.Map{maps[mapPrefix4], maps[mapPrefix6]},
			ports:    maps[mapPorts], verdicts: maps[mapVerdicts],
		},
		program: program, config: maps[mapConfig], sockets: maps[mapSockets],
	}, nil
}

func mapSpecs() []*ebpf.MapSpec {
	return []*ebpf.MapSpec{
		{Name: mapConfig, Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1},
		{Name: mapPrefix4, Type: ebpf.LPMTrie, KeySize: 8, ValueSize: 1, MaxEntries: MaxPrefixes, Flags: unix.BPF_F_NO_PREALLOC},
		{Name: mapPrefix6, Type: ebpf.LPMTrie, KeySize: 20, ValueSize: 1, MaxEntries: MaxPrefixes, Flags: unix.BPF_F_NO_PREALLOC},
		{Name: mapPorts, Type: ebpf.Hash, KeySize: 20, ValueSize: 1, MaxEntries: MaxPorts, Flags: unix.BPF_F_NO_PREALLOC},
		{Name: mapSockets, Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: MaxQueues},
		{Name: mapVerdicts, Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: uint32(verdicts)},
	}
}

// XDP is the program to attach.
func (p *Program) XDP() *ebpf.Program { return p.program }

// SetMAC says what the card's MAC address is. Before it nothing is taken.
func (p *Program) SetMAC(mac net.HardwareAddr) error {
	c, err := configOf(mac)
	if err == nil {
		err = p.config.Put(uint32(0), c)
	}
	if err != nil {
		return fmt.Errorf("set MAC address of XDP program: %w", err)
	}
	return nil
}

// SetSocket gives what queue receives to an AF_XDP socket.
func (p *Program) SetSocket(queue int, fd int) error {
	if err := p.sockets.Put(uint32(queue), uint32(fd)); err != nil {
		return fmt.Errorf("give queue %d to its socket: %w", queue, err)
	}
	return nil
}

// Close lets go of the program and the maps.
func (p *Program) Close() error {
	if err := errors.Join(p.program.Close(), p.config.Close(), p.sockets.Close(), p.Tables.Close()); err != nil {
		return fmt.Errorf("close XDP program: %w", err)
	}
	return nil
}
