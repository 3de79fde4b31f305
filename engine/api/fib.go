package api

import (
	"slices"

	"go.fd.io/govpp/binapi/fib"

	"github.com/millrace/millrace/engine/vnet"
)

// fibMessages are those of fib.api.
func (s *Server) fibMessages() []*entry {
	return slices.Concat(
		handle(s.fibSourceAdd),
		handleDump(s.fibSourceDump),
	)
}

// fibSourceAdd gives out a number even for a name that has one. When none is left VPP
// answers 0 and no error; then routes would silently be the API's, so here it is an error.
func (s *Server) fibSourceAdd(_ *session, q *fib.FibSourceAdd, r *fib.FibSourceAddReply) (err error) {
	r.ID, err = s.plane.AddSource(q.Src.Name, q.Src.Priority)
	return err
}

func (s *Server) fibSourceDump(_ *session, _ *fib.FibSourceDump, send func(*fib.FibSourceDetails)) {
	for _, x := range s.plane.Sources() {
		send(&fib.FibSourceDetails{Src: wireSource(x)})
	}
}

func wireSource(x vnet.Source) fib.FibSource {
	return fib.FibSource{Priority: x.Priority, ID: x.ID, Name: x.Name}
}
