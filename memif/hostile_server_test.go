package memif_test

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/memif"
	"golang.org/x/sys/unix"
)

// lie is one thing that a client does wrong, and what is in the DISCONNECT that answers it;
// with "" none comes. kind is that of the interface's error, 0 when the client never came as
// far as to an interface.
type lie struct {
	name string
	tell func(t *testing.T, g *guest)
	want string
	kind memif.Kind
}

// hears checks the answers to lies, and that a good client is served after them.
func (h host) hears(t *testing.T, lies []lie) {
	h.hearsOnly(t, lies)
	h.welcomes(t)
}

func (h host) hearsOnly(t *testing.T, lies []lie) {
	for _, l := range lies {
		t.Run(l.name, func(t *testing.T) {
			g := newGuest(t, seals)
			l.tell(t, g)
			a := g.enter(t, h.path)
			switch {
			case l.want != "" && (a.kind != rawTypeDisconnect || !strings.Contains(a.reason, l.want)):
				t.Errorf("the server answers %+v; want DISCONNECT with %q", a, l.want)
			case l.want == "" && a.kind != rawNone:
				t.Errorf("the server answers %+v; want the end of the socket", a)
			}
			if a, err := g.answer(); err != nil || a.kind != rawNone {
				t.Errorf("at last comes %+v, %v; want the end of the socket", a, err)
			}
			if l.kind != 0 {
				h.endedBy(t, l.kind)
			}
		})
	}
}

const hostMemory = 1 << 20

