package memif

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestSealedRegionIsWhole: a client shrinks its file and seals it while the server looks at
// it. What the server then takes for memory that cannot go away must not be gone already.
func TestSealedRegionIsWhole(t *testing.T) {
	const size = 4096
	taken := 0
	for range 4000 {
		fd, err := unix.MemfdCreate("race", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Ftruncate(fd, size); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() {
			err := unix.Ftruncate(fd, 0)
			if _, sealing := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK); err == nil {
				err = sealing
			}
			done <- err
		}()
		r, err := mapRegion(fd, size, size)
		if failed := <-done; failed != nil {
			t.Fatal(failed)
		}
		if err == nil {
			taken++
			if r.sealed {
				t.Error("an empty file was taken for memory that cannot shrink")
			}
			if err := r.close(); err != nil {
				t.Fatal(err)
			}
		}
		closeFD(fd)
	}
	t.Logf("%d of 4000 files were taken before they shrank", taken)
}
