package change

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/vppmanager/startup"
)

// beside are the changes for a NIC that the kernel keeps (af_packet), with a link on it.
func beside() []startup.Change {
	return []startup.Change{
		{Kind: startup.SaveLink, Link: "eth1"},
		{Kind: startup.SaveLink, Link: "mv1"},
		{Kind: startup.RenameLink, Link: "eth1", Name: "p-eth1"},
		{Kind: startup.FlushLink, Link: "p-eth1"},
		{Kind: startup.SetSysctl, Path: "net/ipv6/conf/p-eth1/disable_ipv6", Value: "1"},
		{Kind: startup.SetSysctl, Path: "net/ipv4/conf/p-eth1/arp_ignore", Value: "8"},
		{Kind: startup.XDPProgram, Link: "p-eth1"},
		{Kind: startup.LinkDown, Link: "mv1"},
		{Kind: startup.RenameLink, Link: "mv1", Name: "p-mv1"},
		{Kind: startup.FlushLink, Link: "p-mv1"},
		{Kind: startup.HostTap, Link: "eth1"},
		{Kind: startup.HostTap, Link: "mv1"},
	}
}

// taken are the changes for a NIC that is taken from the kernel.
func taken() []startup.Change {
	return []startup.Change{
		{Kind: startup.SaveLink, Link: "eth1"},
		{Kind: startup.SaveLink, Link: "mv1"},
		{Kind: startup.LinkDown, Link: "eth1"},
		{Kind: startup.OverrideDriver, PCI: testNIC, Driver: "vfio-pci"},
		{Kind: startup.Unbind, PCI: testNIC},
		{Kind: startup.Probe, PCI: testNIC, Driver: "vfio-pci"},
		{Kind: startup.HostTap, Link: "eth1"},
		{Kind: startup.HostTap, Link: "mv1"},
	}
}

// nodeMachine joins the fake tree and the namespace: the driver e1000e makes eth1.
func nodeMachine(t *testing.T, n node) *machine {
	t.Helper()
	m := newMachine(t)
	m.link(t, "proc/sys/net", "/proc/sys/net")
	device := filepath.Join(pciDevices, testNIC)
	show := func() error {
		return n.Do(func() error {
			l, err := linkByName("eth1")
			if err != nil {
				return err
			}
			dir := m.path(filepath.Join(device, "net/eth1"))
			return errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "ifindex"), []byte(strconv.Itoa(l.index())+"\n"), 0o644),
				os.WriteFile(filepath.Join(dir, "dev_port"), []byte("0\n"), 0o644), symlink("../..", filepath.Join(dir, "device")))
		})
	}
	if err := show(); err != nil {
		t.Fatal(err)
	}
	m.link(t, "sys/class/net/eth1", "../../bus/pci/devices/"+testNIC+"/net/eth1")
	m.plug = func(driver string) error {
		if driver != "e1000e" {
			return nil
		}
		return errors.Join(n.makeNIC(), show())
	}
	m.unplug = func(driver string) error {
		if driver != "e1000e" {
			return nil
		}
		return errors.Join(os.RemoveAll(m.path(filepath.Join(device, "net"))), n.unplugNIC())
	}
	return m
}

func symlink(to, at string) error {
	if err := os.Symlink(to, at); !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// walkLinks walks in parts side by side: most of a walk is waiting for the kernel.
func walkLinks(t *testing.T, changes []startup.Change, pci bool) {
	const parts = 6
	for part := range parts {
		n := newNode(t)
		n.furnish(t)
		t.Run(fmt.Sprint(part), func(t *testing.T) {
			t.Parallel()
			m := machineOf(t, n, pci)
			walk{
				state: t.TempDir(), root: m.root, changes: changes, settle: []string{"eth1", "mv1"}, part: part, parts: parts,
				command: func(name string, args ...string) *exec.Cmd { return n.Command(t, name, args...) },
				look: func(t *testing.T) map[string]string {
					all := m.snapshot(t)
					for k, v := range n.look(t) {
						all[k] = v
					}
					return all
				},
			}.run(t)
		})
	}
}

func machineOf(t *testing.T, n node, pci bool) *machine {
	t.Helper()
	if pci {
		return nodeMachine(t, n)
	}
	m := newMachine(t)
	m.link(t, "proc/sys/net", "/proc/sys/net")
	return m
}

func TestIntegrationWalkBeside(t *testing.T) {
	netnstest.NeedRoot(t)
	walkLinks(t, beside(), false)
}

func TestIntegrationWalkTaken(t *testing.T) {
	netnstest.NeedRoot(t)
	walkLinks(t, taken(), true)
}

// TestIntegrationSettle: the host's link gets all that hung on the NIC.
func TestIntegrationSettle(t *testing.T) {
	netnstest.NeedRoot(t)
	n := newNode(t)
	n.furnish(t)
	m := newMachine(t)
	m.link(t, "proc/sys/net", "/proc/sys/net")
	before := n.look(t)
	state := t.TempDir()
	o := order{Root: m.root, State: state, Apply: beside(), Settle: []string{"eth1", "mv1"}}
	if end := o.start(t, func(name string, args ...string) *exec.Cmd { return n.Command(t, name, args...) }); end.failed || end.killed {
		t.Fatal(end)
	}
	if diff := cmp.Diff(hanging(before), hanging(n.look(t))); diff != "" {
		t.Error(diff)
	}
}

// hanging are the routes, rules and neighbours that somebody made, and the addresses but
// for link-local ones, in an order of their own.
func hanging(all map[string]string) (list []string) {
	for name, value := range all {
		for _, what := range []string{"-4 rule", "-6 rule", "-4 -d route", "-6 -d route", "-d route", "neighbour"} {
			if strings.HasPrefix(name, what) && !strings.Contains(value, `"protocol":"kernel"`) {
				list = append(list, value)
			}
		}
		if name == "-d address eth1" || name == "-d address mv1" {
			var link struct {
				Info []map[string]any `json:"addr_info"`
			}
			if err := json.Unmarshal([]byte(value), &link); err != nil {
				panic(err)
			}
			for _, a := range link.Info {
				if a["scope"] != "link" {
					list = append(list, name+" "+fmt.Sprint(a))
				}
			}
		}
	}
	slices.Sort(list)
	return list
}