func TestHostileRegions(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{MaxMemory: hostMemory})
	region := func(index uint16, size uint64) func(*testing.T, *guest) {
		return func(t *testing.T, g *guest) { g.steps[stepRegion].msg = rawAddRegion(index, size) }
	}
	file := func(open func(t *testing.T, g *guest) []int) func(*testing.T, *guest) {
		return func(t *testing.T, g *guest) { g.steps[stepRegion].fds = open(t, g) }
	}
	path := func(path string, flags int) func(*testing.T, *guest) {
		return file(func(t *testing.T, g *guest) []int { return []int{openFile(t, path, flags)} })
	}
	again := func(size uint64, index uint16) func(*testing.T, *guest) {
		return func(t *testing.T, g *guest) {
			fd := memoryFile(t, int64(size), seals)
			more := step{rawAddRegion(index, size), []int{fd}}
			g.steps = append(g.steps[:stepUp:stepUp], append([]step{more}, g.steps[stepUp:]...)...)
		}
	}
	disk := filepath.Join(t.TempDir(), "disk")
	h.hears(t, []lie{
		{"size 0", region(0, 0), "region of 0 bytes", memif.Protocol},
		{"size of the file + 1", region(0, guestBytes+1), "comes with a file of", memif.Protocol},
		{"size of the limit", region(0, hostMemory), "comes with a file of", memif.Protocol},
		{"size above the limit", region(0, hostMemory+1), "want 1 to 1048576", memif.Protocol},
		{"size 4 GiB", region(0, 1<<32), "want 1 to", memif.Protocol},
		{"size 4 GiB + file", region(0, 1<<32+guestBytes), "want 1 to", memif.Protocol},
		{"size 2^63-1", region(0, math.MaxInt64), "want 1 to", memif.Protocol},
		{"size 2^63", region(0, 1<<63), "want 1 to", memif.Protocol},
		{"size 2^64-1", region(0, math.MaxUint64), "want 1 to", memif.Protocol},
		{"sum above the limit", again(hostMemory-guestBytes+1, 1), "want 1 to", memif.Protocol},
		{"index 1 first", region(1, guestBytes), "Invalid region index 1: want 0", memif.Protocol},
		{"index 300", region(300, guestBytes), "Invalid region index 300", memif.Protocol},
		{"index 65535", region(65535, guestBytes), "Invalid region index 65535", memif.Protocol},
		{"index twice", again(4096, 0), "Invalid region index 0: want 1", memif.Protocol},
		{"index left out", again(4096, 2), "Invalid region index 2: want 1", memif.Protocol},
		{"no descriptor", file(func(*testing.T, *guest) []int { return nil }), "Missing region fd", memif.Protocol},
		{"two descriptors", file(func(_ *testing.T, g *guest) []int { return []int{g.file, g.file} }), "more than one descriptor", memif.Protocol},
		{"as many descriptors as go", file(func(_ *testing.T, g *guest) []int { return times(g.file, 253) }), "more than one descriptor", memif.Protocol},
		{"pipe", file(func(t *testing.T, _ *guest) []int { return []int{pipeFile(t)} }), "is no file of memory", memif.Protocol},
		{"socket", file(func(t *testing.T, _ *guest) []int { return []int{socketFile(t)} }), "is no file of memory", memif.Protocol},
		{"eventfd", file(func(_ *testing.T, g *guest) []int { return []int{g.upEvent} }), "is no file of memory", memif.Protocol},
		{"/dev/null", path("/dev/null", unix.O_RDWR), "region", memif.Protocol},
		{"/proc/self/mem", path("/proc/self/mem", unix.O_RDWR), "is no file of memory", memif.Protocol},
		{"file on a disk", file(func(t *testing.T, _ *guest) []int {
			return []int{grown(t, openFile(t, disk, unix.O_RDWR|unix.O_CREAT))}
		}), "is no file of memory", memif.Protocol},
		{"directory in memory", path("/dev/shm", unix.O_RDONLY|unix.O_DIRECTORY), "is no file of memory", memif.Protocol},
		{"memory that may only be read", file(func(t *testing.T, _ *guest) []int { return []int{readOnly(t)} }), "map region", memif.Protocol},
		{"memory that is only a path", file(func(t *testing.T, g *guest) []int {
			return []int{openFile(t, fmt.Sprintf("/proc/self/fd/%d", g.file), unix.O_PATH)}
		}), "is no file of memory", memif.Protocol},
		{"memory sealed against writing", file(func(t *testing.T, _ *guest) []int { return []int{memoryFile(t, guestBytes, unix.F_SEAL_WRITE)} }), "map region", memif.Protocol},
		{"a part of a huge page", func(t *testing.T, g *guest) {
			g.steps[stepRegion] = step{rawAddRegion(0, guestBytes), []int{hugeFile(t)}}
		}, "want whole pages", memif.Protocol},
		{"after a ring", func(_ *testing.T, g *guest) {
			g.steps = append(g.steps[:stepConnect:stepConnect], g.steps[stepRegion])
		}, "ADD_REGION after ADD_RING", memif.Protocol},
	})
}

func times(fd, n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = fd
	}
	return list
}

func pipeFile(t *testing.T) int {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	closeLater(t, p[0])
	closeLater(t, p[1])
	return p[1]
}

func socketFile(t *testing.T) int {
	fd, err := rawSocket()
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, fd)
	return fd
}

// hugeFile is memory of huge pages. Until it is touched it needs none.
func hugeFile(t *testing.T) int {
	fd, err := unix.MemfdCreate("hostile", unix.MFD_CLOEXEC|unix.MFD_HUGETLB)
	if err != nil {
		t.Skipf("no huge pages: %v", err)
	}
	closeLater(t, fd)
	if err := unix.Ftruncate(fd, 1<<30); err != nil { // a multiple of every size of page
		t.Fatal(err)
	}
	return fd
}

func grown(t *testing.T, fd int) int {
	if err := unix.Ftruncate(fd, guestBytes); err != nil {
		t.Fatal(err)
	}
	return fd
}

// readOnly is a memory file that cannot be mapped for writing.
func readOnly(t *testing.T) int {
	return openFile(t, fmt.Sprintf("/proc/self/fd/%d", memoryFile(t, guestBytes, 0)), unix.O_RDONLY)
}

