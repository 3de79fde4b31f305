// Package stats owns the statistics segment: counters in shared memory, laid out as
// VPP's stats segment version 2, so that GoVPP's statsclient and vpp_get_stats read them.
//
// It hands rows of counters to those who count and names to what they count. It never
// counts a packet itself and never waits for a reader.
package stats

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
)

// The segment, all numbers little endian, a pointer being base + offset:
//
//	0  version | base | epoch | in_progress | directory | 0      header
//	   directory: vector of 144-byte entries                     fixed capacity
//	   per counter: vector of thread pointers -> vector of rows  fixed capacity
//	   names: vector of pointers -> bytes                        fixed capacity
//
// A vector's length stands in the word before its first element. Nothing ever moves:
// a longer vector is a larger length, inside the capacity reserved for it.
const (
	version    = 2
	base       = uint64(1) << 32 // any constant but 0: readers subtract it
	headerSize = 64
	entrySize  = 144
	nameSize   = 128

	wordVersion    = 0
	wordBase       = 1
	wordEpoch      = 2
	wordInProgress = 3
	wordDirectory  = 4
)

// Directory entry types, as in VPP's stat_directory_type_t.
const (
	typeScalar   = 1
	typeSimple   = 2
	typeCombined = 3
	typeNames    = 4
	typeEmpty    = 5
	typeSymlink  = 6
)

// emptyName stands in an unused directory entry: GoVPP ends its listing at an entry
// without a name.
const emptyName = "/empty"

// segment is the memory and the layout of its vectors.
type segment struct {
	file *os.File
	mem  []byte
	w    []uint64
	next int // offset of the first free byte

	directory int // offset of the first entry
	entries   int // used, from the front
	capacity  int

	mu   sync.Mutex // one layout change at a time; guards entries, free and the names
	free []int      // entries given back
}

// errFull says that the segment was made for fewer entries, interfaces or routes.
var errFull = errors.New("stats segment is full")

func newSegment(size, entries int) (*segment, error) {
	size += headerSize + 8 + entries*entrySize
	size = (size + 4095) &^ 4095
	f, mem, err := mapMemory(size)
	if err != nil {
		return nil, err
	}
	s := &segment{file: f, mem: mem, w: words(mem), next: headerSize, capacity: entries}
	s.directory, err = s.vector(0, entries*entrySize)
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	s.w[wordBase] = base
	s.w[wordEpoch] = 1
	s.w[wordDirectory] = base + uint64(s.directory)
	atomic.StoreUint64(&s.w[wordVersion], version)
	return s, nil
}

func (s *segment) close() error {
	return errors.Join(unmapMemory(s.mem), s.file.Close())
}

// vector reserves size bytes for a vector of length elements and returns the offset of
// its first element.
func (s *segment) vector(length, size int) (int, error) {
	at := s.next + 8
	end := (at + size + 7) &^ 7
	if end > len(s.mem) {
		return 0, errFull
	}
	s.next = end
	s.setLength(at, length)
	return at, nil
}

// setLength writes the vector header: u32 length, u8 header words, u8 log2 of the
// alignment, 2 bytes.
func (s *segment) setLength(at, length int) {
	atomic.StoreUint64(&s.w[at/8-1], uint64(uint32(length))|1<<32|3<<40)
}

// change runs one edit of the layout under the epoch protocol: readers that overlap it
// see in_progress or another epoch and read again.
func (s *segment) change(edit func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	atomic.StoreUint64(&s.w[wordInProgress], 1)
	err := edit()
	atomic.AddUint64(&s.w[wordEpoch], 1)
	atomic.StoreUint64(&s.w[wordInProgress], 0)
	return err
}

// entry takes a directory entry and fills it. Only inside change.
func (s *segment) entry(kind uint32, name string, value uint64) (int, error) {
	if len(name) >= nameSize {
		return 0, fmt.Errorf("name of stats entry %q: %d bytes; at most %d", name, len(name), nameSize-1)
	}
	var i int
	switch {
	case len(s.free) > 0:
		i = s.free[len(s.free)-1]
		s.free = s.free[:len(s.free)-1]
	case s.entries < s.capacity:
		i = s.entries
		s.entries++
	default:
		return 0, errFull
	}
	s.fill(i, kind, name, value)
	s.setLength(s.directory, s.entries)
	return i, nil
}

// release empties a directory entry for later use. Only inside change.
func (s *segment) release(i int) {
	s.fill(i, typeEmpty, emptyName, 0)
	s.free = append(s.free, i)
}

func (s *segment) fill(i int, kind uint32, name string, value uint64) {
	at := s.directory + i*entrySize
	s.w[at/8] = uint64(kind)
	s.w[at/8+1] = value
	field := s.mem[at+16 : at+16+nameSize]
	clear(field[copy(field, name):])
}

// scalar returns the word that holds the value of entry i.
func (s *segment) scalar(i int) *uint64 { return &s.w[(s.directory+i*entrySize)/8+1] }

// rows adds a counter entry of threads rows, each of capacity elements of width words,
// length of them visible. It returns the entry and the offset of each row.
func (s *segment) rows(kind uint32, name string, threads, length, capacity, width int) (int, []int, error) {
	pointers, err := s.vector(threads, threads*8)
	if err != nil {
		return 0, nil, err
	}
	at := make([]int, threads)
	for t := range at {
		if at[t], err = s.vector(length, capacity*width*8); err != nil {
			return 0, nil, err
		}
		s.w[pointers/8+t] = base + uint64(at[t])
	}
	i, err := s.entry(kind, name, base+uint64(pointers))
	return i, at, err
}

// rowsSize is how many bytes rows needs.
func rowsSize(threads, capacity, width int) int {
	return 8 + threads*8 + threads*(8+capacity*width*8)
}
