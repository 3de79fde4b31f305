package memif_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/millrace/millrace/memif"
	"golang.org/x/sys/unix"
)

// TestIntegrationStuckFile: the peer passes files of a file system that it serves itself,
// and that never answers again: looking at such a file waits, and so does closing it. The
// connection ends all the same, and the next client is served.
func TestIntegrationStuckFile(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: to mount a FUSE file system in a mount namespace of its own")
	}
	leaksNothing(t)
	file := newStuckFile(t)
	h := newHost(t, memif.Server, time.Second, memif.Config{MaxMemory: hostMemory})
	var lies []lie
	for i := range 5 {
		name := func(what string) string { return fmt.Sprintf("stuck file as %s, %d", what, i) }
		lies = append(lies,
			lie{name("region"), func(_ *testing.T, g *guest) { g.steps[stepRegion].fds = []int{file} }, "is no file of memory", memif.Protocol},
			lie{name("eventfd"), func(_ *testing.T, g *guest) { g.steps[stepUp].fds = []int{file} }, "no eventfd", memif.Protocol},
			lie{name("a gift"), func(_ *testing.T, g *guest) {
				g.steps[stepInit].fds = []int{file} // the kernel's to close
				g.steps[stepConnect] = step{rawDisconnect(0, ""), []int{file}}
				g.steps = append(g.steps[:stepUp], g.steps[stepConnect])
			}, "", memif.Refused})
	}
	h.hears(t, lies)
}

// newStuckFile mounts a FUSE file system and opens a file of it. It answers until then.
func newStuckFile(t *testing.T) int {
	t.Helper()
	opened, end, ended := make(chan any, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread and its namespace end here
		fd, unmount, err := mountStuck(t.TempDir())
		if err != nil {
			opened <- err
			return
		}
		opened <- fd
		<-end
		err = unmount()
		if last := unix.Close(fd); last != nil && !errors.Is(last, unix.ENOTCONN) {
			err = errors.Join(err, last)
		}
		ended <- err
	}()
	switch got := (<-opened).(type) {
	case int:
		t.Cleanup(func() {
			close(end)
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		return got
	case error:
		t.Skipf("no FUSE: %v", got)
	}
	return -1
}

func mountStuck(dir string) (fd int, unmount func() error, err error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return -1, nil, os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, nil, os.NewSyscallError("make mounts private", err)
	}
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, nil, os.NewSyscallError("open /dev/fuse", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", dev)
	if err := unix.Mount("hostile", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return -1, nil, errors.Join(os.NewSyscallError("mount fuse", err), unix.Close(dev))
	}
	served := make(chan error, 1)
	go func() { served <- errors.Join(serveStuck(dev), unix.Close(dev)) }()
	unmount = func() error {
		return errors.Join(os.NewSyscallError("unmount fuse", unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH)), <-served)
	}
	if fd, err = unix.Open(filepath.Join(dir, "file"), unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return -1, nil, errors.Join(os.NewSyscallError("open stuck file", err), unmount())
	}
	return fd, unmount, nil
}

// serveStuck answers what it takes to open a file, and nothing else, until it is unmounted.
// See fuse.h of Linux: requests begin with length, operation u32 and id u64, answers with
// length u32, error i32 and id.
func serveStuck(dev int) error {
	const lookup, open, initialize = 1, 14, 26
	attributes := func(b []byte) { // struct fuse_attr
		le.PutUint64(b, 2)                       // inode
		le.PutUint64(b[8:], guestBytes)          // size
		le.PutUint32(b[60:], unix.S_IFREG|0o666) // mode
		le.PutUint32(b[64:], 1)                  // links
	}
	in := make([]byte, 1<<17)
	for {
		n, err := unix.Read(dev, in)
		switch {
		case errors.Is(err, unix.ENODEV): // unmounted
			return nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOENT):
			continue
		case err != nil:
			return os.NewSyscallError("read fuse request", err)
		}
		out := make([]byte, 16+128)
		switch le.Uint32(in[4:n]) {
		case initialize:
			out = out[:16+64]
			le.PutUint32(out[16:], 7)
			le.PutUint32(out[20:], 31)
			le.PutUint32(out[36:], 4096)
		case lookup:
			le.PutUint64(out[16:], 2) // node
			attributes(out[16+40:])
		case open:
			out = out[:16+16]
		default:
			continue
		}
		le.PutUint32(out, uint32(len(out)))
		copy(out[8:16], in[8:16])
		if _, err := unix.Write(dev, out); err != nil {
			return os.NewSyscallError("answer fuse", err)
		}
	}
}
