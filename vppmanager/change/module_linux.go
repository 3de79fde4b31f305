package change

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// moduleCalls are the kernel's calls that load and unload.
type moduleCalls struct {
	insert func(file string) error
	remove func(module string) error
}

func (h Host) moduleCalls() moduleCalls {
	if h.modules.insert != nil {
		return h.modules
	}
	return moduleCalls{insertModule, func(m string) error { return unix.DeleteModule(m, unix.O_NONBLOCK) }}
}

func inUse(err error) bool {
	return errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOENT)
}

// load has modprobe load a module, which knows the host's options and bans, or loads it by
// itself where there is no modprobe (a container): then without options.
func (h Host) load(ctx context.Context, module string) error {
	if h.present(module) {
		return nil
	}
	if modprobe, err := exec.LookPath("modprobe"); err == nil && h.Root == "/" {
		out, err := exec.CommandContext(ctx, modprobe, "--", module).CombinedOutput()
		if err != nil {
			return fmt.Errorf("modprobe %s: %w: %s", module, err, strings.TrimSpace(string(out)))
		}
		h.reached("modprobe")
		return nil
	}
	l, err := h.library()
	if err != nil {
		return fmt.Errorf("find module %s: %w: install the kernel's modules, or give the container /lib/modules", module, err)
	}
	if l.built[moduleName(module)] {
		return nil
	}
	if l.files[moduleName(module)] == "" {
		return fmt.Errorf("this kernel has no module %s", module)
	}
	for _, m := range l.order(moduleName(module)) {
		file := l.files[m]
		if file == "" || h.present(m) {
			continue // a soft need that there is not
		}
		if err := h.moduleCalls().insert(h.path(file)); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", file, err)
		}
		h.reached("insert")
	}
	return nil
}

// insertModule loads one file. Only gzip is unpacked here; other packings the kernel has
// to know.
func insertModule(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	switch {
	case strings.HasSuffix(file, ".ko"):
		return unix.FinitModule(int(f.Fd()), "", 0)
	case strings.HasSuffix(file, ".gz"):
		z, err := gzip.NewReader(f)
		if err != nil {
			return err
		}
		var image bytes.Buffer
		if _, err := io.Copy(&image, io.LimitReader(z, 256<<20)); err != nil {
			return err
		}
		return unix.InitModule(image.Bytes(), "")
	}
	const compressedFile = 4 // MODULE_INIT_COMPRESSED_FILE of linux/module.h
	if err := unix.FinitModule(int(f.Fd()), "", compressedFile); err != nil {
		return fmt.Errorf("%w (the kernel may not be able to unpack it: install kmod)", err)
	}
	return nil
}
