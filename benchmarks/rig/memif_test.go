package rig

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	binapi "go.fd.io/govpp/binapi/memif"

	"github.com/millrace/millrace/memif"
	"github.com/millrace/millrace/vpp"
)

// secretText is what the pods' Secret holds.
const secretText = "open sesame"

// memifFacts make the agent know two pods: one asks for two memifs, the other for none.
const memifFacts = `apiVersion: v1
kind: Pod
metadata:
  namespace: rig
  name: function
  annotations:
    millrace.io/memif: '[{"name": "memif0", "secret": "keys/psk"}, {"name": "raw", "mode": "ip", "ringSize": 64}]'
---
apiVersion: v1
kind: Secret
metadata: {namespace: rig, name: keys}
stringData: {psk: "` + secretText + `"}
`

// TestIntegrationMemifPod: a pod with the annotation gets its sockets and addresses, a
// program in it is reached by other pods through them, and everything comes back by itself
// when the dataplane is killed, and goes with the pod.
func TestIntegrationMemifPod(t *testing.T) {
	eachMachine(t, func(t *testing.T, l *Launcher, bed *Bed, m *Millrace) {
		needMemif(t, m)
		if err := os.WriteFile(m.path("facts", "pods.yaml"), []byte(memifFacts), 0o644); err != nil {
			t.Fatal(err)
		}
		m.Agent().Kill() // another one reads the facts as it starts
		if err := m.StartAgent(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := leftovers(t, m)
		client, function := add(t, bed, "client"), add(t, bed, "function")
		ethernet := attached(t, function, "memif0", "@millrace/memif0")
		ip := attached(t, function, "raw", "@millrace/raw")
		if len(ethernet.gateways) != 2 || len(ip.gateways) != 0 {
			t.Errorf("gateways are %v for ethernet and %v for ip mode, want two and none", ethernet.gateways, ip.gateways)
		}
		links := []*responder{
			respond(t, function, ethernet, memif.Config{Secret: secretText}),
			respond(t, function, ip, memif.Config{Mode: memif.IP}),
		}
		reach := func() {
			t.Helper()
			for _, r := range links {
				for _, a := range r.own.addresses {
					pingAddr(t, l, m, client, a)
				}
			}
		}
		reach()
		links[0].findGateways(t)
		spoofed(t, m, links)
		if err := bed.Subject.Wiring().Check(t.Context(), function); err != nil {
			t.Errorf("CHECK: %v", err)
		}
		was := links[0].ups.Load()
		killDataplane(t, m)
		reach()
		if now := links[0].ups.Load(); now <= was {
			t.Errorf("the link came up %d times, as before the dataplane was killed", now)
		}
		if err := bed.Subject.Wiring().Check(t.Context(), function); err != nil {
			t.Errorf("CHECK after the dataplane was killed: %v", err)
		}
		for _, pod := range []*Pod{function, client} {
			if err := bed.Subject.Wiring().Del(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
		}
		if after := leftovers(t, m); len(after) != len(before) {
			t.Errorf("left over: %q, before there was %q", after, before)
		}
		noMemifs(t, m)
		secretIsNowhere(t, m)
	})
}

// needMemif skips where the dataplane has no memif.
func needMemif(t *testing.T, m *Millrace) {
	t.Helper()
	conn, err := vpp.Dial(t.Context(), vpp.Config{Socket: m.APISocket()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if missing := conn.Supports(&binapi.MemifCreateV2{}); len(missing) > 0 {
		t.Skipf("this %s lacks %s", m.Dataplane, missing[0])
	}
}

// port is one memif of a pod as its CNI result has it.
type port struct {
	socket    string
	addresses []netip.Addr
	gateways  []netip.Addr
	remoteMAC string // of the dataplane's end
}

func attached(t *testing.T, pod *Pod, name, socket string) port {
	t.Helper()
	var p port
	for i, link := range pod.Result.Interfaces {
		if link.Name != name || link.Sandbox == "" {
			continue
		}
		p.socket, p.remoteMAC = link.SocketPath, pod.Result.Interfaces[i-1].Mac
		for _, ip := range pod.Result.IPs {
			if *ip.Interface != i {
				continue
			}
			p.addresses = append(p.addresses, addrOf(ip))
			if g, ok := netip.AddrFromSlice(ip.Gateway); ok {
				p.gateways = append(p.gateways, g.Unmap())
			}
		}
	}
	if p.socket != socket || len(p.addresses) != 2 {
		t.Fatalf("the result has %+v for %s, want %s and an address of each family: %v", p, name, socket, pod.Result)
	}
	return p
}

func addrOf(ip *types100.IPConfig) netip.Addr {
	a, _ := netip.AddrFromSlice(ip.Address.IP)
	return a.Unmap()
}

// spoofed sends packets from an address that is not the memif's own; the dataplane must
// drop them for that.
func spoofed(t *testing.T, m *Millrace, links []*responder) {
	t.Helper()
	before := urpfDrops(t, m)
	const each = 20
	for _, r := range links {
		var list []gopacket.SerializableLayer
		if r.mode == memif.Ethernet {
			mac, err := net.ParseMAC(r.own.remoteMAC)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, &layers.Ethernet{SrcMAC: r.mac, DstMAC: mac, EthernetType: layers.EthernetTypeIPv4})
		}
		list = append(list,
			&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: net.IP{198, 51, 100, 1}, DstIP: net.IP{192, 0, 2, 10}},
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0)})
		for range each {
			if n, err := r.more.Send([][]byte{serialize(list...)}); n != 1 || err != nil {
				t.Fatalf("send: %d, %v", n, err)
			}
		}
	}
	deadline := time.Now().Add(2 * time.Minute)
	for urpfDrops(t, m) < before+each*len(links) {
		if time.Now().After(deadline) {
			shown, err := m.CLI(t.Context(), "show errors")
			t.Fatalf("of %d spoofed packets %d were dropped by the source check; %v\n%s", each*len(links), urpfDrops(t, m)-before, err, shown)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// urpfDrops adds up what the source checks dropped.
func urpfDrops(t *testing.T, m *Millrace) (drops int) {
	t.Helper()
	shown, err := m.CLI(t.Context(), "show errors")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(shown) {
		if f := strings.Fields(line); strings.Contains(strings.ToLower(line), "urpf") && len(f) > 1 {
			n, err := strconv.Atoi(f[0])
			if err != nil {
				t.Fatalf("read %q: %v", line, err)
			}
			drops += n
		}
	}
	return drops
}

// secretIsNowhere wants no log to hold the secret.
func secretIsNowhere(t *testing.T, m *Millrace) {
	t.Helper()
	for _, p := range []*Process{m.Manager(), m.Agent()} {
		if strings.Contains(string(p.Output()), secretText) {
			t.Errorf("the secret stands in a log:\n%s", p.Output())
		}
	}
}

// pingAddr pings until an answer comes.
func pingAddr(t *testing.T, l *Launcher, m *Millrace, from *Pod, to netip.Addr) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		_, err := l.Run(ctx, from.Namespace, Command("ping", "-n", "-c", "1", "-W", "0.3", to.String()))
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			errs, _ := m.CLI(context.WithoutCancel(ctx), "show errors")
			links, _ := m.CLI(context.WithoutCancel(ctx), "show interface")
			t.Fatalf("no ping from %s to the memif's %s came through: %v\n%s\n%s", from.Name, to, err, errs, links)
		}
	}
}

