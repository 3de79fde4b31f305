package attach

import (
	"context"
	"errors"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/cni"
	"github.com/millrace/millrace/cni/cnipb"
)

// add gives a container an interface: allocate, store the fact, wait until it is applied,
// read what the container sees.
func (s *Server) add(ctx context.Context, want cluster.Attachment) (*cnipb.AddReply, error) {
	done, err := s.turns.take(ctx, want.ID.ContainerID)
	if err != nil {
		return nil, err
	}
	defer done()
	namespace, err := s.namespaceFor(want)
	if err != nil {
		return nil, err
	}
	if err := s.awaitStart(ctx, want.ID); err != nil {
		return nil, err
	}
	have, found := s.journal.find(want.ID)
	if found && have.Netns == want.Netns && have.Namespace == namespace && have.Network == want.Network {
		return s.confirm(ctx, have)
	}
	if found {
		if err := s.supersede(ctx, have, want); err != nil {
			return nil, err
		}
	}
	if err := s.settle(ctx, want.ID); err != nil {
		return nil, err
	}
	if err := s.askMemifs(ctx, &want); err != nil {
		return nil, err
	}
	stored, err := s.store(record{Attachment: want, Namespace: namespace})
	if err != nil {
		return nil, err
	}
	reply, err := s.confirm(ctx, stored)
	if err != nil {
		return nil, errors.Join(err, s.takeBack(stored))
	}
	return reply, nil
}

// namespaceFor identifies the container's network namespace and refuses the agent's own.
func (s *Server) namespaceFor(want cluster.Attachment) (NamespaceID, error) {
	id, err := s.pods.Namespace(want.Netns)
	if err != nil {
		return NamespaceID{}, cni.Errorf(types.ErrInvalidNetNS, "CNI_NETNS %s of container %s: %v", want.Netns, want.ID.ContainerID, err)
	}
	if id == s.own {
		return NamespaceID{}, cni.Errorf(types.ErrInvalidNetNS, "CNI_NETNS %s of container %s is the node's own network namespace", want.Netns, want.ID.ContainerID)
	}
	return id, nil
}

// supersede clears the way for a second ADD of one interface, which is right only when
// the namespace of the first is gone.
func (s *Server) supersede(ctx context.Context, have record, want cluster.Attachment) error {
	if s.alive(have) {
		if have.Network != want.Network {
			return cni.Errorf(cni.CodeConflict, "add %s to network %s: it belongs to network %s; use another CNI_IFNAME, or DEL it there first", want.ID, want.Network, have.Network)
		}
		return cni.Errorf(cni.CodeConflict, "add %s in %s: it lives in %s already; DEL it first", want.ID, want.Netns, have.Netns)
	}
	return s.remove(ctx, have)
}

// settle waits until an earlier removal of the same interface is applied.
func (s *Server) settle(ctx context.Context, id cluster.AttachmentID) error {
	revision, leaving := s.pool.leaving(id)
	if !leaving {
		return nil
	}
	return s.waitRemoved(ctx, id, revision)
}

// store allocates addresses and makes the attachment a fact.
func (s *Server) store(r record) (record, error) {
	s.freeRemoved()
	sets := len(r.Memifs)
	if r.Device == cluster.DeviceKernel {
		sets++
	}
	got, err := s.pool.take(r.ID, s.ranges(), sets)
	if err != nil {
		return record{}, err
	}
	// From here on the journal holds the addresses, or nobody does.
	defer s.pool.drop(r.ID)
	if r.Device == cluster.DeviceKernel {
		r.Addresses, got = got[0], got[1:]
	}
	for i := range r.Memifs {
		r.Memifs[i].Addresses = got[i]
	}
	stored, err := s.journal.put(r)
	if err != nil {
		return record{}, cni.Errorf(cni.CodeNotStored, "%v", err)
	}
	return stored, nil
}

// confirm waits until an attachment is applied and answers with what the container sees.
func (s *Server) confirm(ctx context.Context, r record) (*cnipb.AddReply, error) {
	for patience := time.Now().Add(lookPatience); ; {
		if err := s.wait(ctx, r.ID, r.Revision); err != nil {
			return nil, err
		}
		link, why, err := s.look(r)
		if err != nil {
			return nil, cni.Errorf(cni.CodeNotApplied, "read %s in %s: %v", r.ID.IfName, r.Netns, err)
		}
		if why == "" {
			return s.reply(r, link), nil
		}
		// The dataplane may have died since, which the loop is about to notice.
		select {
		case <-time.After(lookAgain):
		case <-ctx.Done():
			patience = time.Time{}
		}
		if time.Now().After(patience) {
			return nil, cni.Errorf(cni.CodeNotApplied, "%s in %s: %s", r.ID.IfName, r.Netns, why)
		}
	}
}

// lookAgain and lookPatience are for what is missing although the loop has applied it.
const (
	lookAgain    = 100 * time.Millisecond
	lookPatience = 2 * time.Second
)

// look reads what a container has of its attachment, and says what keeps it from using
// that, "" when nothing does. The link is that of the kernel device, if there is one.
func (s *Server) look(r record) (link Link, why string, err error) {
	if r.Device == cluster.DeviceKernel {
		if link, err = s.pods.Link(r.Netns, r.ID.IfName); err != nil {
			return Link{}, "", err
		}
		if why = link.lacks(r.Addresses); why != "" {
			return link, why, nil
		}
	}
	why, err = s.lacksMemif(r)
	return link, why, err
}

// takeBack removes what a failed ADD stored. It does not wait: the addresses stay held
// until the loop has applied the removal.
func (s *Server) takeBack(r record) error {
	_, err := s.forget(r)
	if err != nil {
		return cni.Errorf(cni.CodeNotStored, "take back: %v; a DEL will remove it", err)
	}
	return nil
}

// reply renders an attachment as results list it: for each interface the host's side first
// when it has a name, then the container's.
func (s *Server) reply(r record, link Link) *cnipb.AddReply {
	reply := &cnipb.AddReply{}
	if r.Device == cluster.DeviceKernel {
		s.replyLink(reply, r, link)
	}
	for i, m := range r.Memifs {
		s.replyMemif(reply, r, m, ifNameOf(r.Attachment, i))
	}
	return reply
}

func (s *Server) replyLink(reply *cnipb.AddReply, r record, link Link) {
	if s.hostName != nil {
		reply.Interfaces = append(reply.Interfaces, &cnipb.Interface{Name: s.hostName(r.Attachment), Mtu: link.MTU})
	}
	at := uint32(len(reply.Interfaces))
	reply.Interfaces = append(reply.Interfaces, &cnipb.Interface{Name: r.ID.IfName, Mac: link.MAC, Mtu: link.MTU, Sandbox: r.Netns})
	for _, a := range r.Addresses {
		ip := &cnipb.IP{Address: link.prefixOf(a).String(), Interface: at}
		if g := link.gatewayOf(a); g.IsValid() {
			ip.Gateway = g.String()
		}
		reply.Ips = append(reply.Ips, ip)
	}
	for _, route := range link.Routes {
		out := &cnipb.Route{Destination: route.Destination.String(), Mtu: route.MTU}
		if route.Gateway.IsValid() {
			out.Gateway = route.Gateway.String()
		}
		reply.Routes = append(reply.Routes, out)
	}
}
