package attach_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/millrace/millrace/agent/attach"
	"github.com/millrace/millrace/cni"
	"github.com/millrace/millrace/cni/cnipb"
)

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
		{"own netns", func(r *cnipb.AddRequest) { r.Netns = "/proc/thread-self/ns/net" }, types.ErrInvalidNetNS, "node's own"},
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
