package vmtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/vppmanager/inventory"
)

// TestIntegrationVMInventory reads what a machine's own kernel may not have: bonds, VLANs,
// VRFs, IOMMU groups that devices share, a device that a process holds by vfio, modules
// that are loaded, built in and only there.
func TestIntegrationVMInventory(t *testing.T) {
	g := Boot(t, Machine{
		IOMMU: true,
		Cards: append(Standard(), Card{Link: "b0", Model: E1000, Wire: 2, Place: Bridge}, Card{Link: "b1", Model: E1000, Wire: 2, Place: Bridge}),
		Tools: []string{"./cmd/millrace"}, Tests: []string{"./vppmanager/host"},
	})
	g.Shell(t, "modprobe -a bonding 8021q vrf macvlan bridge veth")
	if out := g.Test(t, "host", "^TestIntegration"); strings.Contains(out, "lacks") || strings.Contains(out, "SKIP") || strings.Count(out, "--- PASS: TestIntegration") < 2 {
		t.Errorf("the tests of package host in the guest:\n%s", out)
	}
	before := inspected(t, g)
	if state := before.Module("vfio-pci"); state != inventory.ModuleAvailable {
		t.Errorf("vfio-pci before it is loaded: %s", state)
	}
	if d, _ := before.Device("0000:01:00.0"); before.VFIO.Problem != "" || d.User != "" {
		t.Errorf("before: %v, %+v", before.VFIO, d)
	}
	if got := strings.TrimSpace(g.Shell(t, "grep -c ^vfio /proc/modules || true")); got != "0" {
		t.Errorf("looking at the node has loaded vfio: %s modules", got)
	}
	pid := strings.TrimSpace(g.Shell(t, `
set -e
ip link add bond0 type bond mode active-backup
ip link set v0 down; ip link set v0 master bond0; ip link set bond0 up
ip link add link bond0 name bond0.30 type vlan id 30
ip address add 10.30.0.1/24 dev bond0.30
ip route add blackhole 10.31.0.0/16
modprobe vfio-pci
echo vfio-pci >/sys/bus/pci/devices/0000:01:00.0/driver_override
echo 0000:01:00.0 >/sys/bus/pci/devices/0000:01:00.0/driver/unbind
echo 0000:01:00.0 >/sys/bus/pci/drivers_probe
echo 8 >/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
group=$(basename $(readlink /sys/bus/pci/devices/0000:01:00.0/iommu_group))
sh -c "exec sleep 1000 <>/dev/vfio/$group >/dev/null 2>&1" & echo $!
while ! grep -q sleep /proc/$!/comm; do sleep 0.1; done`))
	checkTaken(t, inspected(t, g), pid)
}

func inspected(t *testing.T, g *Guest) inventory.Node {
	t.Helper()
	var node inventory.Node
	if err := json.Unmarshal([]byte(g.Run(t, Tools+"/millrace", "node", "inspect", "--output", "json")), &node); err != nil {
		t.Fatal(err)
	}
	return node
}

// checkTaken wants e0 in the hands of vfio-pci and a process, v0 in a bond with a VLAN on
// it, and the cards of the bridge in one group.
func checkTaken(t *testing.T, node inventory.Node, pid string) {
	e0, _ := node.Device("0000:01:00.0")
	if e0.Driver != "vfio-pci" || e0.Override != "vfio-pci" || e0.User != fmt.Sprintf("sleep (pid %s)", pid) || len(e0.Interfaces) > 0 {
		t.Errorf("the device of e0, held by vfio: %+v", e0)
	}
	if nic, found := node.NIC("0000:01:00.0"); !found || nic.Name != "" || nic.Driver != "vfio-pci" {
		t.Errorf("e0 without a link: %+v", nic)
	}
	v0, _ := node.NIC("v0")
	bond, _ := node.NIC("bond0")
	vlan, _ := node.NIC("bond0.30")
	if v0.Master != "bond0" || v0.MasterIs != "bond" || v0.PCI != "0000:02:00.0" || v0.Bus != "virtio" || v0.Driver != "virtio_net" {
		t.Errorf("v0 in a bond: %+v", v0)
	}
	if bond.Bond == nil || bond.Bond.Mode != "active-backup" || !slices.Equal(bond.Bond.Members, []string{"v0"}) || !slices.Equal(bond.Uppers, []string{"bond0.30"}) {
		t.Errorf("bond0: %+v", bond)
	}
	if vlan.VLAN == nil || *vlan.VLAN != (inventory.VLAN{Parent: "bond0", ID: 30}) || len(vlan.Addresses) == 0 {
		t.Errorf("bond0.30: %+v", vlan)
	}
	b0, _ := node.NIC("b0")
	b1, _ := node.NIC("b1")
	one, _ := node.Device(b0.PCI)
	two, _ := node.Device(b1.PCI)
	if one.IOMMUGroup < 0 || one.IOMMUGroup != two.IOMMUGroup || one.IOMMUGroup == e0.IOMMUGroup || one.Domain == "" {
		t.Errorf("the cards behind the bridge: %+v and %+v", one, two)
	}
	if s := node.Module("vfio-pci"); s != inventory.ModuleLoaded {
		t.Errorf("vfio-pci when it is loaded: %s", s)
	}
	if s := node.Module("igb_uio"); s != inventory.ModuleMissing {
		t.Errorf("igb_uio: %s", s)
	}
	if !node.IOMMU.On || len(node.NUMA) != 1 || node.NUMA[0].HugePagesFree != 8 || node.HugePageSize != 2<<20 {
		t.Errorf("IOMMU %+v, NUMA %+v", node.IOMMU, node.NUMA)
	}
	if len(node.Unread) > 0 {
		t.Errorf("not read: %q", node.Unread)
	}
}
