package engine

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// listen makes a unix socket at path, mode 0660, and its directory. A socket file that
// nobody listens on any more is replaced; another file, or a live socket, is an error.
// Closing the listener removes the file.
func listen(network, path string) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make directory of socket: %w", err)
	}
	if err := removeStale(network, path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		return nil, fmt.Errorf("listen on socket: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(fmt.Errorf("set mode of socket: %w", err), l.Close())
	}
	return l, nil
}

func removeStale(network, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at socket: %w", err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("listen on %s: a file that is no socket is in the way; move it", path)
	}
	conn, err := net.Dial(network, path)
	if err == nil {
		return errors.Join(fmt.Errorf("listen on %s: another process serves it (a running VPP or engine?)", path), conn.Close())
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove stale socket: %w", err)
	}
	return nil
}