func killDataplane(t *testing.T, m *Millrace) {
	t.Helper()
	before, err := m.DataplanePID()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := m.Manager().Await(ctx, func(context.Context) error {
		now, err := m.DataplanePID()
		if err == nil && now == before {
			err = fmt.Errorf("process %d is still the dataplane", before)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// TestIntegrationMemifKilledDuringAdd kills agent and dataplane ever later in the ADD of a
// pod with a memif: the repeated ADD brings it, and the DEL leaves no socket, interface or
// fact, whatever was under way.
func TestIntegrationMemifKilledDuringAdd(t *testing.T) {
	eachMachine(t, func(t *testing.T, l *Launcher, bed *Bed, m *Millrace) {
		needMemif(t, m)
		const victims = 10
		var facts strings.Builder
		for i := range victims {
			fmt.Fprintf(&facts, "---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: rig, name: victim-%d, annotations: {millrace.io/memif: '[{\"name\": \"memif0\"}]'}}\n", i)
		}
		if err := os.WriteFile(m.path("facts", "pods.yaml"), []byte(facts.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		m.Agent().Kill()
		if err := m.StartAgent(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := leftovers(t, m)
		peer := add(t, bed, "peer")
		for i := range victims {
			pod, err := bed.NewPod(fmt.Sprintf("victim-%d", i))
			if err != nil {
				t.Fatal(err)
			}
			crashAdd(t, bed, m, pod, time.Duration(i)*4*time.Millisecond, i%2 == 0)
			if retry := i%3 != 2; retry {
				retryAdd(t, l, bed, peer, pod, retry)
				attached(t, pod, "memif0", "@millrace/memif0")
			}
			if err := bed.Subject.Wiring().Del(t.Context(), pod); err != nil {
				t.Errorf("DEL after crash %d: %v", i, err)
			}
			if err := pod.Namespace.Close(); err != nil {
				t.Error(err)
			}
		}
		if _, err := bed.Delete(t.Context(), peer); err != nil {
			t.Fatal(err)
		}
		if after := leftovers(t, m); len(after) != len(before) {
			t.Errorf("left over after crashes: %q, before there was %q", after, before)
		}
		noMemifs(t, m)
	})
}

// noMemifs wants neither a memif nor a socket but VPP's own number 0.
func noMemifs(t *testing.T, m *Millrace) {
	t.Helper()
	conn, err := vpp.Dial(t.Context(), vpp.Config{Socket: m.APISocket()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for d, err := range vpp.Dump[binapi.MemifDetails](t.Context(), conn, &binapi.MemifDump{}) {
		if err != nil {
			t.Fatal(err)
		}
		t.Errorf("interface %s is left", d.IfName)
	}
	for d, err := range vpp.Dump[binapi.MemifSocketFilenameDetails](t.Context(), conn, &binapi.MemifSocketFilenameDump{}) {
		if err != nil {
			t.Fatal(err)
		}
		if d.SocketID != 0 {
			t.Errorf("socket %d is left: %s", d.SocketID, d.SocketFilename)
		}
	}
}
