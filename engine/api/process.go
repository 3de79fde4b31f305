package api

import (
	"os"
	"slices"
	"time"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/memclnt"
	"go.fd.io/govpp/binapi/vlib"
	"go.fd.io/govpp/binapi/vpe"
	"go.fd.io/govpp/binapi/vpe_types"
)

// processMessages are those of memclnt.api, vlib.api and vpe.api about the process.
func (s *Server) processMessages() []*entry {
	return slices.Concat(
		handle(s.controlPing),
		handle(s.showVersion),
		handle(s.showSystemTime),
		handle(s.showThreads),
		handle(s.cliInband),
	)
}

// controlPing leaves client_index 0, as VPP does.
func (s *Server) controlPing(_ *session, _ *memclnt.ControlPing, r *memclnt.ControlPingReply) error {
	r.VpePID = uint32(os.Getpid())
	return nil
}

func (s *Server) showVersion(_ *session, _ *vpe.ShowVersion, r *vpe.ShowVersionReply) error {
	r.Program, r.Version = "millrace", s.version
	return nil
}

func (s *Server) showSystemTime(_ *session, _ *vpe.ShowVpeSystemTime, r *vpe.ShowVpeSystemTimeReply) error {
	r.VpeSystemTime = vpe_types.Timestamp(float64(time.Now().UnixNano()) / 1e9)
	return nil
}

func (s *Server) showThreads(_ *session, _ *vlib.ShowThreads, r *vlib.ShowThreadsReply) error {
	for i, t := range s.threads() {
		r.ThreadData = append(r.ThreadData, vlib.ThreadData{
			ID: uint32(i), Name: t.Name, Type: t.Type, PID: uint32(t.TID), CPUID: uint32(t.CPU),
		})
	}
	r.Count = uint32(len(r.ThreadData))
	return nil
}

// cliInband answers wrong input with -1 and the reason as text.
func (s *Server) cliInband(_ *session, q *vlib.CliInband, r *vlib.CliInbandReply) error {
	text, err := s.runCommand(q.Cmd)
	if err != nil {
		r.Reply = text + err.Error()
		return api.UNSPECIFIED
	}
	r.Reply = text
	return nil
}
