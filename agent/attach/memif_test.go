package attach_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/cni"
	"github.com/millrace/millrace/cni/cnipb"
	"github.com/millrace/millrace/internal/secret"
)

const password = "open sesame"

// know puts the pod of a container into the facts, with an annotation, and a Secret.
func (n *node) know(container, annotation string) {
	key := cluster.PodKey{Namespace: "default", Name: "web-" + container}
	keys := cluster.SecretKey{Namespace: "default", Name: "keys"}
	n.api.Store(&cluster.Snapshot{
		Pods: map[cluster.PodKey]cluster.Pod{key: {
			Key: key, UID: "u-" + container, Annotations: map[string]string{"millrace.io/memif": annotation},
		}},
		Secrets: map[cluster.SecretKey]cluster.Secret{keys: {Key: keys, Data: map[string]secret.Text{
			"psk": secret.New(password, secret.Salt{}), "long": secret.New(strings.Repeat("x", 24), secret.Salt{}),
			"line": secret.New("open\n", secret.Salt{}), "empty": {},
		}}},
	})
}

func memifRequest(container, ifName string) *cnipb.AddRequest {
	r := addRequest(container)
	r.Id.IfName = ifName
	r.Memif = &cnipb.Memif{Name: ifName, Mode: "ethernet", RxQueues: 1, TxQueues: 1, RingSize: 1024, BufferSize: 2048}
	return r
}

