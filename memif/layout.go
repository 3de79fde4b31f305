package memif

// layout says where a client puts its rings and buffers.
type layout struct {
	regions  []int // bytes of each
	s2m, m2s []ringPlace
}

// ringPlace is one ring with its buffers.
type ringPlace struct {
	offset       int // of the ring in region 0
	log2         uint8
	bufferRegion int
	bufferOffset int // of the first buffer
	bufferSize   int
	stride       int // from one buffer to the next
}

const (
	ringHeader = 128
	descBytes  = 16
	cacheLine  = 64
)

func ringBytes(log2 uint8) int { return ringHeader + descBytes<<log2 }

// newLayout places s2m + m2s rings of 2^log2 descriptors. Region 0 holds all rings; buffers
// follow them and go on in further regions of at most maxRegion bytes.
func newLayout(s2m, m2s int, log2 uint8, bufferSize int) (layout, error) {
	var l layout
	at := 0
	place := func(n int) (list []ringPlace) {
		for range n {
			list = append(list, ringPlace{offset: at, log2: log2, bufferSize: bufferSize, stride: stride(bufferSize)})
			at += ringBytes(log2)
		}
		return list
	}
	l.s2m, l.m2s = place(s2m), place(m2s)
	at = (at + 4095) &^ 4095
	if uint64(stride(bufferSize))<<log2 > maxRegion { // more than an int of 32 bits may hold
		return layout{}, badConfig("%d buffers of %d bytes: want at most %d bytes per ring", 1<<log2, bufferSize, maxRegion)
	}
	each := stride(bufferSize) << log2
	l.regions = []int{at}
	for _, list := range [][]ringPlace{l.s2m, l.m2s} {
		for i := range list {
			last := len(l.regions) - 1
			if l.regions[last] > maxRegion-each {
				l.regions = append(l.regions, 0)
				last++
			}
			list[i].bufferRegion, list[i].bufferOffset = last, l.regions[last]
			l.regions[last] += each
		}
	}
	if len(l.regions) > maxRegions {
		return layout{}, badConfig("%d regions of memory: the protocol has %d; want fewer queues, smaller rings or buffers", len(l.regions), maxRegions)
	}
	return l, nil
}

// stride is an odd number of cache lines: with 2048 bytes, say, the first lines of all
// buffers would share one 32nd of the cache's sets.
func stride(bufferSize int) int {
	lines := (bufferSize + cacheLine - 1) / cacheLine
	return (lines | 1) * cacheLine
}
