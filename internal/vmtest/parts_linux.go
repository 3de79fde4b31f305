package vmtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// parts is where scripts/vm.sh left what a guest is started from.
type parts struct {
	qemu, vmlinux, initramfs, modules string

	lock string // held while a guest runs
	run  string // directory of the guest that runs: socket, disk, tools
}

// findParts skips the test where something is missing.
func findParts(t testing.TB) parts {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: the guest reads the machine's own files")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("needs a kernel for the virtual machine: %v", err)
	}
	cache = filepath.Join(cache, "millrace", "vm")
	p := parts{lock: filepath.Join(cache, "run.lock"), run: filepath.Join(cache, "run")}
	if p.qemu, err = exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("needs qemu-system-x86_64: scripts/vm.sh installs it on Debian 12")
	}
	dir, err := filepath.EvalSymlinks(filepath.Join(cache, "current"))
	if err != nil {
		t.Skipf("needs a kernel for the virtual machine (%v): scripts/vm.sh fetches it, once", err)
	}
	p.vmlinux, p.initramfs = filepath.Join(dir, "vmlinux"), filepath.Join(dir, "initramfs")
	p.modules = filepath.Join(dir, "modules", filepath.Base(dir))
	for _, file := range []string{p.vmlinux, p.initramfs, p.modules} {
		if _, err := os.Stat(file); err != nil {
			t.Skipf("needs %s: scripts/vm.sh makes it", file)
		}
	}
	return p
}

// takeTurn waits until no other test on this machine runs a guest: one has enough to do for
// two processors. The turn ends with the test, or with its process.
func takeTurn(t testing.TB, file string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		return
	}
	t.Log("waiting for another virtual machine to end")
	for {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		t.Fatalf("lock %s: %v", file, err)
	}
}

// build compiles the agent and what the machine's tests asked for into a directory.
func build(t testing.TB, m Machine, dir string) {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	command := func(args ...string) {
		cmd := exec.Command("go", args...)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
	}
	command(append([]string{"build", "-o", dir + "/", "./internal/vmtest/agent", "./internal/vmtest/hoststate"}, m.Tools...)...)
	for _, pkg := range m.Tests {
		command("test", "-c", "-o", filepath.Join(dir, filepath.Base(pkg)+".test"), pkg)
	}
}

// moduleRoot is the directory of go.mod above the test's.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("find go.mod: none above the test's directory")
}