func TestAddAnnotatedMemifs(t *testing.T) {
	n := start(t, "10.1.0.0/24", "fd00:1::/64")
	n.pods.Make("/run/netns/c1")
	n.know("c1", `[{"name": "memif0", "rxQueues": 2, "secret": "keys/psk"}, {"name": "raw", "mode": "ip"}]`)
	got, err := n.Add(t.Context(), addRequest("c1"))
	if err != nil {
		t.Fatal(err)
	}
	want := &cnipb.AddReply{
		Interfaces: []*cnipb.Interface{
			{Name: "pod-c1", Mtu: 1500}, {Name: "eth0", Mtu: 1500, Sandbox: "/run/netns/c1"},
			{Name: "pod-c1-memif0", Mac: "02:00:00:00:00:01", Mtu: 1500},
			{Name: "memif0", Mtu: 1500, Sandbox: "/run/netns/c1", SocketPath: "@millrace/memif0"},
			{Name: "pod-c1-raw", Mac: "02:00:00:00:00:01", Mtu: 1500},
			{Name: "raw", Mtu: 1500, Sandbox: "/run/netns/c1", SocketPath: "@millrace/raw"},
		},
		Ips: []*cnipb.IP{
			{Address: "10.1.0.2/32", Gateway: "169.254.1.1", Interface: 1}, {Address: "fd00:1::2/128", Gateway: "fe80::1", Interface: 1},
			{Address: "10.1.0.3/32", Gateway: "10.1.0.1", Interface: 3}, {Address: "fd00:1::3/128", Gateway: "fd00:1::1", Interface: 3},
			{Address: "10.1.0.4/32", Interface: 5}, {Address: "fd00:1::4/128", Interface: 5},
		},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform(), protocmp.IgnoreFields(&cnipb.AddReply{}, "routes")); diff != "" {
		t.Error(diff)
	}
	// The secret is in the fact and in the journal, but in no text of either.
	_, facts := n.journal.Facts()
	text, _, ok := facts[0].Memifs[0].Password.Reveal()
	if text != password || !ok || strings.Contains(facts[0].String(), password) {
		t.Errorf("the secret is %q in %s", text, facts[0])
	}
	// What ADD gave stays, over a restart and whatever becomes of the facts.
	before := facts[0].String()
	n = n.restart(t, "10.1.0.0/24", "fd00:1::/64")
	n.know("c1", `[{"name": "other"}]`)
	again, err := n.Add(t.Context(), addRequest("c1"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, again, protocmp.Transform()); diff != "" {
		t.Errorf("a repeated ADD answers otherwise: %s", diff)
	}
	_, facts = n.journal.Facts()
	if text, _, _ := facts[0].Memifs[0].Password.Reveal(); facts[0].String() != before || text != password {
		t.Errorf("the fact became\n%s, and was\n%s", facts[0], before)
	}
	// With the DEL all is free: the pod's addresses and its memifs'.
	if _, err := n.Del(t.Context(), delRequest("c1")); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(filepath.Join(n.dir, "attachments"))
	if err != nil || len(files) != 0 {
		t.Errorf("DEL left %v, %v", files, err)
	}
}

func TestAnnotationIsOfTheFirstInterface(t *testing.T) {
	n := start(t, "10.1.0.0/24")
	n.pods.Make("/run/netns/c1")
	n.know("c1", `[{"name": "memif0"}]`)
	for _, ifName := range []string{"eth0", "net1"} {
		request := addRequest("c1")
		request.Id.IfName = ifName
		if _, err := n.Add(t.Context(), request); err != nil {
			t.Fatal(err)
		}
	}
	_, facts := n.journal.Facts()
	if len(facts) != 2 || len(facts[0].Memifs) != 1 || len(facts[1].Memifs) != 0 {
		t.Errorf("facts %v, want the memif at the first alone", facts)
	}
	// Another pod of that name, and one that nobody knows, have no annotation.
	n.pods.Make("/run/netns/c2")
	n.know("c2", `[{"name": "memif0"}]`)
	other := addRequest("c2")
	other.Pod.Uid = "another"
	n.pods.Make("/run/netns/c3")
	for _, request := range []*cnipb.AddRequest{other, addRequest("c3")} {
		reply, err := n.Add(t.Context(), request)
		if err != nil || len(reply.Interfaces) != 2 {
			t.Errorf("%v, %v, want no memif", reply, err)
		}
	}
	// Without a UID on one side the name decides.
	n.pods.Make("/run/netns/c4")
	n.know("c4", `[{"name": "memif0"}]`)
	nameless := addRequest("c4")
	nameless.Pod.Uid = ""
	if reply, err := n.Add(t.Context(), nameless); err != nil || len(reply.Interfaces) != 4 {
		t.Errorf("%v, %v, want a memif", reply, err)
	}
}

func TestAddMemifErrors(t *testing.T) {
	n := start(t, "10.1.0.0/28")
	n.pods.Make("/run/netns/c1")
	tests := []struct {
		annotation string
		code       uint
		words      []string
	}{
		{`{`, cni.CodeAnnotation, []string{"default/web-c1", "millrace.io/memif: want a list"}},
		{`[{"name": "a", "ringSize": 1000}]`, cni.CodeAnnotation, []string{"millrace.io/memif[0].ringSize: 1000", "power of two"}},
		{`[{"name": "a"}, {"name": "eth0"}]`, cni.CodeAnnotation, []string{"millrace.io/memif[1].name", "already an interface"}},
		{`[{"name": "a", "secret": "gone/psk"}]`, cni.CodeSecret, []string{"memif a of c1/eth0", "no Secret default/gone"}},
		{`[{"name": "a", "secret": "keys/gone"}]`, cni.CodeSecret, []string{"no key gone in Secret default/keys", "[empty line long psk]"}},
		{`[{"name": "a", "secret": "keys/empty"}]`, cni.CodeSecret, []string{"is empty"}},
		{`[{"name": "a", "secret": "keys/long"}]`, cni.CodeSecret, []string{"holds 24 bytes", "takes 23"}},
		{`[{"name": "a", "secret": "keys/line"}]`, cni.CodeSecret, []string{"a line break"}},
	}
	for _, tt := range tests {
		n.know("c1", tt.annotation)
		_, err := n.Add(t.Context(), addRequest("c1"))
		wantCode(t, err, tt.code, tt.words...)
		if left := n.facts(); len(left) > 0 {
			t.Errorf("%s left %v", tt.annotation, left)
		}
	}
	// A range that holds the pod and not all of its memifs gives nothing.
	list := `{"name": "m0"}`
	for i := range 13 {
		list += `, {"name": "n` + string(rune('a'+i)) + `"}`
	}
	n.know("c1", "["+list+"]")
	_, err := n.Add(t.Context(), addRequest("c1"))
	wantCode(t, err, cni.CodeExhausted, "10.1.0.0/28")
	// One whose socket nobody listens on is taken back.
	n.know("c1", `[{"name": "m0"}, {"name": "deaf"}]`)
	n.pods.Deafen("millrace/deaf")
	_, err = n.Add(t.Context(), addRequest("c1"))
	wantCode(t, err, cni.CodeNotApplied, "nobody listens on @millrace/deaf")
	if left := n.facts(); len(left) > 0 {
		t.Errorf("failed ADDs left %v", left)
	}
	n.know("c1", `[{"name": "m0"}]`)
	if _, err := n.Add(t.Context(), addRequest("c1")); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

func TestAddMemifAsAttachment(t *testing.T) {
	n := start(t, "10.1.0.0/24")
	n.add(t, "c1")
	request := memifRequest("c1", "net1")
	request.Memif.Name, request.Memif.RxQueues, request.Mtu = "fast", 4, 9000
	got, err := n.Add(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	want := &cnipb.AddReply{
		Interfaces: []*cnipb.Interface{
			{Name: "pod-c1-fast", Mac: "02:00:00:00:00:01", Mtu: 9000},
			{Name: "net1", Mtu: 9000, Sandbox: "/run/netns/c1", SocketPath: "@millrace/fast"},
		},
		Ips: []*cnipb.IP{{Address: "10.1.0.3/32", Gateway: "10.1.0.1", Interface: 1}},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	_, facts := n.journal.Facts()
	wantFact := "attachment c1/net1 pod=default/web-c1 uid=u-c1 netns=/run/netns/c1 network=pods device=memif " +
		`memif="fast mode=ethernet rx-queues=4 tx-queues=1 ring=1024 buffer=2048 address=10.1.0.3" mtu=9000 revision=2`
	if len(facts) != 2 || facts[1].String() != wantFact {
		t.Errorf("facts %v, want %s", facts, wantFact)
	}
	check := &cnipb.CheckRequest{Id: request.Id, Network: "pods", Netns: request.Netns, Addresses: []string{"10.1.0.3"}}
	if _, err := n.Check(t.Context(), check); err != nil {
		t.Error(err)
	}
	check.Addresses = []string{"10.1.0.2"}
	_, err = n.Check(t.Context(), check)
	wantCode(t, err, cni.CodeDiffers, "net1", "10.1.0.2")

	withSecret := memifRequest("c1", "net2")
	withSecret.Memif.Secret = "keys/psk"
	_, err = n.Add(t.Context(), withSecret)
	wantCode(t, err, cni.CodeSecret, "no Secret default/keys")
	withSecret.Pod = nil
	_, err = n.Add(t.Context(), withSecret)
	wantCode(t, err, cni.CodeSecret, "names no pod")
}

func TestAddBadMemifRequests(t *testing.T) {
	n := start(t, "10.1.0.0/24")
	n.pods.Make("/run/netns/c1")
	for want, spoil := range map[string]func(*cnipb.Memif){
		"memif.name":       func(m *cnipb.Memif) { m.Name = "a,netns_name=/x" },
		"memif.mode":       func(m *cnipb.Memif) { m.Mode = "punt" },
		"memif.rxQueues":   func(m *cnipb.Memif) { m.RxQueues = 256 },
		"memif.txQueues":   func(m *cnipb.Memif) { m.TxQueues = 0 },
		"memif.ringSize":   func(m *cnipb.Memif) { m.RingSize = 3 },
		"memif.bufferSize": func(m *cnipb.Memif) { m.BufferSize = 65536 },
		"memif.secret":     func(m *cnipb.Memif) { m.Secret = "x" },
	} {
		request := memifRequest("c1", "net1")
		spoil(request.Memif)
		_, err := n.Add(t.Context(), request)
		wantCode(t, err, types.ErrInvalidNetworkConfig, want)
	}
}

func TestCheckMemifs(t *testing.T) {
	n := start(t, "10.1.0.0/24")
	n.pods.Make("/run/netns/c1")
	n.know("c1", `[{"name": "memif0"}]`)
	if _, err := n.Add(t.Context(), addRequest("c1")); err != nil {
		t.Fatal(err)
	}
	check := func(memif ...string) error {
		_, err := n.Check(t.Context(), &cnipb.CheckRequest{
			Id: addRequest("c1").Id, Network: "pods", Netns: "/run/netns/c1", Addresses: []string{"10.1.0.2"},
			Others: []*cnipb.Seen{{Name: "memif0", Addresses: memif}, {Name: "of another plugin", Addresses: []string{"10.9.9.9"}}},
		})
		return cni.FromStatus(err, 0)
	}
	if err := check("10.1.0.3"); err != nil {
		t.Error(err)
	}
	wantCode(t, check("10.1.0.4"), cni.CodeDiffers, "prevResult gives memif0 the address 10.1.0.4")
	n.pods.Deafen("millrace/memif0")
	wantCode(t, check("10.1.0.3"), cni.CodeDiffers, "nobody listens on @millrace/memif0")
	_, err := n.Check(t.Context(), &cnipb.CheckRequest{
		Id: addRequest("c1").Id, Network: "pods", Netns: "/run/netns/c1", Addresses: []string{"10.1.0.2"},
	})
	wantCode(t, err, cni.CodeDiffers, "lacks its memif memif0")
}

// TestFailedAddHoldsMemifAddresses: what a failed ADD took is given again only when its
// removal is applied.
func TestFailedAddHoldsMemifAddresses(t *testing.T) {
	n := start(t, "10.1.0.0/24")
	n.pods.Make("/run/netns/c1")
	n.know("c1", `[{"name": "memif0"}]`)
	n.loop.Refuse(errors.New("no memif here"))
	_, err := n.Add(t.Context(), addRequest("c1"))
	wantCode(t, err, cni.CodeNotApplied, "no memif here")
	n.pods.Make("/run/netns/c2")
	n.loop.Refuse(nil)
	n.loop.Hold()
	done := make(chan []string)
	go func() {
		reply, err := n.Add(t.Context(), addRequest("c2"))
		if err != nil {
			t.Error(err)
		}
		done <- addressesOf(reply)
	}()
	if err := n.loop.AwaitWaiters(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	n.loop.Release()
	if diff := cmp.Diff([]string{"10.1.0.4/32"}, <-done); diff != "" {
		t.Errorf("an address that may still be routed was given: %s", diff)
	}
}
