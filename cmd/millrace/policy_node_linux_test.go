package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.fd.io/govpp/binapi/acl"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"

	"github.com/millrace/millrace/agent/explain"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/vpp"
)

// nodeObjects are a node with its policies; its pods get the first addresses of the range.
const nodeObjects = `
{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDRs: [10.1.0.0/24]}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: db, namespace: shop, labels: {app: db}}, spec: {nodeName: n1, containers: []}, status: {phase: Running}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: web}}, spec: {nodeName: n1, containers: []}, status: {phase: Running}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}]
`

// startBeside runs one of the product's processes in a namespace until the test ends.
func startBeside(t *testing.T, n *netnstest.Namespace, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := n.Command(t, name, args...)
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// The signal comes when the thread that started the process ends: it is kept.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait() // it ends by the signal that the end of the test sends
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		<-ended
		if t.Failed() {
			t.Logf("%s %v printed:\n%s", name, args, &output)
		}
	})
	return cmd
}

// awaitSocket waits until somebody answers at a socket.
func awaitSocket(t *testing.T, path string) {
	t.Helper()
	for until := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("unix", path)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(until) {
			t.Fatalf("nobody answers at %s: %v", path, err)
		}
	}
}

// addPod has the plugin attach a pod, and returns its namespace and address.
func addPod(t *testing.T, node *netnstest.Namespace, plugin, socket, name string) (*netnstest.Namespace, string) {
	t.Helper()
	pod := netnstest.New(t)
	cmd := node.Command(t, plugin)
	cmd.Env = append(os.Environ(), "CNI_COMMAND=ADD", "CNI_CONTAINERID=c-"+name, "CNI_NETNS="+pod.Path, "CNI_IFNAME=eth0", "CNI_PATH="+filepath.Dir(plugin),
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME="+name)
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "millrace", "type": "millrace-cni", "socket": %q}`, socket))
	out, err := cmd.Output()
	var result struct{ IPs []struct{ Address string } }
	if err == nil {
		err = json.Unmarshal(out, &result)
	}
	if err != nil || len(result.IPs) == 0 {
		t.Fatalf("add pod %s: %v\n%s", name, err, out)
	}
	prefix, err := netip.ParsePrefix(result.IPs[0].Address)
	if err != nil {
		t.Fatal(err)
	}
	return pod, prefix.Addr().String()
}

// TestIntegrationPolicyExplain: a node with engine, agent and plugin; packets count in what
// explain tells, and it says so when somebody opens a pod behind the agent's back.
func TestIntegrationPolicyExplain(t *testing.T) {
	binaries := buildProduct(t)
	node, dir := netnstest.New(t), t.TempDir()
	millrace, plugin := filepath.Join(binaries, "millrace"), filepath.Join(binaries, "millrace-cni")
	api, stats, cni, socket := filepath.Join(dir, "api.sock"), filepath.Join(dir, "stats.sock"), filepath.Join(dir, "cni.sock"), filepath.Join(dir, "agent.sock")
	facts := filepath.Join(dir, "facts")
	if err := os.Mkdir(facts, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(facts, "node.yaml"), []byte(nodeObjects), 0o600); err != nil {
		t.Fatal(err)
	}
	config := writeConfig(t, "")
	startBeside(t, node, millrace, "engine", "--api-socket", api, "--stats-socket", stats)
	startBeside(t, node, millrace, "agent", "--config", config, "--node-name", "n1", "--facts", facts, "--state-dir", filepath.Join(dir, "state"),
		"--api-socket", api, "--cni-socket", cni)
	awaitSocket(t, cni)
	_, db := addPod(t, node, plugin, cni, "db")
	web, _ := addPod(t, node, plugin, cni, "web")
	ask := func(port string) (explain.Explanation, error) {
		t.Helper()
		var out, notes strings.Builder
		err := policyExplain(t.Context(), []string{"--config", config, "--api-socket", api, "--stats-socket", stats, "--agent-socket", socket,
			"--from", "shop/web", "--to", "shop/db", "--port", port, "--output", "json"}, &out, &notes)
		var list []explain.Explanation
		if parsed := json.Unmarshal([]byte(out.String()), &list); parsed != nil || len(list) != 1 {
			t.Fatalf("explain: %v, %v\n%s", err, parsed, &out)
		}
		return list[0], err
	}
	before, err := ask("5432/tcp")
	if err != nil || !before.Allowed || before.Ingress.Dataplane == nil || before.Ingress.Dataplane.Packets == nil {
		t.Fatalf("%v: %+v", err, before)
	}
	// Nobody listens: the pod itself refuses, so the packet was there.
	out, err := web.Command(t, "bash", "-c", "echo > /dev/tcp/"+db+"/5432").CombinedOutput()
	if _, exited := errors.AsType[*exec.ExitError](err); !exited || !strings.Contains(string(out), "refused") {
		t.Fatalf("connect: %v\n%s", err, out)
	}
	after, err := ask("5432/tcp")
	if err != nil || *after.Ingress.Dataplane.Packets != *before.Ingress.Dataplane.Packets+1 {
		t.Errorf("%v: the rule matched %d packets, then %d: want one more", err, *before.Ingress.Dataplane.Packets, *after.Ingress.Dataplane.Packets)
	}
	if closed, err := ask("80/tcp"); err != nil || closed.Allowed || closed.Ingress.Dataplane.Allowed {
		t.Errorf("%v: %+v", err, closed)
	}
	var open explain.Explanation
	for range 5 { // the agent may look and repair it in between
		unbind(t, api, after.Ingress.Dataplane.Interface)
		if open, err = ask("80/tcp"); err != nil {
			break
		}
	}
	if !errors.Is(err, errDisagree) || len(open.Disagreements) == 0 {
		t.Errorf("error %v, want %v: %+v", err, errDisagree, open)
	}
}

// unbind takes an interface's lists away behind the agent's back.
func unbind(t *testing.T, api, name string) {
	t.Helper()
	conn, err := vpp.Dial(t.Context(), vpp.Config{Socket: api})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for d, err := range vpp.Dump[interfaces.SwInterfaceDetails](t.Context(), conn, &interfaces.SwInterfaceDump{SwIfIndex: interface_types.InterfaceIndex(^uint32(0))}) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(d.Tag, "millrace/"+name) {
			if _, err := vpp.Call[acl.ACLInterfaceSetACLListReply](t.Context(), conn, &acl.ACLInterfaceSetACLList{SwIfIndex: d.SwIfIndex}); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no interface is called %s", name)
}
