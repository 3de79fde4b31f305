package interop

import (
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/memif"
)

// testpmd is DPDK's packet forwarder with one memif port, which sends what it receives
// back by the same queue.
type testpmd struct {
	*process
	input io.WriteCloser
}

// testpmdConfig is one port.
type testpmdConfig struct {
	role    memif.Role
	address string // a path, or @name
	queues  int
	options string // further device arguments, each with a comma before it
}

func (c testpmdConfig) args(cpus string) []string {
	device := fmt.Sprintf("net_memif0,role=%s,socket=%s,socket-abstract=no%s", c.role, c.address, c.options)
	if name, ok := strings.CutPrefix(c.address, "@"); ok {
		device = fmt.Sprintf("net_memif0,role=%s,socket=%s,socket-abstract=yes%s", c.role, name, c.options)
	}
	return []string{
		"--lcores", fmt.Sprintf("0@(%s),1@(%[1]s)", cpus), "--no-pci", "--no-telemetry", "--no-huge", "--no-shconf", "-m", "256",
		"--single-file-segments", // for zero-copy=yes
		"--vdev", device, "--", "-i", "--nb-cores=1", "--port-topology=loop", "--forward-mode=io", "--no-flush-rx",
		fmt.Sprintf("--rxq=%d", c.queues), fmt.Sprintf("--txq=%d", c.queues), "--total-num-mbufs=8192",
	}
}

func needTestpmd(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("short: takes a minute")
	}
	path, err := exec.LookPath("dpdk-testpmd")
	if err != nil {
		t.Skip("needs dpdk-testpmd: Debian package dpdk-dev (scripts/setup.sh dpdk)")
	}
	return path
}

// startTestpmd starts it and its forwarding, and ends it with the test.
func startTestpmd(t testing.TB, c testpmdConfig) *testpmd {
	t.Helper()
	// Without a terminal it would hold back what it says.
	cmd := exec.Command("stdbuf", append([]string{"-oL", needTestpmd(t)}, c.args(cpus(t))...)...)
	cmd.Env = append(cmd.Environ(), "RUNTIME_DIRECTORY="+t.TempDir())
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &testpmd{startProcess(t, "testpmd", cmd), input}
	p.forward(t)
	return p
}

func (p *testpmd) forward(t testing.TB) {
	t.Helper()
	p.say(t, "start")
	p.until(t, regexp.MustCompile(`io packet forwarding`))
}

// rest stops the forwarding. DPDK 22.11 unmaps the memory of a peer that ends under its
// own forwarding thread, and then often dies of it.
func (p *testpmd) rest(t testing.TB) {
	t.Helper()
	p.say(t, "stop")
	p.until(t, regexp.MustCompile(`Waiting for lcores to finish`))
	p.until(t, regexp.MustCompile(`Done\.`))
}

func (p *testpmd) say(t testing.TB, command string) {
	t.Helper()
	if _, err := io.WriteString(p.input, command+"\n"); err != nil {
		t.Fatalf("tell testpmd %q: %v", command, err)
	}
}

// received is how many frames its port counted.
func (p *testpmd) received(t testing.TB) int {
	t.Helper()
	p.say(t, "show port stats 0")
	m := p.until(t, regexp.MustCompile(`RX-packets:\s+(\d+)`))
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// cpus lists those we may run on, as DPDK wants them told.
func cpus(t testing.TB) string {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	var list []string
	for n := range 1024 {
		if set.IsSet(n) {
			list = append(list, strconv.Itoa(n))
		}
	}
	return strings.Join(list, ",")
}

// address is a path without commas, which would end DPDK's option.
func address(t testing.TB) string { return filepath.Join(t.TempDir(), "memif.sock") }
