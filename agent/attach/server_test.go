package attach_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/agent/attach"
	"github.com/millrace/millrace/agent/attach/attachtest"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/cni"
	"github.com/millrace/millrace/cni/cnipb"
)

// node is an attach server with its other ends, asked over its socket.
type node struct {
	*cni.Client
	journal  *attach.Journal
	loop     *attachtest.Loop
	pods     *attachtest.Pods
	registry *prometheus.Registry
	dir      string
	api      atomic.Pointer[cluster.Snapshot] // nil: no facts
	stop     func()
}

func bootID(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Skipf("no boot id: %v", err)
	}
	return strings.TrimSpace(string(data))
}

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func start(t testing.TB, ranges ...string) *node {
	t.Helper()
	return startIn(t, t.TempDir(), &attachtest.Loop{}, &attachtest.Pods{Boot: bootID(t)}, ranges...)
}

// restart ends the server and starts another one on the same directory: namespaces live on.
func (n *node) restart(t *testing.T, ranges ...string) *node {
	t.Helper()
	n.stop()
	return startIn(t, n.dir, &attachtest.Loop{}, n.pods, ranges...)
}

func startIn(t testing.TB, dir string, loop *attachtest.Loop, pods *attachtest.Pods, ranges ...string) *node {
	t.Helper()
	journal, err := attach.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	pods.Journal = journal
	n := &node{journal: journal, loop: loop, pods: pods, registry: prometheus.NewRegistry(), dir: dir}
	server, err := attach.New(attach.Config{
		Journal: journal, Loop: loop, PodSide: pods, Metrics: n.registry,
		Ranges:   func() []netip.Prefix { return prefixes(ranges...) },
		HostName: func(a cluster.Attachment) string { return "pod-" + a.ID.ContainerID },
		MemifHost: func(a cluster.Attachment, m cluster.Memif) (name, mac string) {
			return "pod-" + a.ID.ContainerID + "-" + m.Name, "02:00:00:00:00:01"
		},
		MTU: 1500,
		Objects: attachtest.Objects(func() cluster.Snapshot {
			if s := n.api.Load(); s != nil {
				return *s
			}
			return cluster.Snapshot{}
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "cni.sock")
	l, err := attach.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, l) }()
	if n.Client, err = cni.NewClient(socket); err != nil {
		t.Fatal(err)
	}
	stopped := false
	n.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := errors.Join(<-served, n.Client.Close(), journal.Close()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(n.stop)
	return n
}

func addRequest(container string) *cnipb.AddRequest {
	return &cnipb.AddRequest{
		Id: &cnipb.AttachmentID{ContainerId: container, IfName: "eth0"}, Network: "pods", Netns: "/run/netns/" + container,
		Pod: &cnipb.Pod{Namespace: "default", Name: "web-" + container, Uid: "u-" + container},
	}
}

func delRequest(container string) *cnipb.DelRequest {
	return &cnipb.DelRequest{Id: &cnipb.AttachmentID{ContainerId: container, IfName: "eth0"}, Network: "pods", Netns: "/run/netns/" + container}
}

// add makes the container's namespace and wires it.
func (n *node) add(t *testing.T, container string) []string {
	t.Helper()
	n.pods.Make("/run/netns/" + container)
	reply, err := n.Add(t.Context(), addRequest(container))
	if err != nil {
		t.Fatalf("add %s: %v", container, err)
	}
	return addressesOf(reply)
}

func addressesOf(reply *cnipb.AddReply) (all []string) {
	for _, ip := range reply.Ips {
		all = append(all, ip.Address)
	}
	return all
}

func (n *node) facts() []string {
	_, facts := n.journal.Facts()
	var ids []string
	for _, a := range facts {
		ids = append(ids, a.ID.String())
	}
	return ids
}

// wantCode fails unless err is a CNI error of that code that holds every one of the words.
func wantCode(t *testing.T, err error, code uint, words ...string) {
	t.Helper()
	var e *types.Error
	if !errors.As(cni.FromStatus(err, types.ErrTryAgainLater), &e) {
		t.Errorf("got %v, want CNI error %d", err, code)
		return
	}
	if e.Code != code {
		t.Errorf("got code %d (%v), want %d", e.Code, e, code)
	}
	for _, w := range words {
		if !strings.Contains(e.Error(), w) {
			t.Errorf("error %q does not name %q", e, w)
		}
	}
}
