package attach_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/millrace/millrace/agent/attach"
	"github.com/millrace/millrace/agent/attach/attachtest"
	"github.com/millrace/millrace/cni"
	"github.com/millrace/millrace/cni/cnipb"
)

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
