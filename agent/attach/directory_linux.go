package attach

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// directory is the journal's directory on a real disk, locked for one process. The kernel
// lets go of the lock when the process ends, however it ends.
type directory struct {
	fs.FS
	root   *os.Root
	handle *os.File
}

func openDirectory(path string) (*directory, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	handle, err := root.Open(".")
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	d := &directory{FS: root.FS(), root: root, handle: handle}
	err = unix.Flock(int(handle.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errors.New("another agent holds it; stop that one, or give this one a --state-dir of its own")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock: %w", err), d.Close())
	}
	return d, nil
}

// Close unlocks the directory.
func (d *directory) Close() error { return errors.Join(d.handle.Close(), d.root.Close()) }

// Create opens a file for writing, for root alone.
func (d *directory) Create(name string) (file, error) {
	return d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
}

// Rename renames a file over another.
func (d *directory) Rename(from, to string) error { return d.root.Rename(from, to) }

// Remove removes a file.
func (d *directory) Remove(name string) error { return d.root.Remove(name) }

// Sync makes the names durable.
func (d *directory) Sync() error { return d.handle.Sync() }

// bootID is the kernel's name for the time since its start.
func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}
