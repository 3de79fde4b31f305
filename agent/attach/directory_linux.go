package attach

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// unfinishedPrefix begins the names of files that are being written.
const unfinishedPrefix = ".new-"

// directory is the journal's directory on a real disk, locked for one process. The kernel
// lets go of the lock when the process ends, however it ends.
type directory struct {
	fs.FS
	root   *os.Root
	handle *os.File
	serial atomic.Uint64
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

// Replace writes beside, syncs, renames and syncs the directory.
func (d *directory) Replace(name string, data []byte) error {
	unfinished := unfinishedPrefix + strconv.FormatUint(d.serial.Add(1), 10)
	err := d.write(unfinished, data)
	if err == nil {
		err = d.root.Rename(unfinished, name)
	}
	if err != nil {
		if gone := d.root.Remove(unfinished); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
		return err
	}
	return d.handle.Sync()
}

func (d *directory) write(name string, data []byte) error {
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Remove removes a file and syncs the directory.
func (d *directory) Remove(name string) error {
	err := d.root.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return d.handle.Sync()
}

// bootID is the kernel's name for the time since its start.
func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}
