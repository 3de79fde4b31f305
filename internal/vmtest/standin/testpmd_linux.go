package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
)

// testpmd is DPDK's program of that name, which forwards between each device and a link
// of the kernel. It dies with this process, as DPDK does that VPP has in itself.
type testpmd struct {
	cmd   *exec.Cmd
	stdin io.Closer
	ended chan struct{}
	err   error // read after ended

	mu   sync.Mutex
	macs map[int]net.HardwareAddr // by port
	up   chan struct{}            // closed when it forwards
}

// links of the kernel that stand for the devices, by the device's place.
func linkOf(i int) string { return "dpdk" + strconv.Itoa(i) }

// startTestpmd starts it on devices that are bound to vfio-pci or uio_pci_generic.
func startTestpmd(devices []device) (*testpmd, error) {
	// DPDK numbers ports of PCI first, by address, then the links.
	args := []string{"-l", "0,1", "--in-memory"}
	var ports []string
	for i, d := range devices {
		args = append(args, "-a", d.pci, "--vdev", fmt.Sprintf("net_tap%d,iface=%s", i, linkOf(i)))
		ports = append(ports, strconv.Itoa(i), strconv.Itoa(len(devices)+i))
	}
	args = append(args, "--", "--forward-mode=io", "--port-topology=paired", "--portlist="+strings.Join(ports, ","),
		"--nb-cores=1", "--total-num-mbufs=8192", "--auto-start")
	p := &testpmd{cmd: exec.Command("dpdk-testpmd", args...), ended: make(chan struct{}), macs: map[int]net.HardwareAddr{}, up: make(chan struct{})}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := p.cmd.StdinPipe() // its end would end testpmd
	if err != nil {
		return nil, err
	}
	p.stdin = stdin
	read, write := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = write, write
	go p.listen(read)
	started := make(chan error)
	go func() {
		// The signal comes when the thread that started the child ends: it is kept.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
		}
		write.Close()
		close(p.ended)
	}()
	return p, <-started
}

var portLine = regexp.MustCompile(`^Port (\d+): ([0-9A-F]{2}(?::[0-9A-F]{2}){5})$`)

// listen passes on what testpmd says, and learns from it.
func (p *testpmd) listen(from io.Reader) {
	for lines := bufio.NewScanner(from); lines.Scan(); {
		line := lines.Text()
		fmt.Fprintln(os.Stderr, "testpmd:", line)
		if m := portLine.FindStringSubmatch(line); m != nil {
			port, err := strconv.Atoi(m[1])
			mac, macErr := net.ParseMAC(m[2])
			if err == nil && macErr == nil {
				p.mu.Lock()
				p.macs[port] = mac
				p.mu.Unlock()
			}
		}
		if strings.HasPrefix(line, "Press enter to exit") {
			close(p.up)
		}
	}
	io.Copy(io.Discard, from) // after a line that is too long
}

// ready waits until it forwards, and sets the links up. Nothing but frames of the device
// shall pass them: no IPv6 of the kernel's, and no ARP, since the kernel would answer for
// each address of the host, with a MAC address that the next testpmd does not have.
func (p *testpmd) ready(ctx context.Context, devices []device) error {
	select {
	case <-p.up:
	case <-p.ended:
		return fmt.Errorf("dpdk-testpmd ended: %v", p.err)
	case <-ctx.Done():
		return ctx.Err()
	}
	for i := range devices {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+linkOf(i)+"/disable_ipv6", []byte("1"), 0); err != nil {
			return err
		}
		link, err := netlink.LinkByName(linkOf(i))
		if err == nil {
			err = errors.Join(netlink.LinkSetARPOff(link), netlink.LinkSetUp(link))
		}
		if err != nil {
			return fmt.Errorf("set %s up: %w", linkOf(i), err)
		}
	}
	return nil
}

func (p *testpmd) mac(i int) ([6]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.macs[i]) != 6 {
		return [6]byte{}, fmt.Errorf("dpdk-testpmd named no MAC of port %d", i)
	}
	return [6]byte(p.macs[i]), nil
}

// stop has it close its ports; it is killed when it does not.
func (p *testpmd) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM) // an error means that it has ended
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		p.cmd.Process.Kill()
		<-p.ended
	}
	p.stdin.Close()
}
