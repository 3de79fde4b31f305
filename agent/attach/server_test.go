package attach_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/testing/protocmp"

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

func TestAddReply(t *testing.T) {
	n := start(t, "10.1.0.0/24", "fd00:1::/64")
	n.pods.Make("/run/netns/c1")
	request := addRequest("c1")
	request.Mtu = 9000
	got, err := n.Add(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	want := &cnipb.AddReply{
		Interfaces: []*cnipb.Interface{{Name: "pod-c1", Mtu: 9000}, {Name: "eth0", Mtu: 9000, Sandbox: "/run/netns/c1"}},
		Ips: []*cnipb.IP{
			{Address: "10.1.0.2/32", Gateway: "169.254.1.1", Interface: 1},
			{Address: "fd00:1::2/128", Gateway: "fe80::1", Interface: 1},
		},
		Routes: []*cnipb.Route{
			{Destination: "169.254.1.1/32"}, {Destination: "0.0.0.0/0", Gateway: "169.254.1.1"},
			{Destination: "fe80::1/128"}, {Destination: "::/0", Gateway: "fe80::1"},
		},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	revision, facts := n.journal.Facts()
	wantFact := "attachment c1/eth0 pod=default/web-c1 uid=u-c1 netns=/run/netns/c1 network=pods address=10.1.0.2 address=fd00:1::2 mtu=9000 revision=1"
	if revision != 1 || len(facts) != 1 || facts[0].String() != wantFact {
		t.Errorf("facts at %d: %v, want %s", revision, facts, wantFact)
	}
	if _, err := n.Del(t.Context(), delRequest("c1")); err != nil {
		t.Fatal(err)
	}
	if left := n.facts(); len(left) > 0 {
		t.Errorf("DEL left %v", left)
	}
}

func TestAddRepeated(t *testing.T) {
	n := start(t, "10.1.0.0/24")
	first := n.add(t, "c1")
	again, err := n.Add(t.Context(), addRequest("c1"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, addressesOf(again)); diff != "" {
		t.Errorf("a repeated ADD gave other addresses: %s", diff)
	}
	n = n.restart(t, "10.1.0.0/24")
	again, err = n.Add(t.Context(), addRequest("c1"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, addressesOf(again)); diff != "" {
		t.Errorf("after a restart a repeated ADD gave other addresses: %s", diff)
	}
	// While the loop is away, a repeated ADD fails but must not take the working one down.
	n.loop.Refuse(errors.New("no API socket"))
	n = n.restart(t, "10.1.0.0/24")
	n.loop.Refuse(errors.New("no API socket"))
	_, err = n.Add(t.Context(), addRequest("c1"))
	wantCode(t, err, cni.CodeNotApplied, "c1/eth0", "no API socket")
	if diff := cmp.Diff([]string{"c1/eth0"}, n.facts()); diff != "" {
		t.Error(diff)
	}
}

func TestAddConflict(t *testing.T) {
	n := start(t, "10.1.0.0/24")
	n.add(t, "c1")
	n.pods.Make("/run/netns/other")

	elsewhere := addRequest("c1")
	elsewhere.Netns = "/run/netns/other"
	_, err := n.Add(t.Context(), elsewhere)
	wantCode(t, err, cni.CodeConflict, "c1/eth0", "/run/netns/other", "/run/netns/c1")

	network := addRequest("c1")
	network.Network = "storage"
	_, err = n.Add(t.Context(), network)
	wantCode(t, err, cni.CodeConflict, "c1/eth0", "storage", "pods")

	// The runtime answers a failed ADD with a DEL; that must not hit the first one.
	del := delRequest("c1")
	del.Network = "storage"
	if _, err := n.Del(t.Context(), del); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"c1/eth0"}, n.facts()); diff != "" {
		t.Error(diff)
	}

	// Once the old namespace is gone, the new ADD takes its place.
	n.pods.Remove("/run/netns/c1")
	if _, err := n.Add(t.Context(), elsewhere); err != nil {
		t.Fatal(err)
	}
	_, facts := n.journal.Facts()
	if len(facts) != 1 || facts[0].Netns != "/run/netns/other" {
		t.Errorf("facts %v, want one in /run/netns/other", facts)
	}
}

func TestAddWhereANamespaceWasReplaced(t *testing.T) {
	n := start(t, "10.1.0.0/24")
	first := n.add(t, "c1")
	second := n.add(t, "c1") // add makes another namespace at the same path
	if cmp.Equal(first, second) {
		t.Errorf("both namespaces got %v: the interface of the gone one was not removed first", first)
	}
	if revision, _ := n.journal.Facts(); revision != 3 {
		t.Errorf("revision %d, want 3: put, remove, put", revision)
	}
}

func TestAddBadRequests(t *testing.T) {
	n := start(t, "10.1.0.0/24")
	n.pods.Make("/run/netns/c1")
	long := strings.Repeat("x", 600)
	tests := []struct {
		name  string
		spoil func(*cnipb.AddRequest)
		code  uint
		word  string
	}{
		{"no id", func(r *cnipb.AddRequest) { r.Id = nil }, types.ErrUnknownContainer, "containerID"},
		{"slash in id", func(r *cnipb.AddRequest) { r.Id.ContainerId = "../../etc" }, types.ErrInvalidEnvironmentVariables, "containerID"},
		{"long id", func(r *cnipb.AddRequest) { r.Id.ContainerId = long }, types.ErrInvalidEnvironmentVariables, "CNI_CONTAINERID"},
		{"no interface", func(r *cnipb.AddRequest) { r.Id.IfName = "" }, types.ErrInvalidEnvironmentVariables, "interface"},
		{"zero byte in interface", func(r *cnipb.AddRequest) { r.Id.IfName = "a\x00b" }, types.ErrInvalidEnvironmentVariables, "CNI_IFNAME"},
		{"no network", func(r *cnipb.AddRequest) { r.Network = "" }, types.ErrInvalidNetworkConfig, "network name"},
		{"relative netns", func(r *cnipb.AddRequest) { r.Netns = "c1" }, types.ErrInvalidNetNS, `"c1"`},
		{"long netns", func(r *cnipb.AddRequest) { r.Netns = "/run/" + long }, types.ErrInvalidNetNS, "at most 63"},
		{"missing netns", func(r *cnipb.AddRequest) { r.Netns = "/run/netns/none" }, types.ErrInvalidNetNS, "/run/netns/none"},
		{"own netns", func(r *cnipb.AddRequest) { r.Netns = "/proc/self/ns/net" }, types.ErrInvalidNetNS, "node's own"},
		{"small mtu", func(r *cnipb.AddRequest) { r.Mtu = 100 }, types.ErrInvalidNetworkConfig, "mtu: 100"},
		{"half a pod", func(r *cnipb.AddRequest) { r.Pod = &cnipb.Pod{Name: "web"} }, types.ErrInvalidEnvironmentVariables, "K8S_POD_NAMESPACE"},
		{"slash in pod", func(r *cnipb.AddRequest) { r.Pod.Name = "a/b" }, types.ErrInvalidEnvironmentVariables, "K8S_POD_NAME"},
		{"newline in uid", func(r *cnipb.AddRequest) { r.Pod.Uid = "a\nb" }, types.ErrInvalidEnvironmentVariables, "K8S_POD_UID"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			request := addRequest("c1")
			tt.spoil(request)
			_, err := n.Add(t.Context(), request)
			wantCode(t, err, tt.code, tt.word)
		})
	}
	if revision, facts := n.journal.Facts(); revision != 0 || len(facts) != 0 {
		t.Errorf("bad requests left facts %v at revision %d", facts, revision)
	}
}

func TestAddFails(t *testing.T) {
	t.Run("the loop refuses", func(t *testing.T) {
		n := start(t, "10.1.0.0/24")
		n.add(t, "c0")
		n.loop.Refuse(errors.New("create tap: no /dev/net/tun"))
		n.pods.Make("/run/netns/c1")
		_, err := n.Add(t.Context(), addRequest("c1"))
		wantCode(t, err, cni.CodeNotApplied, "c1/eth0", "no /dev/net/tun")
		if diff := cmp.Diff([]string{"c0/eth0"}, n.facts()); diff != "" {
			t.Error(diff)
		}
		n.loop.Refuse(nil)
		if got := n.add(t, "c1"); len(got) != 1 {
			t.Errorf("the retried ADD gave %v", got)
		}
	})
	t.Run("the caller gives up", func(t *testing.T) {
		n := start(t, "10.1.0.0/30") // room for one
		n.loop.Hold()
		n.pods.Make("/run/netns/c1")
		ctx, cancel := context.WithCancel(t.Context())
		answer := make(chan error, 1)
		// The start itself is held first, then the ADD's own revision.
		n.loop.Release()
		if _, err := n.Status(t.Context(), &cnipb.StatusRequest{}); err != nil {
			t.Fatal(err)
		}
		n.loop.Hold()
		go func() { _, err := n.Add(ctx, addRequest("c1")); answer <- err }()
		if err := n.loop.AwaitWaiters(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		cancel()
		wantCode(t, <-answer, types.ErrTryAgainLater)
		// The client is gone before the server has taken the fact back: a verb on the same
		// container waits its turn.
		n.loop.Release()
		if _, err := n.Del(t.Context(), delRequest("c1")); err != nil {
			t.Fatal(err)
		}
		if left := n.facts(); len(left) > 0 {
			t.Errorf("a given-up ADD left %v", left)
		}
		n.add(t, "c2") // the only address is free again
	})
	t.Run("the pod side is not as applied", func(t *testing.T) {
		n := start(t, "10.1.0.0/24")
		n.pods.Spoil(func(l *attach.Link) { l.Addresses = nil })
		n.pods.Make("/run/netns/c1")
		_, err := n.Add(t.Context(), addRequest("c1"))
		wantCode(t, err, cni.CodeNotApplied, "eth0", "10.1.0.2")
		if left := n.facts(); len(left) > 0 {
			t.Errorf("a failed ADD left %v", left)
		}
	})
	t.Run("no ranges", func(t *testing.T) {
		n := start(t)
		n.pods.Make("/run/netns/c1")
		_, err := n.Add(t.Context(), addRequest("c1"))
		wantCode(t, err, types.ErrTryAgainLater, "pod ranges", "podCIDRs")
	})
}

func TestExhaustedRange(t *testing.T) {
	n := start(t, "10.1.0.0/29", "fd00::/64")
	for i := range 5 {
		n.add(t, fmt.Sprintf("c%d", i))
	}
	n.pods.Make("/run/netns/c9")
	_, err := n.Add(t.Context(), addRequest("c9"))
	wantCode(t, err, cni.CodeExhausted, "10.1.0.0/29 (5 of 5 in use)")
	if _, err := n.Status(t.Context(), &cnipb.StatusRequest{}); err != nil {
		t.Errorf("STATUS of a full node: %v; its pods are well", err)
	}
	// An address whose removal is not applied yet is not free, but soon will be.
	n.loop.Refuse(errors.New("busy"))
	_, err = n.Del(t.Context(), delRequest("c0"))
	wantCode(t, err, types.ErrTryAgainLater, "c0/eth0", "busy")
	_, err = n.Add(t.Context(), addRequest("c9"))
	wantCode(t, err, types.ErrTryAgainLater, "10.1.0.0/29 (5 of 5 in use)", "1 will be free")
	n.loop.Refuse(nil)
	if _, err := n.Del(t.Context(), delRequest("c0")); err != nil {
		t.Fatal(err)
	}
	if got := n.add(t, "c9"); got[0] != "10.1.0.2/32" {
		t.Errorf("got %v, want the freed 10.1.0.2", got)
	}
}

// TestAddressesOfRemovals: they are free when the loop says so, and only then, whether or
// not anybody waits for it.
func TestAddressesOfRemovals(t *testing.T) {
	n := start(t, "10.1.0.0/30") // room for one
	n.pods.Make("/run/netns/c1")
	n.loop.Refuse(errors.New("busy"))
	_, err := n.Add(t.Context(), addRequest("c1"))
	wantCode(t, err, cni.CodeNotApplied, "busy")
	n.loop.Refuse(nil)
	n.add(t, "c2") // no DEL of c1 came

	n = start(t, "10.1.0.0/29") // room for five
	n.add(t, "c1")
	n.loop.Stick(2, errors.New("delete tap: busy"))
	_, err = n.Del(t.Context(), delRequest("c1"))
	wantCode(t, err, types.ErrTryAgainLater, "delete tap: busy")
	for i := range 4 {
		n.add(t, fmt.Sprintf("d%d", i)) // applied, which says nothing of the removal
	}
	n.pods.Make("/run/netns/d4")
	_, err = n.Add(t.Context(), addRequest("d4"))
	wantCode(t, err, types.ErrTryAgainLater, "5 of 5 in use", "1 will be free")
	n.loop.Stick(2, nil)
	if got := n.add(t, "d4"); got[0] != "10.1.0.2/32" {
		t.Errorf("got %v, want the address that became free", got)
	}
}

// TestRestartWithADeadContainer: what cannot be applied any more must not stop the others.
func TestRestartWithADeadContainer(t *testing.T) {
	n := start(t, "10.1.0.0/24")
	n.add(t, "c1")
	n.pods.Remove("/run/netns/c1")
	n.stop()
	loop := &attachtest.Loop{}
	loop.Stick(1, errors.New("no such namespace"))
	n = startIn(t, n.dir, loop, n.pods, "10.1.0.0/24")
	n.add(t, "c2")
	if _, err := n.Del(t.Context(), delRequest("c1")); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"c2/eth0"}, n.facts()); diff != "" {
		t.Error(diff)
	}
}

