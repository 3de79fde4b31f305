package vpp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"sync/atomic"

	"go.fd.io/govpp/adapter"
)

// The statistics segment, version 2 (vlib/stats/shared.h), little endian; a pointer is
// the writer's, base the writer's address of offset 0, and 0 means none:
//
//	0 u64 version   8 ptr base   16 u64 epoch   24 u64 in_progress   32 ptr directory
//
// A vector has its length in the u32 eight bytes before its first element. The directory
// is a vector of entries of 144 bytes: u32 type, 4 unused, u64 value, char name[128].
const (
	segmentVersion = 2

	atVersion    = 0
	atBase       = 8
	atEpoch      = 16
	atInProgress = 24
	atDirectory  = 32
	segmentStart = 40

	entrySize  = 144
	atValue    = 8
	atName     = 16
	vectorHead = 8

	typeScalar   = 1
	typeSimple   = 2
	typeCombined = 3
	typeNames    = 4
	typeEmpty    = 5
	typeSymlink  = 6
)

var (
	errBusy      = errors.New("the statistics are being changed")
	errMalformed = errors.New("the statistics segment is malformed")
)

// segment is the mapped memory. The writer may change it at any moment, or be hostile:
// each offset is checked against the map, and what was read during a change is thrown
// away (errBusy), malformed or not.
type segment struct{ data []byte }

// fence orders the reads before it before those behind it, also on machines that would
// reorder them: an atomic read-modify-write does.
func fence() {
	var f atomic.Uint32
	f.Add(1)
}

// read returns copies of the entries that match; nil patterns match all with a name.
func (s segment) read(patterns []*regexp.Regexp) ([]adapter.StatEntry, error) {
	if len(s.data) < segmentStart || s.word(atVersion) != segmentVersion {
		return nil, fmt.Errorf("%w: no version %d at its start", errMalformed, segmentVersion)
	}
	epoch := s.word(atEpoch)
	if s.word(atInProgress) != 0 {
		return nil, errBusy
	}
	fence()
	entries, err := s.entries(patterns)
	fence()
	if s.word(atInProgress) != 0 || s.word(atEpoch) != epoch {
		return nil, errBusy
	}
	return entries, err
}

func (s segment) entries(patterns []*regexp.Regexp) ([]adapter.StatEntry, error) {
	directory, err := s.vector(s.word(atDirectory), entrySize)
	if err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	var found []adapter.StatEntry
	for i := range len(directory) / entrySize {
		entry := directory[i*entrySize : (i+1)*entrySize]
		name, _, _ := bytes.Cut(entry[atName:], []byte{0})
		if len(name) == 0 || !matches(name, patterns) {
			continue // VPP takes the name of what it removes
		}
		e := adapter.StatEntry{StatIdentifier: adapter.StatIdentifier{Index: uint32(i), Name: bytes.Clone(name)}}
		if err := s.fill(&e, directory, entry); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		found = append(found, e)
	}
	return found, nil
}

func matches(name []byte, patterns []*regexp.Regexp) bool {
	for _, p := range patterns {
		if p.Match(name) {
			return true
		}
	}
	return len(patterns) == 0
}

// fill reads an entry's value. A symlink is one column of another entry.
func (s segment) fill(e *adapter.StatEntry, directory, entry []byte) error {
	kind, value := binary.LittleEndian.Uint32(entry), binary.LittleEndian.Uint64(entry[atValue:])
	column := -1
	if kind == typeSymlink {
		target := value & 0xffffffff
		if target >= uint64(len(directory)/entrySize) {
			return fmt.Errorf("%w: a link to entry %d", errMalformed, target)
		}
		entry = directory[target*entrySize:]
		e.Symlink, column = true, int(value>>32)
		kind, value = binary.LittleEndian.Uint32(entry), binary.LittleEndian.Uint64(entry[atValue:])
	}
	var err error
	switch kind {
	case typeScalar:
		e.Type, e.Data = adapter.ScalarIndex, adapter.ScalarStat(value)
	case typeSimple:
		var rows [][]adapter.Counter
		rows, err = readRows(s, value, 8, column, func(b []byte) adapter.Counter { return adapter.Counter(binary.LittleEndian.Uint64(b)) })
		e.Type, e.Data = adapter.SimpleCounterVector, adapter.SimpleCounterStat(rows)
	case typeCombined:
		var rows [][]adapter.CombinedCounter
		rows, err = readRows(s, value, 16, column, func(b []byte) adapter.CombinedCounter {
			return adapter.CombinedCounter{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
		})
		e.Type, e.Data = adapter.CombinedCounterVector, adapter.CombinedCounterStat(rows)
	case typeNames:
		var names [][]byte
		names, err = readRows(s, value, 1, -1, func(b []byte) byte { return b[0] })
		e.Type, e.Data = adapter.NameVector, nameStat(names)
	case typeEmpty:
		e.Type, e.Data = adapter.Empty, adapter.EmptyStat("")
	default:
		e.Type = adapter.Unknown
	}
	return err
}

func nameStat(names [][]byte) adapter.NameStat {
	stat := make(adapter.NameStat, len(names))
	for i, name := range names {
		name, _, _ := bytes.Cut(name, []byte{0})
		stat[i] = name
	}
	return stat
}

// readRows reads a vector of pointers to vectors of elements: a row per thread. A column
// of -1 is all columns.
func readRows[E any](s segment, pointer uint64, size, column int, read func([]byte) E) ([][]E, error) {
	pointers, err := s.vector(pointer, 8)
	if err != nil {
		return nil, err
	}
	rows := make([][]E, len(pointers)/8)
	left := len(s.data) // rows do not overlap, so together they fit
	for i := range rows {
		row, err := s.vector(binary.LittleEndian.Uint64(pointers[8*i:]), size)
		if err != nil {
			return nil, err
		}
		if column >= 0 {
			row = row[min(column*size, len(row)):min((column+1)*size, len(row))]
		}
		if left -= len(row); left < 0 {
			return nil, fmt.Errorf("%w: rows longer than the segment", errMalformed)
		}
		rows[i] = make([]E, len(row)/size)
		for j := range rows[i] {
			rows[i][j] = read(row[j*size:])
		}
	}
	return rows, nil
}

// vector returns the bytes of the vector that a pointer of the writer leads to.
func (s segment) vector(pointer uint64, size int) ([]byte, error) {
	if pointer == 0 {
		return nil, nil
	}
	at := pointer - s.word(atBase)
	end := uint64(len(s.data))
	if at < vectorHead || at > end {
		return nil, fmt.Errorf("%w: a pointer to offset %#x of %#x", errMalformed, at, end)
	}
	length := uint64(binary.LittleEndian.Uint32(s.data[at-vectorHead:]))
	if length > (end-at)/uint64(size) {
		return nil, fmt.Errorf("%w: %d elements of %d bytes at offset %#x of %#x", errMalformed, length, size, at, end)
	}
	return s.data[at : at+length*uint64(size)], nil
}

func (s segment) word(at int) uint64 { return binary.LittleEndian.Uint64(s.data[at:]) }
