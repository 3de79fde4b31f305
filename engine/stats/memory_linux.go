package stats

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mapMemory makes a sealed memory file of size bytes and maps it. Readers may rely on
// its size: it can neither shrink nor grow. Pages that nobody touches are not resident.
func mapMemory(size int) (*os.File, []byte, error) {
	fd, err := unix.MemfdCreate("millrace-stats", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, nil, fmt.Errorf("create stats memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "millrace-stats")
	if err := f.Truncate(int64(size)); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("size stats memory to %d bytes: %w", size, err), f.Close())
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("seal stats memory: %w", err), f.Close())
	}
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("map stats memory: %w", err), f.Close())
	}
	return f, mem, nil
}

func unmapMemory(mem []byte) error { return unix.Munmap(mem) }