func TestHostileRings(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{MaxMemory: hostMemory})
	ring := func(m rawMessage) func(*testing.T, *guest) {
		return func(_ *testing.T, g *guest) { g.steps[stepUp].msg = m }
	}
	at := func(offset uint32, log2 uint8) func(*testing.T, *guest) {
		return ring(rawAddRing(true, 0, 0, offset, log2))
	}
	file := func(open func(t *testing.T, g *guest) []int) func(*testing.T, *guest) {
		return func(t *testing.T, g *guest) { g.steps[stepUp].fds = open(t, g) }
	}
	cookie := func(v uint32) func(*testing.T, *guest) {
		return func(_ *testing.T, g *guest) { g.up.setCookie(v) }
	}
	const whole = 128 + 16*guestRing
	h.hears(t, []lie{
		{"size 2^0", at(0, 0), "Invalid ring size 2^0", memif.Protocol},
		{"size 2^16", at(0, 16), "Invalid ring size 2^16", memif.Protocol},
		{"size 2^64", at(0, 64), "Invalid ring size 2^64", memif.Protocol},
		{"size 2^255", at(0, 255), "Invalid ring size 2^255", memif.Protocol},
		{"larger than its region", at(0, 15), "ends outside its region", memif.Protocol},
		{"ends 16 bytes outside", at(guestBytes-whole+16, guestLog2), "ends outside its region", memif.Protocol},
		{"begins at the end", at(guestBytes, guestLog2), "ends outside its region", memif.Protocol},
		{"begins outside", at(guestBytes+4096, guestLog2), "ends outside its region", memif.Protocol},
		{"wraps", at(math.MaxUint32-15, guestLog2), "ends outside its region", memif.Protocol},
		{"wraps to its region", at(math.MaxUint32-whole+1, guestLog2), "ends outside its region", memif.Protocol},
		{"unaligned", at(8, guestLog2), "want a multiple of 16", memif.Protocol},
		{"odd", at(1, guestLog2), "want a multiple of 16", memif.Protocol},
		{"private header", ring(rawAddRing(true, 0, 0, 0, guestLog2).u16(13, 64)), "Private header of 64 bytes", memif.Protocol},
		{"private header of 65535", ring(rawAddRing(true, 0, 0, 0, guestLog2).u16(13, 65535)), "Private header of 65535 bytes", memif.Protocol},
		{"index 1 first", ring(rawAddRing(true, 1, 0, 0, guestLog2)), "Invalid ring index 1: want 0", memif.Protocol},
		{"index 256", ring(rawAddRing(true, 256, 0, 0, guestLog2)), "Invalid ring index 256", memif.Protocol},
		{"index 65535", ring(rawAddRing(true, 65535, 0, 0, guestLog2)), "Invalid ring index 65535", memif.Protocol},
		{"257 rings", func(_ *testing.T, g *guest) {
			g.steps = g.steps[:stepUp]
			for i := range 257 {
				g.steps = append(g.steps, step{rawAddRing(true, uint16(i), 0, 0, guestLog2), []int{g.upEvent}})
			}
		}, "Invalid ring index 256", memif.Protocol},
		{"index twice", func(_ *testing.T, g *guest) { g.steps[stepDown] = g.steps[stepUp] }, "Invalid ring index 0: want 1", memif.Protocol},
		{"region 1 of 1", ring(rawAddRing(true, 0, 1, 0, guestLog2)), "region 1, which does not exist", memif.Protocol},
		{"region 65535", ring(rawAddRing(true, 0, 65535, 0, guestLog2)), "region 65535, which does not exist", memif.Protocol},
		{"without any region", func(_ *testing.T, g *guest) { g.steps[stepRegion] = g.steps[stepUp] }, "region 0, which does not exist", memif.Protocol},
		{"no cookie", cookie(0), "want the cookie", memif.Protocol},
		{"cookie + 1", cookie(rawCookie + 1), "want the cookie", memif.Protocol},
		{"no descriptor", file(func(*testing.T, *guest) []int { return nil }), "Missing ring fd", memif.Protocol},
		{"two descriptors", file(func(_ *testing.T, g *guest) []int { return []int{g.upEvent, g.downEvt} }), "more than one descriptor", memif.Protocol},
		{"as many descriptors as go", file(func(_ *testing.T, g *guest) []int { return times(g.upEvent, 253) }), "more than one descriptor", memif.Protocol},
		{"memory as eventfd", file(func(_ *testing.T, g *guest) []int { return []int{g.file} }), "no eventfd", memif.Protocol},
		{"pipe as eventfd", file(func(t *testing.T, _ *guest) []int { return []int{pipeFile(t)} }), "no eventfd", memif.Protocol},
		{"socket as eventfd", file(func(t *testing.T, _ *guest) []int { return []int{socketFile(t)} }), "no eventfd", memif.Protocol},
		{"/dev/null as eventfd", file(func(t *testing.T, _ *guest) []int { return []int{openFile(t, "/dev/null", unix.O_RDWR)} }), "no eventfd", memif.Protocol},
		{"a file named like one", file(func(t *testing.T, _ *guest) []int {
			return []int{openFile(t, filepath.Join(t.TempDir(), "anon_inode:[eventfd]"), unix.O_RDWR|unix.O_CREAT)}
		}), "no eventfd", memif.Protocol},
	})
}

