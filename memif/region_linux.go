package memif

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// region is one mapped file.
type region struct {
	mem []byte
	fd  int // a client's own, until the link is up; -1 else
	// sealed says that nobody can take the memory away: reading it cannot fault.
	sealed bool
}

// Seals of a client's own region: the server relies on none shrinking it, and so do we.
const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// newRegion makes a region of n bytes.
func newRegion(n int) (region, error) {
	fd, err := unix.MemfdCreate("memif", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return region{}, fail(System, "make memory file: %w", err)
	}
	r := region{fd: fd, sealed: true}
	if err := unix.Ftruncate(fd, int64(n)); err != nil {
		closeFD(fd)
		return region{}, fail(System, "make memory file of %d bytes: %w", n, err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		closeFD(fd)
		return region{}, fail(System, "seal memory file: %w", err)
	}
	r.mem, err = unix.Mmap(fd, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		closeFD(fd)
		return region{}, fail(System, "map %d bytes: %w", n, err)
	}
	return r, nil
}

// mapRegion maps a client's file for a server. It takes memory files only: reading another
// kind of file could block for ever. A file that can still shrink is mapped too (DPDK's
// zero-copy client cannot seal its own): its link then works under a guard.
func mapRegion(fd int, size uint64, most int64) (region, error) {
	if most < 0 || size == 0 || size > uint64(most) {
		return region{}, fail(Protocol, "region of %d bytes: want 1 to %d", size, most)
	}
	// Only memory files have seals: memfds, tmpfs and hugetlbfs. This is also the one look at
	// a file that no file system can hold up, so it is the first. And seals come before the
	// size: a file that is sealed by now keeps the size it is seen with, while one that is
	// looked at first could shrink before it is sealed.
	has, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return region{}, fail(Protocol, "region is no file of memory (memfd, tmpfs or hugetlbfs): %w", err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return region{}, fail(System, "look at region: %w", err)
	}
	// On 32 bits Type is signed, and the number of hugetlbfs is not.
	huge := uint32(fs.Type) == unix.HUGETLBFS_MAGIC
	if huge && size%uint64(fs.Bsize) != 0 {
		return region{}, fail(Protocol, "region of %d bytes: want whole pages of %d", size, fs.Bsize)
	}
	// Memory of huge pages can be punched out of a sealed file and then be unobtainable.
	r := region{fd: -1, sealed: has&unix.F_SEAL_SHRINK != 0 && !huge}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return region{}, fail(System, "look at region: %w", err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return region{}, fail(Protocol, "region is no regular file")
	case st.Size < 0 || uint64(st.Size) < size:
		return region{}, fail(Protocol, "region of %d bytes comes with a file of %d", size, st.Size)
	}
	if r.mem, err = unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		kind := System
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EBADF) {
			kind = Protocol // it may not be written, or is only a path
		}
		return region{}, fail(kind, "map region of %d bytes: %w", size, err)
	}
	return r, nil
}

func (r *region) close() error {
	closeFD(r.fd)
	r.fd = -1
	if r.mem == nil {
		return nil
	}
	mem := r.mem
	r.mem = nil
	if err := unix.Munmap(mem); err != nil {
		return fail(System, "unmap region: %w", err)
	}
	return nil
}

// checkEventFD refuses a descriptor that is no eventfd: a write to a pipe or a socket could
// block, and one to a file would be an odd thing to do.
func checkEventFD(fd int) error {
	what, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return fail(System, "look at ring's eventfd: %w", err)
	}
	if what != "anon_inode:[eventfd]" {
		return fail(Protocol, "ring comes with no eventfd but %q", what)
	}
	return nil
}
