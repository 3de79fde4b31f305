package vmtest

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
)

// facts is the node as the API server would tell of it. Pods need no facts.
const facts = `
apiVersion: v1
kind: Node
metadata: {name: guest}
spec: {podCIDRs: [10.244.0.0/24, "fd00:244::/112"]}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}, {type: InternalIP, address: "fd00::1"}]}
`

const (
	factsDir  = "/run/facts"
	cniSocket = "/run/millrace/cni.sock"
)

// agent is the agent of the guest, a node that stands alone, with one pod.
type agent struct {
	*Process
	g    *Guest
	pod  string         // its network namespace
	addr []netip.Prefix // the pod's
}

// startAgent starts it beside a manager, and adds a pod as a container runtime does. The far
// end knows the way to the pods.
func startAgent(t *testing.T, g *Guest) *agent {
	t.Helper()
	g.Shell(t, "mkdir -p "+factsDir+"; ip -n far route add 10.244.0.0/24 via 10.0.0.1; ip -n far -6 route add fd00:244::/112 via fd00::1\n"+
		"ip netns add pod; ip -n pod link set lo up")
	g.Write(t, factsDir+"/node.yaml", facts)
	a := &agent{Process: g.Start(t, millrace, "agent", "--config", configFile, "--node-name", "guest", "--facts", factsDir), g: g, pod: "pod"}
	a.WaitUntil("the agent works", func(output string) bool { return strings.Contains(output, "connected to the dataplane") })
	var result struct {
		IPs []struct{ Address netip.Prefix }
	}
	if err := json.Unmarshal([]byte(a.cni(t, "ADD")), &result); err != nil {
		t.Fatal(err)
	}
	for _, ip := range result.IPs {
		a.addr = append(a.addr, ip.Address)
	}
	if len(a.addr) != 2 {
		t.Fatalf("the pod has the addresses %v, want one of each family", a.addr)
	}
	return a
}

// cni runs the plugin as a container runtime does, and returns what it prints.
func (a *agent) cni(t *testing.T, verb string) string {
	t.Helper()
	return a.g.Shell(t, fmt.Sprintf(`echo '{"cniVersion": "1.1.0", "name": "pods", "type": "millrace-cni", "socket": "%s"}' |
CNI_COMMAND=%s CNI_CONTAINERID=%s CNI_NETNS=/run/netns/%s CNI_IFNAME=eth0 CNI_PATH=%s CNI_ARGS="K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod" %s/millrace-cni`,
		cniSocket, verb, a.pod, a.pod, Tools, Tools))
}

// carries wants the pod to reach both wires and the host, and to be reached from there.
func (a *agent) carries(t *testing.T) {
	t.Helper()
	for _, addr := range append(farAddresses(), "10.0.0.1", "fd00::1") {
		a.g.Reaches(t, addr, "ip", "netns", "exec", a.pod)
	}
	for _, p := range a.addr {
		a.g.Reaches(t, p.Addr().String(), "ip", "netns", "exec", Far)
		a.g.Reaches(t, p.Addr().String())
	}
	streams(t, a.g, "10.0.0.2", "eth0", "e0far", "ip", "netns", "exec", a.pod)
	streams(t, a.g, "fd01::2", "eth0", "v0far", "ip", "netns", "exec", a.pod)
}

// leave takes the pod and the agent away, with the agent's link to the host: it outlives
// the agent, as pods do, and it holds the module tun.
func (a *agent) leave(t *testing.T) {
	t.Helper()
	a.cni(t, "DEL")
	a.Signal(syscall.SIGTERM)
	if r := a.Wait(); !r.OK() {
		t.Errorf("the agent ended badly: %v", r)
	}
	a.g.Shell(t, "ip link del millrace0; ip netns del "+a.pod+"; ip -n far route del 10.244.0.0/24 via 10.0.0.1; ip -n far -6 route del fd00:244::/112 via fd00::1; rm -r "+factsDir)
}