func TestDelIsIdempotent(t *testing.T) {
	n := start(t, "10.1.0.0/24")
	n.add(t, "c1")
	n.pods.Remove("/run/netns/c1")
	for _, netns := range []string{"/run/netns/c1", "", ""} {
		request := delRequest("c1")
		request.Netns = netns
		if _, err := n.Del(t.Context(), request); err != nil {
			t.Fatalf("DEL with netns %q: %v", netns, err)
		}
	}
	if _, err := n.Del(t.Context(), delRequest("never")); err != nil {
		t.Errorf("DEL of what never was: %v", err)
	}
	// A renamed network must not keep the containers of the old name for ever.
	n.add(t, "c2")
	n.pods.Remove("/run/netns/c2")
	renamed := delRequest("c2")
	renamed.Network = "pods-v2"
	if _, err := n.Del(t.Context(), renamed); err != nil {
		t.Fatal(err)
	}
	if left := n.facts(); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestCheck(t *testing.T) {
	n := start(t, "10.1.0.0/24")
	n.add(t, "c1")
	request := func(address string) *cnipb.CheckRequest {
		return &cnipb.CheckRequest{Id: addRequest("c1").Id, Network: "pods", Netns: "/run/netns/c1", Addresses: []string{address},
			Routes: []*cnipb.Route{{Destination: "0.0.0.0/0", Gateway: "169.254.1.1"}}}
	}
	if _, err := n.Check(t.Context(), request("10.1.0.2")); err != nil {
		t.Fatal(err)
	}
	_, err := n.Check(t.Context(), request("10.1.0.77"))
	wantCode(t, err, cni.CodeDiffers, "10.1.0.77", "10.1.0.2")
	_, err = n.Check(t.Context(), request("elephant"))
	wantCode(t, err, types.ErrDecodingFailure, "elephant")

	noRoute := request("10.1.0.2")
	noRoute.Routes[0].Destination = "everywhere"
	_, err = n.Check(t.Context(), noRoute)
	wantCode(t, err, types.ErrDecodingFailure, "everywhere")

	unknown := request("10.1.0.2")
	unknown.Id = addRequest("c7").Id
	_, err = n.Check(t.Context(), unknown)
	wantCode(t, err, types.ErrUnknownContainer, "c7/eth0")
	elsewhere := request("10.1.0.2")
	elsewhere.Netns = "/run/netns/c2"
	_, err = n.Check(t.Context(), elsewhere)
	wantCode(t, err, cni.CodeDiffers, "/run/netns/c1", "/run/netns/c2")

	for word, spoil := range map[string]func(*attach.Link){
		"down":                func(l *attach.Link) { l.Up = false },
		"10.1.0.2 is not on":  func(l *attach.Link) { l.Addresses = nil },
		"route 0.0.0.0/0 via": func(l *attach.Link) { l.Routes = nil },
	} {
		n.pods.Spoil(spoil)
		_, err := n.Check(t.Context(), request("10.1.0.2"))
		wantCode(t, err, cni.CodeDiffers, word)
	}
	n.pods.Spoil(nil)
	n.loop.Away(errors.New("API socket closed"))
	_, err = n.Check(t.Context(), request("10.1.0.2"))
	wantCode(t, err, types.ErrTryAgainLater, "API socket closed")
	n.loop.Away(nil)
	n.pods.Remove("/run/netns/c1")
	_, err = n.Check(t.Context(), request("10.1.0.2"))
	wantCode(t, err, cni.CodeDiffers, "gone")
}

func TestStatus(t *testing.T) {
	n := start(t, "10.1.0.0/24")
	n.loop.Away(errors.New("no API socket yet"))
	_, err := n.Status(t.Context(), &cnipb.StatusRequest{Network: "pods"})
	wantCode(t, err, types.ErrPluginNotAvailable, "no API socket yet")
	n.loop.Away(nil)
	if _, err := n.Status(t.Context(), &cnipb.StatusRequest{Network: "pods"}); err != nil {
		t.Fatal(err)
	}
	n.loop.Away(errors.New("connection lost"))
	_, err = n.Status(t.Context(), &cnipb.StatusRequest{Network: "pods"})
	wantCode(t, err, types.ErrLimitedConnectivity, "connection lost")
}

func TestGC(t *testing.T) {
	n := start(t, "10.1.0.0/24")
	for _, c := range []string{"c1", "c2", "c3", "c4"} {
		n.add(t, c)
	}
	n.pods.Make("/run/netns/s1")
	storage := addRequest("s1")
	storage.Network = "storage"
	if _, err := n.Add(t.Context(), storage); err != nil {
		t.Fatal(err)
	}
	reply, err := n.GC(t.Context(), &cnipb.GCRequest{Network: "pods", Valid: []*cnipb.AttachmentID{addRequest("c2").Id, addRequest("c4").Id}})
	if err != nil {
		t.Fatal(err)
	}
	want := []*cnipb.AttachmentID{addRequest("c1").Id, addRequest("c3").Id}
	if diff := cmp.Diff(want, reply.Deleted, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"c2/eth0", "c4/eth0", "s1/eth0"}, n.facts()); diff != "" {
		t.Error(diff)
	}
	n.loop.Refuse(errors.New("busy"))
	_, err = n.GC(t.Context(), &cnipb.GCRequest{Network: "pods"})
	wantCode(t, err, types.ErrTryAgainLater, "c2/eth0", "c4/eth0", "busy")
	_, err = n.GC(t.Context(), &cnipb.GCRequest{Network: "pods", Valid: []*cnipb.AttachmentID{{ContainerId: "/"}}})
	wantCode(t, err, types.ErrInvalidEnvironmentVariables)
}

