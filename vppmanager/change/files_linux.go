package change

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// path is an absolute path of the host, below the tree that stands for it.
func (h Host) path(parts ...string) string {
	return filepath.Join(append([]string{h.Root}, parts...)...)
}

func (h Host) read(parts ...string) (string, error) {
	text, err := os.ReadFile(h.path(parts...))
	return strings.TrimSpace(string(text)), err
}

func (h Host) number(parts ...string) (int, error) {
	text, err := h.read(parts...)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", h.path(parts...), err)
	}
	return n, nil
}

// write writes one line to a file of the kernel, in one call and never making the file.
func (h Host) write(value string, parts ...string) error {
	f, err := os.OpenFile(h.path(parts...), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	h.reached("write " + filepath.Join(parts...))
	return nil
}

// target is the last part of what a symbolic link leads to; "" when there is none.
func (h Host) target(parts ...string) (string, error) {
	to, err := os.Readlink(h.path(parts...))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return filepath.Base(to), nil
}

func (h Host) there(parts ...string) bool {
	_, err := os.Stat(h.path(parts...))
	return err == nil
}

// bootID is the kernel's name for the time since its start.
func (h Host) bootID() (string, error) {
	id, err := h.read("proc/sys/kernel/random/boot_id")
	if err == nil && id == "" {
		err = errors.New("it is empty")
	}
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return id, nil
}
