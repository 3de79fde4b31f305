package vmtest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestIntegrationVMWays has the manager take NICs by vfio-pci and give them back, whatever
// ends it.
func TestIntegrationVMWays(t *testing.T) {
	g := Boot(t, Machine{IOMMU: true, Cards: Standard(), Tools: []string{"./cmd/millrace", "./internal/vmtest/standin"}})
	w := ways{config: nodeConfig("", "e0", "v0"), driver: "vfio-pci", says: "RX-packets:"}
	steps(t, g, w.config, step{"bad dataplane", badDataplane}, step{"stop", w.stops},
		step{"kill dataplane", w.killsDataplane}, step{"kill manager", w.killsManager}, step{"reboot", w.reboots})
}

// ways are what ends a manager that has taken both NICs.
type ways struct {
	config string
	driver string // of the kernel, that the devices have while they are taken
	says   string // what the dataplane says at its end
}

// managed is a manager in the guest.
type managed struct {
	*Process
	g *Guest
}

// startManager starts one and waits until its dataplane is ready.
func startManager(t *testing.T, g *Guest) managed {
	t.Helper()
	m := managed{g.Start(t, millrace, "manager", "--config", configFile), g}
	m.ready(1)
	return m
}

// ready waits until the dataplane was ready so many times.
func (m managed) ready(times int) {
	m.t.Helper()
	m.WaitUntil(fmt.Sprintf("the dataplane is ready %d times", times), func(output string) bool {
		return len(readyLine.FindAllString(output, -1)) >= times
	})
}

var readyLine = regexp.MustCompile(`dataplane ready.*pid=(\d+)`)

// dataplane is the process that was ready last.
func (m managed) dataplane() string {
	m.t.Helper()
	all := readyLine.FindAllStringSubmatch(m.Output(), -1)
	if len(all) == 0 {
		m.t.Fatalf("no dataplane was ready:\n%s", m.Output())
	}
	return all[len(all)-1][1]
}

// stop ends it as systemd does, and wants a clean end.
func (m managed) stop() {
	m.t.Helper()
	m.Signal(syscall.SIGTERM)
	if r := m.Wait(); !r.OK() {
		m.t.Errorf("the manager ended badly: %v", r)
	}
}

// carries wants frames between the host and the far end of the links, both ways and by
// both families, while the devices are DPDK's.
func carries(t *testing.T, g *Guest, driver string, before State) {
	t.Helper()
	for _, device := range []string{"0000:01:00.0", "0000:02:00.0"} {
		if now := strings.TrimSpace(g.Run(t, "readlink", "/sys/bus/pci/devices/"+device+"/driver")); !strings.HasSuffix(now, "/"+driver) {
			t.Errorf("the driver of %s is %s, want %s", device, now, driver)
		}
	}
	for _, addr := range farAddresses() {
		g.Reaches(t, addr)
	}
	for _, addr := range []string{"10.0.0.1", "10.0.0.9", "10.0.1.1", "fd00::1", "fd01::1"} {
		g.Reaches(t, addr, "ip", "netns", "exec", Far)
	}
	// What the host had on its NICs is on the links of the same names.
	now := g.HostState(t)
	for _, aspect := range []string{"links", "routes", "rules", "rules6", "neighbours"} {
		for _, line := range before[aspect] {
			if (aspect != "links" || strings.Contains(line, " addr_info ")) && !slices.Contains(now[aspect], line) {
				t.Errorf("while the dataplane has the NICs, the host lacks of its %s:\n  %s", aspect, line)
			}
		}
	}
}

// stops: both NICs are taken by DPDK, carry the host's traffic, and come back.
func (w ways) stops(t *testing.T, g *Guest, before State) {
	m := startManager(t, g)
	carries(t, g, w.driver, before)
	m.stop()
	if out := m.Output(); !strings.Contains(out, w.says) {
		t.Errorf("the dataplane did not say %q:\n%s", w.says, out)
	}
	g.Returns(t, before)
}

// killsDataplane: the NICs stay where they are, and the next dataplane goes on.
func (w ways) killsDataplane(t *testing.T, g *Guest, before State) {
	m := startManager(t, g)
	carries(t, g, w.driver, before)
	g.Run(t, "kill", "-9", m.dataplane())
	m.ready(2)
	carries(t, g, w.driver, before)
	m.stop()
	g.Returns(t, before)
}

// killsManager: its dataplane dies with it, and either the next manager or the verb undo
// finds the way back.
func (w ways) killsManager(t *testing.T, g *Guest, before State) {
	m := startManager(t, g)
	m.Kill()
	gone(t, g, m.dataplane())
	g.Run(t, millrace, "manager", "undo", "--config", configFile)
	g.Returns(t, before)

	m = startManager(t, g)
	m.Kill()
	m = startManager(t, g)
	carries(t, g, w.driver, before)
	m.stop()
	g.Returns(t, before)
}

// gone waits until a process of the guest is.
func gone(t *testing.T, g *Guest, pid string) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Second) {
		if r := g.Try(t, "kill", "-0", pid); !r.OK() {
			return
		}
	}
	t.Fatalf("process %s is still there", pid)
}

// reboots cuts the power under a running manager. The journal is all that is left of it.
func (w ways) reboots(t *testing.T, g *Guest, _ State) {
	startManager(t, g)
	boot := g.BootID()
	g.Reboot(t)
	if g.BootID() == boot {
		t.Fatal("the guest did not boot anew")
	}
	g.Run(t, "test", "-s", stateDir+"/manager.journal")
	furnishes(t, g)
	g.Write(t, configFile, w.config)
	before := g.Settled(t)
	m := startManager(t, g)
	carries(t, g, w.driver, before)
	m.Signal(syscall.SIGTERM)
	if r := m.Wait(); !r.OK() {
		t.Errorf("the manager ended badly: %v", r)
	}
	g.Returns(t, before)
}

// badDataplane has the manager meet programs that are no dataplane: the NIC comes back.
func badDataplane(t *testing.T, g *Guest, before State) {
	g.Write(t, "/etc/bad.yaml", strings.Replace(nodeConfig("", "e0"), Tools+"/standin", "/bin/false", 1))
	r := g.Try(t, millrace, "manager", "--config", "/etc/bad.yaml")
	if r.OK() || !strings.Contains(r.Errors, "exited with code 1") {
		t.Errorf("a program that ends at once: %v", r)
	}
	g.Returns(t, before)
}
