package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/vppmanager/inventory"
)

func (n Node) program(path string) inventory.File {
	f := inventory.File{Path: path}
	info, err := os.Stat(n.path(path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Missing = true
	case err != nil:
		f.Problem = "cannot be read: " + reason(err)
	case info.IsDir():
		f.Problem = "is a directory"
	case !info.Mode().IsRegular():
		f.Problem = "is not a program"
	case info.Mode()&0o111 == 0:
		f.Problem = fmt.Sprintf("is not executable (mode %04o)", info.Mode().Perm())
	}
	return f
}

// plugins are those in the directory where this VPP looks for them: below the parent of
// its program's directory, at a place chosen when it was built (VPP_LIBRARY_DIR: lib64, or
// lib/x86_64-linux-gnu). None when there is not exactly one such directory.
func (n Node) plugins(program string) ([]string, error) {
	if program == "" {
		return nil, nil
	}
	at, err := filepath.EvalSymlinks(n.path(program)) // VPP goes by /proc/self/exe
	if err != nil {
		return nil, nil // program says so
	}
	var dirs []string
	for _, pattern := range []string{"lib*/vpp_plugins", "lib/*/vpp_plugins"} {
		found, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(at)), pattern))
		if err != nil {
			return nil, fmt.Errorf("find plugins of %s: %w", program, err)
		}
		dirs = append(dirs, found...)
	}
	if len(dirs) != 1 {
		return nil, nil
	}
	files, err := os.ReadDir(dirs[0])
	if err != nil {
		return nil, fmt.Errorf("list plugins of %s: %w", program, cause(err))
	}
	var names []string
	for _, f := range files {
		if name, ok := strings.CutSuffix(f.Name(), "_plugin.so"); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// deviceFiles reads the devices that dataplanes open, after the modules behind them.
func (r *reading) deviceFiles() {
	live, err := r.miscDevices()
	r.note(err)
	for _, d := range []struct {
		into               *inventory.File
		path, misc, module string
	}{
		{&r.inv.Tun, "/dev/net/tun", "tun", "tun"},
		{&r.inv.VhostNet, "/dev/vhost-net", "vhost-net", "vhost_net"},
		{&r.inv.VFIO, "/dev/vfio/vfio", "vfio", "vfio"},
	} {
		f := r.openable(d.path, live == nil || live[d.misc])
		if f.Usable() && live != nil && !live[d.misc] && r.inv.Module(d.module) != inventory.ModuleAvailable {
			f.Problem = "its kernel module " + d.module + " is not there"
		}
		*d.into = f
	}
}

// openable tries a device: being there is not enough, a container may still be kept from it.
// One whose module is not loaded is not opened, since that would load it.
func (n Node) openable(path string, live bool) inventory.File {
	f := inventory.File{Path: path}
	if _, err := os.Lstat(n.path(path)); errors.Is(err, fs.ErrNotExist) {
		f.Missing = true
		return f
	}
	if !live {
		if err := unix.Access(n.path(path), unix.R_OK|unix.W_OK); err != nil {
			f.Problem = err.Error()
		}
		return f
	}
	file, err := os.OpenFile(n.path(path), os.O_RDWR|unix.O_NONBLOCK, 0)
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		f.Problem = reason(err)
	}
	return f
}

// miscDevices are the names of the misc devices that drivers have registered; nil when the
// kernel does not tell.
func (n Node) miscDevices() (map[string]bool, error) {
	data, err := n.read("/proc/misc")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	live := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) == 2 {
			live[f[1]] = true
		}
	}
	return live, nil
}
