package vmtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/vmtest/protocol"
)

const (
	// silence is how long the guest may say nothing before it counts as hung; it says
	// something every second, but a busy machine emulates slowly.
	silence = 3 * time.Minute
	// patience is how long a single wait for something in the guest takes before it fails.
	patience = 5 * time.Minute
)

// Guest is a running virtual machine.
type Guest struct {
	machine Machine
	parts   parts
	boot    *boot
}

// boot is the guest from power on to power off.
type boot struct {
	qemu *qemu
	conn net.Conn
	id   string        // the kernel's boot id
	over chan struct{} // closed when nothing more will be heard

	send sync.Mutex
	out  *json.Encoder

	mu       sync.Mutex
	commands []*Process // by id - 1
	err      error      // why it is over
}

// Boot starts a guest and waits until its links have their names. It skips the test where
// QEMU or the kernel are missing, and waits while another guest runs on this machine: a
// test must not boot a second one beside its first.
func Boot(t testing.TB, m Machine) *Guest {
	t.Helper()
	g := &Guest{machine: m, parts: findParts(t)}
	takeTurn(t, g.parts.lock)
	// There is one guest at a time: what is there was left by a test that was killed.
	if err := os.RemoveAll(g.parts.run); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(g.parts.run) })
	tools := filepath.Join(g.parts.run, "tools")
	if err := os.MkdirAll(tools, 0o755); err != nil {
		t.Fatal(err)
	}
	build(t, m, tools)
	if err := makeDisk(g.disk()); err != nil {
		t.Fatal(err)
	}
	g.power(t)
	t.Cleanup(func() { g.boot.off() })
	return g
}

func (g *Guest) disk() string { return filepath.Join(g.parts.run, "disk") }

// makeDisk makes an image of an empty ext4 file system.
func makeDisk(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(64<<20), f.Close()); err != nil {
		return err
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", file).CombinedOutput(); err != nil {
		return fmt.Errorf("make file system: %w: %s", err, out)
	}
	return nil
}

// Reboot cuts the guest's power and boots it again. What was synced to Persistent is there
// afterwards, and nothing else.
func (g *Guest) Reboot(t testing.TB) {
	t.Helper()
	g.boot.off()
	g.power(t)
}

// BootID is the kernel's id of the present boot.
func (g *Guest) BootID() string { return g.boot.id }

// power switches the guest on.
func (g *Guest) power(t testing.TB) {
	t.Helper()
	begin := time.Now()
	socket := filepath.Join(g.parts.run, "port")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // which removes the file
	q, err := startQEMU(g.parts.qemu, g.arguments(socket))
	if err != nil {
		t.Fatalf("start qemu: %v", err)
	}
	b := &boot{qemu: q, over: make(chan struct{})}
	g.boot = b
	l.(*net.UnixListener).SetDeadline(time.Now().Add(patience))
	if b.conn, err = l.Accept(); err != nil {
		q.kill()
		t.Fatalf("qemu does not connect: %v\n%s", err, q.tail())
	}
	b.out = json.NewEncoder(b.conn)
	hello := make(chan string, 1)
	go b.listen(hello)
	select {
	case b.id = <-hello:
	case <-b.over:
		t.Fatalf("boot: %v", b.err)
	}
	g.Shell(t, g.machine.setup())
	t.Logf("the guest is up after %.1f s", time.Since(begin).Seconds())
}

// arguments is QEMU's command line.
func (g *Guest) arguments(socket string) []string {
	kernel := "console=ttyS0 loglevel=4 panic=-1 oops=panic nowatchdog"
	if g.machine.IOMMU {
		kernel += " intel_iommu=on"
	}
	memory := g.machine.MemoryMiB
	if memory == 0 {
		memory = 2048
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		// Hardware acceleration is not the same on every machine, emulation is.
		"-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", fmt.Sprint(memory),
		"-kernel", g.parts.vmlinux, "-initrd", g.parts.initramfs, "-append", kernel,
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
	}
	args = append(args, g.machine.hardware()...) // an IOMMU has to come before its devices
	args = append(args, "-device", "virtio-serial-pci",
		"-chardev", "socket,id=port,path="+socket, "-device", "virtserialport,chardev=port,name="+protocol.Port,
		"-drive", "if=none,id=disk,format=raw,cache=unsafe,file="+g.disk(), "-device", "virtio-blk-pci,drive=disk")
	for _, share := range [][2]string{{"root", "/"}, {"modules", g.parts.modules}, {"tools", filepath.Join(g.parts.run, "tools")}} {
		args = append(args, "-fsdev", fmt.Sprintf("local,id=%s,path=%s,security_model=none,readonly=on,multidevs=remap", share[0], share[1]),
			"-device", fmt.Sprintf("virtio-9p-pci,fsdev=%s,mount_tag=%s", share[0], share[0]))
	}
	return args
}

// listen hands on what the guest says, until it is over.
func (b *boot) listen(hello chan<- string) {
	replies := json.NewDecoder(b.conn)
	for {
		b.conn.SetReadDeadline(time.Now().Add(silence))
		var r protocol.Reply
		if err := replies.Decode(&r); err != nil {
			b.finish(err)
			return
		}
		switch {
		case r.Hello != "":
			hello <- r.Hello
		case r.ID != 0:
			b.command(r.ID).hear(r)
		}
	}
}

// finish records why nothing more is heard, and ends what may be left.
func (b *boot) finish(err error) {
	why := ""
	if errors.Is(err, os.ErrDeadlineExceeded) {
		why = fmt.Sprintf("the guest hangs: nothing heard for %v", silence)
		b.qemu.kill()
	} else {
		// QEMU closes the port a moment before it ends.
		select {
		case <-b.qemu.ended:
		case <-time.After(time.Minute):
			b.qemu.kill()
		}
		why = b.qemu.cause()
	}
	b.conn.Close()
	b.mu.Lock()
	b.err = fmt.Errorf("%s\n%s", why, b.qemu.tail())
	b.mu.Unlock()
	close(b.over)
}

// off cuts the power and waits until all is gone.
func (b *boot) off() {
	b.qemu.kill()
	if b.out != nil {
		<-b.over
	}
}

func (b *boot) command(id int) *Process {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.commands[id-1]
}
