package vmtest

import (
	"strings"
	"testing"
)

// furnishBond hangs a VLAN on e0, and on v0 and v1 a bond with a VLAN. The far ends of the
// bond's wires are joined by a bridge, as by a switch.
const furnishBond = `
set -e
modprobe -a bonding 8021q bridge ib_core sch_ingress sch_multiq
far="ip -n far"
$far link set e0far up; $far address add 10.0.0.2/24 dev e0far; $far address add fd00::2/64 dev e0far nodad
$far link add link e0far name e0far.30 type vlan id 30; $far link set e0far.30 up
$far address add 10.30.0.2/24 dev e0far.30; $far address add fd30::2/64 dev e0far.30 nodad
$far link add br0 type bridge; for i in v0far v1far; do
	$far link set $i master br0; $far link set $i up
	ip netns exec far ethtool -K $i gro off # or the bridge counts what was joined again
done
$far link set br0 up; $far address add 10.0.1.2/24 dev br0; $far address add fd01::2/64 dev br0 nodad
$far link add link br0 name br0.40 type vlan id 40; $far link set br0.40 up
$far address add 10.40.0.2/24 dev br0.40; $far address add fd40::2/64 dev br0.40 nodad

ip link set e0 up; ip address add 10.0.0.1/24 dev e0; ip address add fd00::1/64 dev e0 nodad
ip link add link e0 name e0.30 type vlan id 30 egress-qos-map 1:2; ip link set e0.30 mtu 1400 up
ip address add 10.30.0.1/24 dev e0.30; ip address add fd30::1/64 dev e0.30 nodad
ip route add 198.18.0.0/15 via 10.30.0.2 dev e0.30 metric 7
ip link add bond0 type bond mode active-backup miimon 100
for i in v0 v1; do ip link set $i down; ip link set $i master bond0; done
ip link set bond0 up; ip address add 10.0.1.1/24 dev bond0; ip address add fd01::1/64 dev bond0 nodad
ip link add link bond0 name bond0.40 type vlan id 40; ip link set bond0.40 up
ip address add 10.40.0.1/24 dev bond0.40; ip address add fd40::1/64 dev bond0.40 nodad
ip route add default via 10.40.0.2 dev bond0.40 metric 100; ip -6 route add default via fd40::2 dev bond0.40
ip rule add from 10.40.0.1 lookup 100 priority 1000
`

// bondCards are e0, and v0 and v1 of two models for a bond, with their far ends.
func bondCards() []Card {
	return append(Standard(), Card{Link: "v1", Model: E1000E, Wire: 2}, Card{Link: "v1far", Model: E1000E, Wire: 2, Far: true})
}

// TestIntegrationVMBond has the manager take a NIC with a VLAN on it and a bond with one. The
// stand-in has neither, which is found out when the NICs are DPDK's already: all of it is
// given back. Real VPP, where VPP_BIN names one that has the dpdk plugin, carries it all.
func TestIntegrationVMBond(t *testing.T) {
	g := Boot(t, Machine{IOMMU: true, Cards: bondCards(), MemoryMiB: 3072, Tools: []string{"./cmd/millrace", "./internal/vmtest/standin"}})
	g.Shell(t, furnishBond)
	reachesBond(t, g)
	g.Write(t, configFile, nodeConfig("", "e0", "bond0"))
	inTurn(t, g, g.Settled(t), step{"cannot", cannotBond}, step{"kill manager", killsBond}, step{"VPP", bondsByVPP})
}

// reachesBond wants the far end to answer on every network.
func reachesBond(t *testing.T, g *Guest) {
	t.Helper()
	for _, addr := range []string{"10.0.0.2", "fd00::2", "10.30.0.2", "fd30::2", "10.0.1.2", "fd01::2", "10.40.0.2", "fd40::2"} {
		g.Reaches(t, addr)
	}
}

// cannotBond: a dataplane without bonds and VLANs is not given them for long.
func cannotBond(t *testing.T, g *Guest, before State) {
	r := g.Try(t, millrace, "manager", "--config", configFile)
	if r.OK() || r.Signal != 0 || !strings.Contains(r.Errors, "bond_create2") || !strings.Contains(r.Errors, "1 start, another one would not help") {
		t.Errorf("a dataplane without bonds: %v", r)
	}
	g.Returns(t, before)
	reachesBond(t, g)
}

// killsBond kills the manager when all is taken; undo puts it together again.
func killsBond(t *testing.T, g *Guest, before State) {
	m := g.Start(t, millrace, "manager", "--config", configFile)
	m.WaitUntil("the bond is taken", func(output string) bool { return strings.Contains(output, "host-tap bond0.40") })
	m.Kill()
	if taken := g.Run(t, "ls", "/sys/bus/pci/drivers/vfio-pci"); strings.Count(taken, "0000:") != 3 {
		t.Errorf("the devices of vfio-pci: %s", taken)
	}
	g.Run(t, millrace, "manager", "undo", "--config", configFile)
	g.Returns(t, before)
	reachesBond(t, g)
}

// bondsByVPP carries the traffic of all networks, stops, and is killed.
func bondsByVPP(t *testing.T, g *Guest, before State) {
	g.Write(t, configFile, configFor(realVPP(t, "dpdk"), "", "e0", "bond0"))
	m := startManager(t, g)
	reachesBond(t, g)
	for _, addr := range []string{"10.0.0.1", "10.30.0.1", "fd30::1", "10.0.1.1", "10.40.0.1", "fd40::1"} {
		g.Reaches(t, addr, "ip", "netns", "exec", Far)
	}
	streams(t, g, "10.30.0.2", "e0.30", "e0far")
	streams(t, g, "fd40::2", "bond0.40", "br0")
	m.stop()
	g.Returns(t, before)

	m = startManager(t, g)
	m.Kill()
	gone(t, g, m.dataplane())
	g.Run(t, millrace, "manager", "undo", "--config", configFile)
	g.Returns(t, before)
	reachesBond(t, g)
}
