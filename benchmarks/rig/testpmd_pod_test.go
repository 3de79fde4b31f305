package rig

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// testpmdFacts make the agent know a pod with two memifs; one has queues and a secret.
const testpmdFacts = `apiVersion: v1
kind: Pod
metadata:
  namespace: rig
  name: function
  labels: {app: function}
  annotations:
    millrace.io/memif: '[{"name": "memif0"}, {"name": "wide", "rxQueues": 4, "txQueues": 4, "secret": "keys/psk"}]'
---
apiVersion: v1
kind: Secret
metadata: {namespace: rig, name: keys}
stringData: {psk: opensesame}
---
apiVersion: v1
kind: Pod
metadata: {namespace: rig, name: client}
---
apiVersion: v1
kind: Pod
metadata: {namespace: rig, name: stranger}
`

// guardFacts is a policy that lets one address through to the function.
const guardFacts = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: rig, name: function}
spec:
  podSelector: {matchLabels: {app: function}}
  ingress: [{from: [{ipBlock: {cidr: %s/32}}]}]
`

// TestIntegrationTestpmdPod: DPDK's testpmd, which none of us wrote, is the network function
// in a pod. It is started as docs/memif.md says, answers other pods' pings through the
// dataplane, and does so again after it was killed and started anew.
func TestIntegrationTestpmdPod(t *testing.T) {
	testpmd, err := exec.LookPath("dpdk-testpmd")
	if err != nil {
		t.Skipf("needs dpdk-testpmd (Debian package dpdk-dev): %v", err)
	}
	eachMachine(t, func(t *testing.T, l *Launcher, bed *Bed, m *Millrace) {
		needMemif(t, m)
		if err := os.WriteFile(m.path("facts", "pods.yaml"), []byte(testpmdFacts), 0o644); err != nil {
			t.Fatal(err)
		}
		m.Agent().Kill() // another one reads the facts as it starts
		if err := m.StartAgent(t.Context()); err != nil {
			t.Fatal(err)
		}
		client, function := add(t, bed, "client"), add(t, bed, "function")
		plain := attached(t, function, "memif0", "@millrace/memif0")
		wide := attached(t, function, "wide", "@millrace/wide")
		for _, tt := range []struct {
			name string
			port port
			vdev string
			args []string
		}{
			{"one queue", plain, "socket=millrace/memif0", nil},
			{"four queues and a secret", wide, "socket=millrace/wide,secret=opensesame", []string{"--rxq=4", "--txq=4"}},
		} {
			t.Run(tt.name, func(t *testing.T) {
				to := ipv4(tt.port.addresses)
				for range 2 {
					p := startTestpmd(t, l, m, function, testpmd, tt.vdev, tt.args...)
					pingAddr(t, l, m, client, to)
					pingLarge(t, l, client, to)
					p.Kill()
				}
			})
		}
		t.Run("guarded by a policy", func(t *testing.T) {
			stranger, to := add(t, bed, "stranger"), ipv4(plain.addresses)
			startTestpmd(t, l, m, function, testpmd, "socket=millrace/memif0")
			pingAddr(t, l, m, stranger, to)
			policy := fmt.Sprintf(guardFacts, ipv4(client.Addresses))
			if err := os.WriteFile(m.path("facts", "policy.yaml"), []byte(policy), 0o644); err != nil {
				t.Fatal(err)
			}
			shutOut(t, l, stranger, to)
			pingAddr(t, l, m, client, to)
			shutOut(t, l, stranger, to)
		})
	})
}

// ipv4 is the first of the addresses that is one.
func ipv4(list []netip.Addr) netip.Addr {
	return list[slices.IndexFunc(list, netip.Addr.Is4)]
}

// shutOut waits until pings are not answered any more.
func shutOut(t *testing.T, l *Launcher, from *Pod, to netip.Addr) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; {
		out, err := l.Run(t.Context(), from.Namespace, Command("ping", "-n", "-c", "5", "-i", "0.1", "-W", "1", to.String()))
		if err != nil {
			return // none of the five
		}
		if time.Now().After(end) {
			t.Fatalf("%s is still let through to %s:\n%s", from.Name, to, out)
		}
	}
}

// startTestpmd starts a testpmd in the pod that answers ARP and echo requests.
func startTestpmd(t *testing.T, l *Launcher, m *Millrace, pod *Pod, binary, vdev string, args ...string) *Process {
	t.Helper()
	cmd := Command("env", append([]string{"RUNTIME_DIRECTORY=" + t.TempDir(), binary,
		"-l", "0,1", "--no-pci", "--no-huge", "--no-shconf", "-m", "256", "--no-telemetry",
		"--vdev", "net_memif0,role=client,socket-abstract=yes," + vdev, "--",
		"--total-num-mbufs=16384", "--forward-mode=icmpecho", "--stats-period=10"}, args...)...)
	p, err := l.StartProcess(pod.Namespace, "testpmd", cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("testpmd:\n%s", p.Output())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// The last line of what it says before it forwards.
	if err := p.Await(ctx, func(context.Context) error {
		if !strings.Contains(p.Output(), "TX offloads=") {
			return fmt.Errorf("it does not forward yet")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return p
}

// pingLarge pings with the longest packets that the pods' MTU lets through, some in a row. A
// function that was kept from running may answer late: ping waits for as many answers.
func pingLarge(t *testing.T, l *Launcher, from *Pod, to netip.Addr) {
	t.Helper()
	out, err := l.Run(t.Context(), from.Namespace, Command("ping", "-n", "-c", "20", "-i", "0.02", "-w", "20", "-M", "do", "-s", "1472", to.String()))
	if err != nil {
		t.Errorf("ping %s with 1500 bytes: %v\n%s", to, err, out)
	}
}
