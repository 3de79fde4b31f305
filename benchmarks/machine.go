package benchmarks

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is the stamp a result carries, so that nobody compares two machines unaware.
type Machine struct {
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`
	MemoryMB int    `json:"memoryMB"`
	Kernel   string `json:"kernel"`
	OS       string `json:"os"`
	Go       string `json:"go"`
	Arch     string `json:"arch"`
}

// ThisMachine reads the stamp of the machine it runs on.
func ThisMachine() (Machine, error) {
	m := Machine{Cores: runtime.NumCPU(), Go: runtime.Version(), Arch: runtime.GOARCH}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return m, fmt.Errorf("read kernel version: %w", err)
	}
	m.Kernel = unix.ByteSliceToString(uts.Release[:])
	var err error
	if m.CPU, err = field("/proc/cpuinfo", ":", "model name"); err != nil {
		m.CPU = "unknown (" + runtime.GOARCH + ")" // arm64 kernels print no model name
	}
	mem, err := field("/proc/meminfo", ":", "MemTotal")
	if err != nil {
		return m, err
	}
	kb, err := strconv.Atoi(strings.TrimSuffix(mem, " kB"))
	if err != nil {
		return m, fmt.Errorf("read memory size: %w", err)
	}
	m.MemoryMB = kb / 1024
	if m.OS, err = field("/etc/os-release", "=", "PRETTY_NAME"); err != nil {
		m.OS = "unknown"
	}
	m.OS = strings.Trim(m.OS, `"`)
	return m, nil
}

// field returns the value of the first line `key <sep> value` of a file.
func field(path, sep, key string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		k, v, ok := strings.Cut(lines.Text(), sep)
		if ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v), nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	return "", fmt.Errorf("read %s: no line %q", path, key)
}
