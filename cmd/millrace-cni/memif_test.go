package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/cni"
)

// TestMemifsInEveryVersion is the life of a pod with an annotation, as libcni leads it.
func TestMemifsInEveryVersion(t *testing.T) {
	for _, v := range cni.Versions().SupportedVersions() {
		t.Run(v, func(t *testing.T) {
			n := start(t, "10.1.0.0/24")
			n.annotate("c1", `[{"name": "memif0"}, {"name": "memif1", "mode": "ip"}]`)
			list := n.list(t, v)
			n.pods.Make("/run/netns/c1")
			result, err := n.runtime.AddNetworkList(t.Context(), list, pod("c1"))
			if err != nil {
				t.Fatal(err)
			}
			if atLeast(t, v, "0.3.0") {
				checkMemifs(t, result, v)
			}
			if atLeast(t, v, "0.4.0") {
				if err := n.runtime.CheckNetworkList(t.Context(), list, pod("c1")); err != nil {
					t.Errorf("CHECK: %v", err)
				}
				n.pods.Deafen("millrace/memif1")
				if err := n.runtime.CheckNetworkList(t.Context(), list, pod("c1")); err == nil || !strings.Contains(err.Error(), "@millrace/memif1") {
					t.Errorf("CHECK of a memif on which nobody listens: %v", err)
				}
			}
			if atLeast(t, v, "1.1.0") {
				if err := n.runtime.GCNetworkList(t.Context(), list, &libcni.GCArgs{}); err != nil {
					t.Errorf("GC: %v", err)
				}
			}
			if err := n.runtime.DelNetworkList(t.Context(), list, pod("c1")); err != nil {
				t.Errorf("DEL: %v", err)
			}
			if left := n.facts(); len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

func (n *node) annotate(pod, text string) {
	key := cluster.PodKey{Namespace: "default", Name: pod}
	n.known = map[cluster.PodKey]cluster.Pod{key: {Key: key, Annotations: map[string]string{"millrace.io/memif": text}}}
}

func checkMemifs(t *testing.T, result types.Result, v string) {
	t.Helper()
	got, err := types100.NewResultFromResult(result)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, ip := range got.IPs {
		i := got.Interfaces[*ip.Interface]
		lines = append(lines, fmt.Sprintf("%s %s %s %s", i.Name, i.Sandbox, i.SocketPath, ip.Address.IP))
	}
	sockets := []string{"@millrace/memif0", "@millrace/memif1"}
	if !atLeast(t, v, "1.1.0") {
		sockets = []string{"", ""}
	}
	want := []string{
		"eth0 /run/netns/c1  10.1.0.2", "memif0 /run/netns/c1 " + sockets[0] + " 10.1.0.3", "memif1 /run/netns/c1 " + sockets[1] + " 10.1.0.4",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
}

// TestSecondaryMemif attaches a memif network to a pod that has an interface already, as
// Multus does: with what the pod asks for as capabilities.
func TestSecondaryMemif(t *testing.T) {
	n := start(t, "10.1.0.0/24")
	n.pods.Make("/run/netns/c1")
	if _, err := n.runtime.AddNetworkList(t.Context(), n.list(t, "1.1.0"), pod("c1")); err != nil {
		t.Fatal(err)
	}
	list, err := libcni.NetworkConfFromBytes(fmt.Appendf(nil, `{"cniVersion": "1.1.0", "name": "fast", "plugins": [{
		"type": "millrace", "socket": %q, "mtu": 9000, "device": "memif", "memif": {"ringSize": 256, "rxQueues": 2},
		"capabilities": {"memif": true, "CNIDeviceInfoFile": true}}]}`, n.socket))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "devinfo", "fast.json")
	second := pod("c1")
	second.IfName = "net1"
	second.CapabilityArgs = map[string]any{"memif": map[string]any{"ringSize": 512}, "CNIDeviceInfoFile": file}
	result, err := n.runtime.AddNetworkList(t.Context(), list, second)
	if err != nil {
		t.Fatal(err)
	}
	got, err := types100.NewResultFromResult(result)
	if err != nil {
		t.Fatal(err)
	}
	want := []*types100.Interface{{Name: "net1", Mtu: 9000, Sandbox: "/run/netns/c1", SocketPath: "@millrace/net1"}}
	if diff := cmp.Diff(want, got.Interfaces); diff != "" {
		t.Error(diff)
	}
	_, facts := n.journal.Facts()
	if m := facts[1].Memifs[0]; facts[1].Device != cluster.DeviceMemif || m.RingSize != 512 || m.RxQueues != 2 {
		t.Errorf("the fact is %s", facts[1])
	}
	checkDeviceInfo(t, file)
	if err := n.runtime.CheckNetworkList(t.Context(), list, second); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	for range 2 {
		if err := n.runtime.DelNetworkList(t.Context(), list, second); err != nil {
			t.Errorf("DEL: %v", err)
		}
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("DEL left the device information: %v", err)
		}
	}
	if diff := cmp.Diff([]string{"c1/eth0"}, n.facts()); diff != "" {
		t.Error(diff)
	}
}

func checkDeviceInfo(t *testing.T, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var info any
	if err := json.Unmarshal(data, &info); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"type": "memif", "version": "1.1.0", "memif": map[string]any{"role": "slave", "path": "@millrace/net1", "mode": "ethernet"}}
	if diff := cmp.Diff(any(want), info); diff != "" {
		t.Error(diff)
	}
	if others, err := os.ReadDir(filepath.Dir(file)); err != nil || len(others) != 1 {
		t.Errorf("beside the device information: %v, %v", others, err)
	}
}

func TestBadMemifInput(t *testing.T) {
	n := start(t, "10.1.0.0/24")
	n.annotate("web", `[{"name": "a", "ringSize": 1000}]`)
	n.pods.Make("/run/netns/c1")
	const web = "CNI_ARGS=K8S_POD_NAMESPACE=default;K8S_POD_NAME=web"
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		call call
		code uint
		word string
	}{
		{call{"ADD", good, []string{web}}, cni.CodeAnnotation, "pod default/web: annotation millrace.io/memif[0].ringSize: 1000"},
		{call{"ADD", with(`"device": "memif", "memif": {"secret": "keys/psk"}`), []string{web}}, cni.CodeAnnotation, "millrace.io/memif[0]"},
		{call{"ADD", with(`"device": "memif", "memif": {"secret": "keys/psk"}`), nil}, cni.CodeSecret, "names no pod"},
		{call{"ADD", with(`"device": "memif", "memif": {"ringSize": 1}`), nil}, types.ErrInvalidNetworkConfig, "memif.ringSize: 1"},
		{call{"ADD", with(`"device": "memif", "runtimeConfig": {"CNIDeviceInfoFile": "` + blocked + `/x"}`), []string{"CNI_CONTAINERID=c2"}}, types.ErrIOFailure, "CNIDeviceInfoFile"},
	} {
		_, _, failure := n.run(t, tt.call)
		if failure == nil || failure.Code != tt.code || !strings.Contains(failure.Error(), tt.word) {
			t.Errorf("%s: got %+v, want code %d and %q", tt.call.config, failure, tt.code, tt.word)
		}
	}
	// The runtime answers a failed ADD with a DEL, as the last one needs.
	if _, _, failure := n.run(t, call{"DEL", with(`"device": "memif"`), []string{"CNI_CONTAINERID=c2"}}); failure != nil {
		t.Error(failure)
	}
	if left := n.facts(); len(left) > 0 {
		t.Errorf("bad input left %v", left)
	}
}
