// Package conformance owns the suite that VPP and the embedded engine both pass: what
// the binary API answers, and what happens to packets.
//
// A case is a script of calls and packets; what the machine does is written down as text
// (a transcript), and compared with the transcript of VPP 25.10 in testdata. So VPP is
// right by construction, and a difference is shown as a diff of two readable texts. The
// suite judges behaviour only: it measures nothing and asserts no time.
//
// Transcripts are recorded by VPP_BIN=/path/to/vpp go test ./vpp/conformance -run VPP
// -record, as root, and read before they are committed: what VPP does by accident, or
// against an RFC, is left out of the case rather than demanded of others.
package conformance

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/netnstest"
)

// Machine starts the subject of the suite.
type Machine interface {
	// Command prepares a process inside namespace n that serves the binary API and the
	// statistics segment at the given sockets, and keeps its files in dir. The end of
	// t's context ends it by the command's Cancel. VPP loads plugins beside those that every
	// case needs.
	Command(t testing.TB, n *netnstest.Namespace, dir, api, stats string, plugins ...string) *exec.Cmd
}

// Case is one script. Each runs on a fresh machine, so that indexes are the same in
// every run.
type Case struct {
	Name string
	Run  func(s *Session)
}

// plugins are loaded for a case of their name only: cnat has a FIB source, which moves the
// numbers of those that clients add.
func (c Case) plugins() []string {
	if strings.HasPrefix(c.Name, "cnat-") {
		return []string{"cnat"}
	}
	return nil
}

// Cases lists the whole suite in the order of the topics.
func Cases() []Case {
	var all []Case
	for _, topic := range [][]Case{
		processCases(), interfaceCases(), addressCases(), tableCases(), routeCases(),
		neighborCases(), resolutionCases(), uplinkCases(), forwardCases(), icmpCases(), urpfCases(), counterCases(), puntCases(), tapCases(), memifCases(), kernelCases(), walkCases(), aclCases(), vxlanCases(), cnatCases(), cnatChangeCases(),
	} {
		all = append(all, topic...)
	}
	return all
}

// Run checks machine against the transcripts of VPP. With record it writes them anew
// instead: only for VPP itself.
func Run(t *testing.T, machine Machine, record bool) {
	netnstest.NeedRoot(t)
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			golden := filepath.Join("testdata", c.Name+".golden")
			want, err := os.ReadFile(golden)
			if err != nil && !record {
				t.Fatalf("no transcript of VPP: %v; record it with VPP_BIN set and -record", err)
			}
			s := newSession(t, machine, c.plugins()...)
			if !record {
				s.vpp = strings.SplitAfter(string(want), "\n")
			}
			c.Run(s)
			got := s.Transcript()
			if record {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := lineDiff(string(want), got); diff != "" {
				t.Errorf("behaves unlike VPP (- VPP, + this):\n%s", diff)
			}
		})
	}
}

// RecordFlag defines -record for a test binary that runs the suite.
func RecordFlag() *bool {
	return flag.Bool("record", false, "write the transcripts of VPP (VPP_BIN) anew")
}
