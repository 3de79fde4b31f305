package memif

import "testing"

// TestLayout: what a client places neither overlaps nor leaves its region, for all it can be
// asked for, on machines of 32 bits too.
func TestLayout(t *testing.T) {
	for log2 := uint8(1); log2 <= maxLogRing; log2++ {
		for _, size := range []int{minBuffer, 65, 2048, 9000, 1 << 15, 1<<15 + 1, 1<<16 - 64, maxBuffer - 1, maxBuffer} {
			for _, rings := range []int{1, 2, 5, MaxQueues} {
				l, err := newLayout(rings, rings, log2, size)
				if err != nil {
					if most := uint64(stride(size)) << log2 * uint64(2*rings); most < maxRegion {
						t.Errorf("2^%d buffers of %d, %d rings: %v", log2, size, rings, err)
					}
					continue
				}
				ends := make([]uint64, len(l.regions)) // of what is placed by now
				for i, p := range append(l.s2m[:rings:rings], l.m2s...) {
					if uint64(p.offset) != uint64(i)*uint64(ringBytes(log2)) {
						t.Fatalf("ring %d at %d", i, p.offset)
					}
					ends[0] = max(ends[0], uint64(2*rings*ringBytes(log2)))
				}
				for _, p := range append(l.s2m[:rings:rings], l.m2s...) {
					if uint64(p.bufferOffset) < ends[p.bufferRegion] || p.stride < size || p.bufferOffset%cacheLine != 0 {
						t.Fatalf("buffers of %d, %d apart, at %d, where %d bytes are taken", size, p.stride, p.bufferOffset, ends[p.bufferRegion])
					}
					ends[p.bufferRegion] = uint64(p.bufferOffset) + uint64(p.stride)<<log2
				}
				for i, n := range l.regions {
					if n <= 0 || ends[i] > uint64(n) || i > 0 && n > maxRegion {
						t.Fatalf("2^%d buffers of %d, %d rings: region %d of %d bytes holds %d", log2, size, rings, i, n, ends[i])
					}
				}
			}
		}
	}
}