// TestOddRings: what is odd, but harms nobody but the client itself.
func TestOddRings(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{MaxMemory: hostMemory})
	for name, tell := range map[string]func(g *guest){
		"at the region's end": func(g *guest) {
			const at = guestBytes - 128 - 16*guestRing
			rawRing{g.mem[at:], guestRing}.setCookie(rawCookie)
			g.steps[stepUp].msg = rawAddRing(true, 0, 0, at, guestLog2)
		},
		"both rings in one place": func(g *guest) { g.steps[stepDown].msg = rawAddRing(false, 0, 0, 0, guestLog2) },
		"one eventfd for both":    func(g *guest) { g.steps[stepDown].fds = []int{g.upEvent} },
		"no M2S ring":             func(g *guest) { g.steps = append(g.steps[:stepDown], g.steps[stepConnect]) },
		"no S2M ring":             func(g *guest) { g.steps = append(g.steps[:stepUp], g.steps[stepDown:]...) },
		"no ring":                 func(g *guest) { g.steps = append(g.steps[:stepUp], g.steps[stepConnect]) },
		"no region":               func(g *guest) { g.steps = []step{g.steps[stepInit], g.steps[stepConnect]} },
		"a descriptor with INIT":  func(g *guest) { g.steps[stepInit].fds = []int{g.file} },
		"a descriptor with CONNECT": func(g *guest) {
			g.steps[stepConnect].fds = []int{g.upEvent}
		},
		"other flags of a ring": func(g *guest) { g.steps[stepUp].msg = rawAddRing(true, 0, 0, 0, guestLog2).u16(2, 0xffff) },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t, seals)
			tell(g)
			if a := g.enter(t, h.path); a.kind != rawTypeConnected {
				t.Fatalf("the server answers %+v; want CONNECTED", a)
			}
			until(t, "link up", func() bool { return h.Status().Up })
			if _, err := h.TxQueue(0).Send([][]byte{frame(1, 100)}); err != nil {
				t.Error(err)
			}
			if _, err := h.RxQueue(0).Receive(buffers(3, 100)); err != nil {
				t.Error(err)
			}
			if err := unix.Shutdown(g.fd, unix.SHUT_RDWR); err != nil {
				t.Error(err)
			}
			until(t, "link down", func() bool { return !h.Status().Up })
		})
	}
	h.welcomes(t)
}
