package rig

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/benchmarks"
)

func TestTestpmdSegments(t *testing.T) {
	for size, want := range map[int]string{64: "64", 2048: "2048", 2049: "2048,1", 9000: "2048,2048,2048,2048,808"} {
		if got := testpmdSegments(size); got != want {
			t.Errorf("segments of %d are %s, want %s", size, got, want)
		}
	}
}

// TestLink measures each kind of pair that this machine can run, shortly: frames arrive,
// the window was watched, and nothing is left.
func TestLink(t *testing.T) {
	if built.err != nil {
		t.Fatal(built.err)
	}
	library := func() End { return &LibraryEnd{Binary: filepath.Join(built.dir, "millrace")} }
	ends := map[string]func() End{"library": library}
	if bin, err := exec.LookPath("dpdk-testpmd"); err == nil {
		ends["testpmd"] = func() End { return &TestpmdEnd{Binary: bin} }
	}
	for from, sender := range ends {
		for to, receiver := range ends {
			for _, serverSends := range []bool{false, true} {
				t.Run(from+" to "+to, func(t *testing.T) {
					l := NewLauncher()
					defer l.Close()
					timing := Timing{Settle: 20 * time.Millisecond, Warm: 20 * time.Millisecond, Window: 50 * time.Millisecond}
					var c Counted
					var cond benchmarks.Condition
					for range 5 { // on a busy machine a window can pass with an end not running
						link := Link{Sender: sender(), Receiver: receiver(), ServerSends: serverSends, Size: 64, Queues: 1, SenderCore: 1, ReceiverCore: 0}
						var err error
						if c, cond, err = link.Measure(t.Context(), l, timing); err != nil {
							t.Fatal(err)
						}
						if c.Frames > 0 {
							break
						}
					}
					if c.Frames <= 0 || c.Took <= 0 || cond.RoundTrip[0] <= 0 || cond.Distance == "" {
						t.Errorf("counted %+v under %+v", c, cond)
					}
				})
			}
		}
	}
	if left, err := filepath.Glob(filepath.Join(os.TempDir(), scratchName())); err != nil || len(left) > 0 {
		t.Errorf("scratch space is left: %v, %v", left, err)
	}
}

// TestLinkFails: an end that cannot start is an error, and the other end is gone too.
func TestLinkFails(t *testing.T) {
	if built.err != nil {
		t.Fatal(built.err)
	}
	library := &LibraryEnd{Binary: filepath.Join(built.dir, "millrace")}
	l := NewLauncher()
	defer l.Close()
	link := Link{Sender: &LibraryEnd{Binary: "/missing/millrace"}, Receiver: library, Size: 64, Queues: 1, SenderCore: 1, ReceiverCore: 0}
	if _, _, err := link.Measure(t.Context(), l, DefaultTiming()); err == nil {
		t.Error("a sender that is not there is no error")
	}
	select {
	case <-library.talk.process.Done():
	default:
		t.Error("the receiver still runs")
	}
}