// TestGCLeavesVerbsAtWorkAlone: a runtime's list may be older than an ADD in flight.
func TestGCLeavesVerbsAtWorkAlone(t *testing.T) {
	n := start(t, "10.1.0.0/24")
	n.add(t, "c0")
	n.loop.Hold()
	n.pods.Make("/run/netns/c1")
	answer := make(chan error, 1)
	go func() { _, err := n.Add(context.WithoutCancel(t.Context()), addRequest("c1")); answer <- err }()
	if err := n.loop.AwaitWaiters(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	reply, err := n.GC(t.Context(), &cnipb.GCRequest{Network: "pods", Valid: []*cnipb.AttachmentID{addRequest("c0").Id}})
	if err != nil || len(reply.Deleted) > 0 {
		t.Errorf("GC deleted %v, %v", reply.GetDeleted(), err)
	}
	n.loop.Release()
	if err := <-answer; err != nil {
		t.Error(err)
	}
}

func TestAddsSideBySide(t *testing.T) {
	n := start(t, "10.1.0.0/24", "fd00::/112")
	const pods = 50
	got := make([]*cnipb.AddReply, pods)
	errs := make(chan error, pods)
	for i := range pods {
		container := fmt.Sprintf("c%d", i)
		n.pods.Make("/run/netns/" + container)
		go func() {
			var err error
			got[i], err = n.Add(t.Context(), addRequest(container))
			errs <- err
		}()
	}
	for range pods {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	owner := map[string]int{}
	for i, reply := range got {
		for _, a := range addressesOf(reply) {
			if other, taken := owner[a]; taken {
				t.Errorf("pods %d and %d both got %s", other, i, a)
			}
			owner[a] = i
		}
	}
	if len(owner) != 2*pods {
		t.Errorf("%d addresses for %d pods of two families", len(owner), pods)
	}
	families, err := n.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "millrace_cni_request_seconds" {
			continue
		}
		if len(f.Metric) != 1 || f.Metric[0].GetHistogram().GetSampleCount() != pods {
			t.Errorf("latency series %v, want one of %d successful ADDs", f.Metric, pods)
		}
		return
	}
	t.Error("no latency is measured")
}

func TestVerbsTakeTurns(t *testing.T) {
	n := start(t, "10.1.0.0/24")
	n.add(t, "c0")
	n.loop.Hold()
	n.pods.Make("/run/netns/c1")
	added, deleted := make(chan error, 1), make(chan error, 1)
	ctx := context.WithoutCancel(t.Context())
	go func() { _, err := n.Add(ctx, addRequest("c1")); added <- err }()
	if err := n.loop.AwaitWaiters(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	go func() { _, err := n.Del(ctx, delRequest("c1")); deleted <- err }()
	impatient, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := n.Del(impatient, delRequest("c1")); err == nil {
		t.Error("a DEL that nobody waits for succeeded while an ADD was at work")
	}
	n.loop.Release()
	if err := errors.Join(<-added, <-deleted); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"c0/eth0"}, n.facts()); diff != "" {
		t.Error(diff)
	}
}

// BenchmarkAddDel is what the agent's side of one ADD and one DEL costs without the
// dataplane: socket, journal with its syncs, allocation on a node of 100 pods.
func BenchmarkAddDel(b *testing.B) {
	n := start(b, "10.1.0.0/24", "fd00:1::/64")
	for i := range 100 {
		container := fmt.Sprintf("c%d", i)
		n.pods.Make("/run/netns/" + container)
		if _, err := n.Add(b.Context(), addRequest(container)); err != nil {
			b.Fatal(err)
		}
	}
	n.pods.Make("/run/netns/x")
	for b.Loop() {
		if _, err := n.Add(b.Context(), addRequest("x")); err != nil {
			b.Fatal(err)
		}
		if _, err := n.Del(b.Context(), delRequest("x")); err != nil {
			b.Fatal(err)
		}
	}
}
