package vmtest

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestIntegrationVM boots a guest and checks what all others rely on.
func TestIntegrationVM(t *testing.T) {
	g := Boot(t, Machine{IOMMU: true, Cards: Standard()})
	pci := g.Shell(t, "cat /sys/bus/pci/devices/*/modalias")
	if strings.Count(pci, "v00008086d000010D3") != 2 || strings.Count(pci, "v00001AF4d00001041") != 2 {
		t.Errorf("not two e1000e and two virtio NICs:\n%s", pci)
	}
	g.Shell(t, `
for i in e0 v0; do ip link set $i up; ip -n far link set ${i}far up; done
ip address add 10.0.0.1/24 dev e0; ip -n far address add 10.0.0.2/24 dev e0far
ip address add 10.0.1.1/24 dev v0; ip -n far address add 10.0.1.2/24 dev v0far`)
	g.Reaches(t, "10.0.0.2")
	g.Reaches(t, "10.0.1.2")
	for _, link := range []string{"e0", "v0"} {
		group := g.Shell(t, "ls $(readlink -f /sys/class/net/"+link+"/device | sed 's/virtio[0-9]*$//')/iommu_group/devices | wc -l")
		if strings.TrimSpace(group) != "1" {
			t.Errorf("%s shares its IOMMU group: %s devices", link, group)
		}
	}
	if r := g.Try(t, "sh", "-c", "echo out; echo err >&2; exit 7"); r.Code != 7 || r.Output != "out\n" || r.Errors != "err\n" {
		t.Errorf("a command's end: %v", r)
	}
	sleep := g.Start(t, "sleep", "1000")
	if r := sleep.Kill(); r.Signal != syscall.SIGKILL {
		t.Errorf("a killed command's end: %v", r)
	}
	g.Write(t, Persistent+"/kept", "yes")
	g.Shell(t, "echo no >"+Persistent+"/lost; touch /etc/gone")
	before := g.BootID()
	hang(t, g)
	g.Reboot(t)
	if g.BootID() == before {
		t.Error("the boot id is the same after a reboot")
	}
	if kept := g.Run(t, "cat", Persistent+"/kept"); kept != "yes" {
		t.Errorf("after the reboot the file holds %q", kept)
	}
	if r := g.Try(t, "ls", "/etc/gone"); r.OK() {
		t.Error("the layer in memory survived the reboot")
	}
	crash(t, g)
}

// hang stops the emulator, and checks that this is found out. Only how long that takes is
// cut short.
func hang(t *testing.T, g *Guest) {
	b := g.boot
	if err := b.qemu.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for waiting := true; waiting; {
		b.conn.SetReadDeadline(time.Now()) // after the last of what was under way
		select {
		case <-b.over:
			waiting = false
		case <-time.After(10 * time.Millisecond):
		}
	}
	if !strings.Contains(b.err.Error(), "the guest hangs") {
		t.Errorf("a guest that hangs is said to have ended by: %v", b.err)
	}
}

// crash has the guest's kernel panic, and checks that this is told with the console's end.
func crash(t *testing.T, g *Guest) {
	g.Start(t, "sh", "-c", "echo c >/proc/sysrq-trigger")
	<-g.boot.over
	for _, want := range []string{"kernel panicked", "sysrq triggered crash", "console:"} {
		if !strings.Contains(g.boot.err.Error(), want) {
			t.Errorf("the end of a guest whose kernel panics does not say %q: %v", want, g.boot.err)
		}
	}
}
