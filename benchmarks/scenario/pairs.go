package scenario

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/benchmarks/rig"
)

// Tools are the programs that pairs are made of.
type Tools struct {
	Millrace string // our own binary
	Version  string // its version
	Testpmd  string // dpdk-testpmd, "" = none
	// Gomemif is a program that plays an end with gomemif, "" = none. It is not of this
	// project: it speaks the lines that package benchmarks/peer describes.
	Gomemif string
	Batch   int // frames per call of our library; 0 = the default
}

// Pairs lists what can be compared with the tools that are there, ours first.
func (t Tools) Pairs(ctx context.Context) ([]Pair, error) {
	library := func() rig.End { return &rig.LibraryEnd{Binary: t.Millrace, Batch: t.Batch} }
	pairs := []Pair{{
		About: benchmarks.Subject{Name: "millrace", Version: "millrace " + t.Version, Detail: "package memif, client to server, copying Send and Receive"},
		Ends:  func() (rig.End, rig.End) { return library(), library() }, Counts: true,
		Command: func(int, int) string {
			return "millrace bench memif --scenario transport"
		},
	}}
	testpmd := []Pair{{About: benchmarks.Subject{Name: "testpmd", Version: "not measured", Detail: "dpdk-testpmd is not there: Debian's package dpdk-dev has it"}}}
	if t.Testpmd != "" {
		var err error
		if testpmd, err = t.testpmd(ctx, library); err != nil {
			return nil, err
		}
	}
	return append(append(pairs, testpmd...), t.gomemif()), nil
}

func (t Tools) gomemif() Pair {
	if t.Gomemif == "" {
		return Pair{About: benchmarks.Subject{Name: "gomemif", Version: "not measured", Detail: "no program was given by --gomemif"}}
	}
	name := filepath.Base(t.Gomemif)
	end := func() rig.End { return &rig.LibraryEnd{Binary: t.Gomemif} }
	return Pair{
		About:    benchmarks.Subject{Name: "gomemif", Version: "gomemif", Detail: "client to server, WritePacket and ReadPacket, by " + name},
		Ends:     func() (rig.End, rig.End) { return end(), end() },
		Command:  func(int, int) string { return "millrace bench memif --scenario transport --gomemif " + name },
		OneQueue: true,
	}
}

// testpmd is testpmd at both ends, and at one end with our library at the other.
func (t Tools) testpmd(ctx context.Context, library func() rig.End) ([]Pair, error) {
	version, err := rig.TestpmdVersion(ctx, t.Testpmd)
	if err != nil {
		return nil, err
	}
	testpmd := func() rig.End { return &rig.TestpmdEnd{Binary: t.Testpmd} }
	memory := "without huge pages"
	if rig.TestpmdHuge() {
		memory = "huge pages"
	}
	command := func(server, sends bool) func(size, queues int) string {
		return func(size, queues int) string {
			c := rig.EndConfig{Server: server, Socket: "/tmp/memif.sock", Send: sends, Size: size, Queues: queues}
			return "dpdk-testpmd " + strings.Join(rig.TestpmdArgs(c, rig.TestpmdHuge()), " ") + "; set fwd txonly|rxonly; set txpkts " + fmt.Sprint(size) + "; start"
		}
	}
	return []Pair{
		{
			About:   benchmarks.Subject{Name: "millrace to testpmd", Version: version, Detail: "package memif as client sends, testpmd as server rxonly, " + memory},
			Ends:    func() (rig.End, rig.End) { return library(), testpmd() },
			Command: command(true, false),
		},
		{
			About:   benchmarks.Subject{Name: "testpmd to millrace", Version: version, Detail: "testpmd as client txonly, package memif as server receives, " + memory},
			Ends:    func() (rig.End, rig.End) { return testpmd(), library() },
			Command: command(false, true),
		},
		{
			About:   benchmarks.Subject{Name: "testpmd", Version: version, Detail: "client txonly, server rxonly, bursts of 32, " + memory},
			Ends:    func() (rig.End, rig.End) { return testpmd(), testpmd() },
			Command: command(false, true),
		},
	}, nil
}
