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
		Ends:  func() (rig.End, rig.End) { return library(), library() },
		Command: func(int, int) string {
			return "millrace bench memif --scenario transport"
		},
	}}
	if t.Gomemif != "" {
		end := func() rig.End { return &rig.LibraryEnd{Binary: t.Gomemif} }
		pairs = append(pairs, Pair{
			About:    benchmarks.Subject{Name: "gomemif", Version: "gomemif", Detail: "client to server, WritePacket and ReadPacket, by " + filepath.Base(t.Gomemif)},
			Ends:     func() (rig.End, rig.End) { return end(), end() },
			Command:  func(int, int) string { return "millrace bench memif --scenario transport --gomemif " + t.Gomemif },
			OneQueue: true,
		})
	}
	if t.Testpmd == "" {
		return pairs, nil
	}
	version, err := rig.TestpmdVersion(ctx, t.Testpmd)
	if err != nil {
		return nil, err
	}
	testpmd := func() rig.End { return &rig.TestpmdEnd{Binary: t.Testpmd} }
	memory := "without huge pages"
	if rig.HugePages() {
		memory = "huge pages"
	}
	command := func(server, sends bool) func(size, queues int) string {
		return func(size, queues int) string {
			c := rig.EndConfig{Server: server, Socket: "/tmp/memif.sock", Send: sends, Size: size, Queues: queues}
			return "dpdk-testpmd " + strings.Join(rig.TestpmdArgs(c, rig.HugePages()), " ") + "; set fwd txonly|rxonly; set txpkts " + fmt.Sprint(size) + "; start"
		}
	}
	return append(pairs,
		Pair{
			About:   benchmarks.Subject{Name: "millrace to testpmd", Version: version, Detail: "package memif as client sends, testpmd as server rxonly, " + memory},
			Ends:    func() (rig.End, rig.End) { return library(), testpmd() },
			Command: command(true, false),
		},
		Pair{
			About:   benchmarks.Subject{Name: "testpmd to millrace", Version: version, Detail: "testpmd as client txonly, package memif as server receives, " + memory},
			Ends:    func() (rig.End, rig.End) { return testpmd(), library() },
			Command: command(false, true),
		},
		Pair{
			About:   benchmarks.Subject{Name: "testpmd", Version: version, Detail: "client txonly, server rxonly, bursts of 32, " + memory},
			Ends:    func() (rig.End, rig.End) { return testpmd(), testpmd() },
			Command: command(false, true),
		},
	), nil
}
