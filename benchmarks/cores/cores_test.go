package cores

import (
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseUsage(t *testing.T) {
	got, err := parseUsage("1500 2500 7\n")
	if want := (Usage{1500, 2500}); err != nil || got != want {
		t.Errorf("parseUsage = %v, %v; want %v", got, err, want)
	}
	for _, bad := range []string{"", "1 2", "1 x 3", "1 2 3 4"} {
		if _, err := parseUsage(bad); err == nil {
			t.Errorf("parseUsage(%q) is no error", bad)
		}
	}
}

func TestParseStolen(t *testing.T) {
	text := "cpu  9 9 9 9 9 9 9 12 0 0\ncpu0 1 2 3 4 5 6 7 5 0 0\ncpu1 1 2 3 4 5 6 7 7 0 0\ncpu10 1 2 3 4 5 6 7 100 0 0\n"
	got, err := parseStolen(text, []int{0, 1})
	if err != nil || got != 120*time.Millisecond {
		t.Errorf("parseStolen = %v, %v; want 120ms", got, err)
	}
	if _, err := parseStolen(text, []int{2}); err == nil {
		t.Error("a core that is not listed is no error")
	}
}

func TestThreads(t *testing.T) {
	threads, err := Threads(os.Getpid())
	if _, ok := threads[os.Getpid()]; err != nil || !ok {
		t.Errorf("Threads = %v, %v; want the main thread among them", threads, err)
	}
	if _, err := Threads(1 << 30); err == nil {
		t.Error("threads of a process that is not there are no error")
	}
}

// TestRaiseRestores: a thread is first in, first out while raised, and as before after.
func TestRaiseRestores(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	restore, err := Raise(0, 10)
	if errors.Is(err, unix.EPERM) {
		t.Skip("needs CAP_SYS_NICE")
	}
	if err != nil {
		t.Fatal(err)
	}
	if during, err := unix.SchedGetAttr(0, 0); err != nil || during.Policy != unix.SCHED_FIFO || during.Priority != 10 {
		t.Errorf("raised thread has %+v, %v", during, err)
	}
	if err := restore(); err != nil {
		t.Fatal(err)
	}
	if after, err := unix.SchedGetAttr(0, 0); err != nil || after.Policy != before.Policy || after.Nice != before.Nice {
		t.Errorf("restored thread has %+v, %v; want %+v", after, err, before)
	}
}

func TestRoundTrip(t *testing.T) {
	if err := Check(0, 1); err != nil {
		t.Skip(err)
	}
	d, err := RoundTrip(0, 1)
	if err != nil || d <= 0 {
		t.Errorf("RoundTrip = %v, %v", d, err)
	}
	t.Log(d, DistanceOf(d))
	for _, bad := range [][2]int{{0, 0}, {0, 100000}, {100000, 0}, {-1, 0}} {
		if _, err := RoundTrip(bad[0], bad[1]); err == nil {
			t.Errorf("RoundTrip(%v) is no error", bad)
		}
	}
}

// TestClockIsTheMachines: two clocks made apart agree, and with what others read.
func TestClockIsTheMachines(t *testing.T) {
	a, err := NewClock()
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewClock()
	if err != nil {
		t.Fatal(err)
	}
	var ts unix.Timespec
	low := a.Now()
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	high := b.Now()
	const slack = int64(time.Millisecond) // how far apart the two readings of one pair may lie
	if ts.Nano() < low-slack || ts.Nano() > high+slack {
		t.Errorf("the machine's clock is %d, ours read %d before and %d after", ts.Nano(), low, high)
	}
}
