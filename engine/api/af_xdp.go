package api

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/af_xdp"
	"go.fd.io/govpp/binapi/interface_types"

	"github.com/millrace/millrace/engine/port/afxdp"
	"github.com/millrace/millrace/engine/port/hostlink"
	"github.com/millrace/millrace/engine/vnet"
	"github.com/millrace/millrace/internal/steer"
)

// afXDPMessages are those of af_xdp.api.
func (s *Server) afXDPMessages() []*entry {
	return slices.Concat(handle(s.afXDPCreateV3), handle(s.afXDPDelete))
}

// afXDPCreateV3 answers as VPP does, with the interface 0 beside an error. Unlike there, the
// interface has the MAC address of the host's, and takes no other program's place. By prog a
// client asks for only what is steered (steer.Prog); without it all that comes in is taken. A
// path, which VPP would load, is refused: the engine has its programs built in.
func (s *Server) afXDPCreateV3(_ *session, q *af_xdp.AfXdpCreateV3, r *af_xdp.AfXdpCreateV3Reply) error {
	if q.Prog != "" && q.Prog != steer.Prog {
		return &deviceError{api.SYSCALL_ERROR_5, fmt.Errorf("XDP program %q: the engine has its own: want %q, or none", q.Prog, steer.Prog)}
	}
	p, err := afxdp.Open(afxdp.Config{
		HostIfName: q.HostIf, Namespace: q.Netns, RxQueues: int(q.RxqNum), RxRing: int(q.RxqSize), TxRing: int(q.TxqSize),
		Mode: afxdp.Mode(q.Mode), Share: q.Prog == steer.Prog,
	})
	if err != nil {
		return afXDPError(err)
	}
	index, err := s.addAfXDP(q, p)
	r.SwIfIndex = interface_types.InterfaceIndex(index)
	return err
}

func (s *Server) addAfXDP(q *af_xdp.AfXdpCreateV3, p *afxdp.Port) (uint32, error) {
	s.devices.mu.Lock()
	number := s.devices.nextXDP
	s.devices.nextXDP++
	s.devices.mu.Unlock()
	name := q.Name
	if name == "" {
		name = fmt.Sprintf("%s/%d", q.HostIf, number)
	}
	host := p.Host()
	mtu := min(host.MTU, 65535)
	index, err := s.addInterface(vnet.InterfaceSpec{
		Name: name, DeviceType: deviceAfXDP, MTU: uint32(mtu), LinkMTU: uint16(mtu), LinkUp: host.Up,
	}, p, nil)
	if err != nil {
		return 0, err
	}
	s.log.Info("af_xdp interface opened", "interface", name, "host", q.HostIf, "queues", p.RxQueues(),
		"program", p.Attached().String(), "zeroCopy", p.ZeroCopy(), "share", q.Prog == steer.Prog)
	ctx, stop := context.WithCancel(s.ctx)
	s.watches.Go(func() {
		last := host
		err := p.Watch(ctx, func(now hostlink.State) {
			s.followHost(index, last, now)
			last = now
		})
		if err != nil && ctx.Err() == nil {
			s.log.Warn("af_xdp interface no longer follows its host interface", "host", q.HostIf, "err", err)
		}
	})
	s.devices.mu.Lock()
	defer s.devices.mu.Unlock()
	s.devices.xdps[index] = stop
	return index, nil
}

func afXDPError(err error) error {
	a, ok := errors.AsType[*afxdp.Error](err)
	if !ok {
		return err
	}
	code := api.SYSCALL_ERROR_2
	switch a.Kind {
	case afxdp.BadConfig, afxdp.NoInterface:
		code = api.INVALID_VALUE
	case afxdp.NoNamespace:
		code = api.SYSCALL_ERROR_8
	case afxdp.NoProgram:
		code = api.SYSCALL_ERROR_6
	case afxdp.NoSocket:
	}
	return &deviceError{code, err}
}

func (s *Server) afXDPDelete(_ *session, q *af_xdp.AfXdpDelete, _ *af_xdp.AfXdpDeleteReply) error {
	index := uint32(q.SwIfIndex)
	s.devices.mu.Lock()
	stop, ok := s.devices.xdps[index]
	delete(s.devices.xdps, index) // ours alone to delete
	s.devices.mu.Unlock()
	if !ok {
		return api.INVALID_INTERFACE
	}
	stop()
	if err := s.deleteInterface(index); err != nil {
		s.devices.mu.Lock()
		defer s.devices.mu.Unlock()
		s.devices.xdps[index] = stop
		return err
	}
	return nil
}
