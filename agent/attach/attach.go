// Package attach owns the server behind CNI: the durable facts of which container has
// which interface and addresses, and the verbs that add, remove and check them.
//
// It wires nothing itself: it stores a fact and waits until the agent's loop has applied
// it. It never talks to the dataplane, and of a container's network namespace it only reads.
package attach

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/cni"
)

// Loop is what the server asks of the agent's loop.
type Loop interface {
	// WaitApplied returns nil when the dataplane does what the facts up to revision say: the
	// attachment stored with that revision is applied, or, when there is none, all that was
	// removed is gone. Its error is ctx's, or what keeps that from happening. With a ctx
	// that has ended it answers without waiting.
	WaitApplied(ctx context.Context, revision uint64) error
	// Ready is nil while the loop has the dataplane and has applied all facts at least once.
	Ready() error
}

// PodSide looks into containers' network namespaces.
type PodSide interface {
	// Namespace identifies the network namespace at a path; ErrNoNamespace when none is there.
	Namespace(path string) (NamespaceID, error)
	// Link reads one interface in the network namespace at a path.
	Link(path, ifName string) (Link, error)
	// Listens says whether somebody listens on the abstract socket of that name, without its
	// @, in the network namespace at a path, as a memif server does.
	Listens(path, socket string) (bool, error)
}

// Objects is what Kubernetes says of pods and Secrets; each is asked on an ADD.
type Objects interface {
	// Pod returns the facts of a pod that its kubelet knows. It waits where they may yet
	// come; false is a pod that may be without. uid may be empty.
	Pod(ctx context.Context, key cluster.PodKey, uid string) (cluster.Pod, bool, error)
	// Secret returns a Secret; false when there is none of that name.
	Secret(ctx context.Context, key cluster.SecretKey) (cluster.Secret, bool, error)
}

// ErrNoNamespace says that a path leads to no network namespace: it is gone or never was.
var ErrNoNamespace = errors.New("no network namespace is there")

// Config is what a Server works with.
type Config struct {
	Journal *Journal
	Loop    Loop
	// Ranges returns the node's pod ranges as they are now; called on each ADD.
	Ranges func() []netip.Prefix
	// Objects; nil: none, so that no pod has an annotation and no Secret exists.
	Objects Objects
	// MTU is that of an attachment which asks for none, in bytes at L3.
	MTU uint32
	// HostName names the dataplane's side of an attachment's kernel device in results; nil:
	// results list the container's side only. MemifHost is the same for a memif, with the
	// MAC of that side, "" where it has none.
	HostName  func(cluster.Attachment) string
	MemifHost func(cluster.Attachment, cluster.Memif) (name, mac string)
	// PodSide; nil: this machine's kernel.
	PodSide PodSide
	// Metrics; nil: none.
	Metrics prometheus.Registerer
}

// Server answers the plugin. Verbs on one container take turns; those on several
// containers run side by side.
//
// An ADD that fails takes back what it stored, and nothing else: the fact leaves the
// journal at once, its addresses stay held until the loop has applied that. An ADD that is
// repeated, after a crash or by a runtime that lost the answer, finds the fact and answers
// the same. A fact whose ADD never answered because the agent was killed stays until a
// repeated ADD, a DEL or a GC decides about it.
type Server struct {
	journal   *Journal
	loop      Loop
	ranges    func() []netip.Prefix
	objects   Objects
	mtu       uint32
	hostName  func(cluster.Attachment) string
	memifHost func(cluster.Attachment, cluster.Memif) (name, mac string)
	pods      PodSide
	pool      *pool
	turns     turns
	metrics   *metrics

	loaded  uint64      // revision of the facts found at the start
	started atomic.Bool // the loop has applied those once
	own     NamespaceID // the agent's own network namespace; no container may have it
}

// nothing is Objects of which there are none.
type nothing struct{}

func (nothing) Pod(context.Context, cluster.PodKey, string) (cluster.Pod, bool, error) {
	return cluster.Pod{}, false, nil
}

func (nothing) Secret(context.Context, cluster.SecretKey) (cluster.Secret, bool, error) {
	return cluster.Secret{}, false, nil
}

// New returns a Server; Serve runs it.
func New(c Config) (*Server, error) {
	if c.Journal == nil || c.Loop == nil || c.Ranges == nil {
		return nil, errors.New("make attach server: it needs a journal, a loop and the node's pod ranges")
	}
	if c.PodSide == nil {
		c.PodSide = Kernel{}
	}
	if c.Objects == nil {
		c.Objects = nothing{}
	}
	own, err := c.PodSide.Namespace("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("make attach server: read own network namespace: %w", err)
	}
	revision, _ := c.Journal.Facts()
	s := &Server{
		journal: c.Journal, loop: c.Loop, ranges: c.Ranges, objects: c.Objects, mtu: c.MTU,
		hostName: c.HostName, memifHost: c.MemifHost, pods: c.PodSide,
		pool: newPool(c.Journal), loaded: revision, own: own,
	}
	s.metrics, err = newMetrics(c.Metrics, c.Journal)
	if err != nil {
		return nil, fmt.Errorf("make attach server: %w", err)
	}
	return s, nil
}

// wait returns when the loop has applied a revision.
func (s *Server) wait(ctx context.Context, id cluster.AttachmentID, revision uint64) error {
	err := s.loop.WaitApplied(ctx, revision)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		if why := s.loop.Ready(); why != nil {
			err = why
		}
		return cni.Errorf(types.ErrTryAgainLater, "wait until the dataplane has applied %s: %v", id, err)
	}
	return cni.Errorf(cni.CodeNotApplied, "wait until the dataplane has applied %s: %v", id, err)
}

// awaitStart returns when the loop went through what the journal held at the start: until
// then the dataplane may still forward to addresses whose attachments are gone from the
// journal. What it could not apply of that is no reason to serve nobody else.
func (s *Server) awaitStart(ctx context.Context, id cluster.AttachmentID) error {
	if s.started.Load() {
		return nil
	}
	if err := s.wait(ctx, id, s.loaded); err != nil && ctx.Err() != nil {
		return err
	}
	s.started.Store(true)
	return nil
}

// waitRemoved returns when the loop has applied a removal; with that, every earlier one is
// applied too.
func (s *Server) waitRemoved(ctx context.Context, id cluster.AttachmentID, revision uint64) error {
	if err := s.wait(ctx, id, revision); err != nil {
		return err
	}
	s.pool.applied(revision)
	return nil
}

// freeRemoved lets go of the addresses whose removal is applied though nobody waited for
// it: a failed ADD's, or those of a DEL that was given up.
func (s *Server) freeRemoved() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, revision := range s.pool.removals() {
		if s.loop.WaitApplied(ended, revision) == nil {
			s.pool.applied(revision)
		}
	}
}

// alive says whether an attachment's network namespace is still the one it was made in.
// What cannot be read counts as alive: only a namespace known to be gone frees its interface.
func (s *Server) alive(r record) bool {
	id, err := s.pods.Namespace(r.Netns)
	if err != nil {
		return !errors.Is(err, ErrNoNamespace)
	}
	return id == r.Namespace
}
