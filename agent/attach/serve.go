package attach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"

	"github.com/millrace/millrace/cni"
	"github.com/millrace/millrace/cni/cnipb"
)

// Limits on what a caller may send. A GC request lists every attachment of a node.
const (
	requestMax = 4 << 20 // bytes
	verbsMax   = 512     // at work on one connection
)

// Serve answers the plugin on l until ctx ends; then it cuts the verbs short that are at
// work, waits for them, and returns nil. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	g := grpc.NewServer(grpc.MaxRecvMsgSize(requestMax), grpc.MaxConcurrentStreams(verbsMax), grpc.WaitForHandlers(true))
	cnipb.RegisterAttacherServer(g, &door{server: s})
	stop := context.AfterFunc(ctx, g.Stop)
	defer stop()
	err := g.Serve(l)
	g.Stop() // again: Serve returns before the last handler does
	if err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve CNI on %s: %w", l.Addr(), err)
	}
	return nil
}

// door turns requests into verbs and errors into statuses.
type door struct {
	cnipb.UnimplementedAttacherServer
	server *Server
}

func (d *door) Add(ctx context.Context, r *cnipb.AddRequest) (reply *cnipb.AddReply, err error) {
	defer d.answer("add", time.Now(), &err)
	want, err := requested(r.GetId(), r.GetNetwork(), r.GetNetns())
	if err != nil {
		return nil, err
	}
	if err := withPod(&want, r.GetPod(), r.GetMtu()); err != nil {
		return nil, err
	}
	if err := withMemif(&want, r.GetMemif()); err != nil {
		return nil, err
	}
	return d.server.add(ctx, want)
}

func (d *door) Del(ctx context.Context, r *cnipb.DelRequest) (_ *cnipb.DelReply, err error) {
	defer d.answer("del", time.Now(), &err)
	id, err := validID(r.GetId())
	if err != nil {
		return nil, err
	}
	return &cnipb.DelReply{}, d.server.del(ctx, id, r.GetNetwork())
}

func (d *door) Check(ctx context.Context, r *cnipb.CheckRequest) (_ *cnipb.CheckReply, err error) {
	defer d.answer("check", time.Now(), &err)
	want, err := requested(r.GetId(), r.GetNetwork(), r.GetNetns())
	if err != nil {
		return nil, err
	}
	if want.Addresses, err = validAddresses(r.GetAddresses()); err != nil {
		return nil, err
	}
	routes, err := validRoutes(r.GetRoutes())
	if err != nil {
		return nil, err
	}
	others, err := seenAddresses(r.GetOthers())
	if err != nil {
		return nil, err
	}
	return &cnipb.CheckReply{}, d.server.check(ctx, want, routes, others)
}

func (d *door) GC(ctx context.Context, r *cnipb.GCRequest) (_ *cnipb.GCReply, err error) {
	defer d.answer("gc", time.Now(), &err)
	valid, err := validIDs(r.GetValid())
	if err != nil {
		return nil, err
	}
	deleted, err := d.server.gc(ctx, r.GetNetwork(), valid)
	return &cnipb.GCReply{Deleted: wireIDs(deleted)}, err
}

func (d *door) Status(context.Context, *cnipb.StatusRequest) (_ *cnipb.StatusReply, err error) {
	defer d.answer("status", time.Now(), &err)
	return &cnipb.StatusReply{}, d.server.status()
}

// answer measures a verb and gives its error the form that gRPC carries.
func (d *door) answer(verb string, started time.Time, err *error) {
	d.server.metrics.observe(verb, started, *err)
	*err = cni.ToStatus(*err)
}
