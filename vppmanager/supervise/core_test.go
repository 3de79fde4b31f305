package supervise

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestCrashIsKept has a real child die of SIGABRT: its report, and its core file where the
// kernel writes one to a file.
func TestCrashIsKept(t *testing.T) {
	base := shortDir(t)
	pipe := filepath.Join(base, "go")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	crashes := filepath.Join(base, "state", "crashes")
	r := runRig(t, filepath.Join(base, "run"), "aborts", func(s *Spec, _ *Timing) { s.CrashDir = crashes }, pipe)
	r.opt.About = func() string { return "part 1.0" }
	first := r.await(t, Ready)
	if err := os.WriteFile(pipe, nil, 0); err != nil { // blocks until the child reads
		t.Fatal(err)
	}
	r.await(t, Waiting)
	r.await(t, Ready)
	crash := r.Status().Crash
	r.cancel()
	<-r.done
	if crash == nil || crash.PID != first.PID || !strings.Contains(crash.How, "was killed by signal 6") {
		t.Fatalf("crash %+v", crash)
	}
	text, err := os.ReadFile(crash.Report)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"version    part 1.0", "command    /proc/self/exe as aborts", fmt.Sprintf("pid        %d", first.PID), "| received signal SIGABRT"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the report does not say %q:\n%s", want, text)
		}
	}
	if info, err := os.Stat(crashes); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, %v", info, err)
	}
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(crash.How, "core file") || strings.HasPrefix(string(pattern), "|") {
		t.Logf("core: %s", crash.Core)
		t.Skipf("this kernel writes no core file of this child (kernel.core_pattern is %q)", pattern)
	}
	core, err := os.ReadFile(crash.Core)
	if err != nil || !bytes.HasPrefix(core, []byte("\x7fELF")) {
		t.Errorf("core file %s: %d bytes, %v\n%s", crash.Core, len(core), err, r.log)
	}
}

func TestNoCrashNoDirectory(t *testing.T) {
	base := shortDir(t)
	crashes := filepath.Join(base, "state", "crashes")
	r := runRig(t, filepath.Join(base, "run", "dp"), "polite", func(s *Spec, _ *Timing) { s.CrashDir = crashes })
	r.await(t, Ready)
	r.stop(t)
	if got := listing(base); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

func TestCorePattern(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct{ pattern, uses, want string }{
		{"core", "0", "core"},
		{"core", "1", "core.%p"},
		{"/cores/%e.%p", "1", "/cores/%e.%p"},
		{"|/usr/lib/systemd/systemd-coredump %P", "1", "|/usr/lib/systemd/systemd-coredump %P"},
	} {
		for name, text := range map[string]string{"core_pattern": tt.pattern, "core_uses_pid": tt.uses} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := corePattern(dir); got != tt.want || err != nil {
			t.Errorf("%q with %s: %q, %v", tt.pattern, tt.uses, got, err)
		}
	}
}

func TestCoreGlob(t *testing.T) {
	for _, tt := range []struct{ pattern, want string }{
		{"core", "/c/core"},
		{"core.%p", "/c/core.12"},
		{"/var/%e-%s-%t.%p", "/var/*-*-*.12"},
		{"100%%[%h]%", `/c/100%\[*]`},
		{"sub/core", "/c/sub/core"},
	} {
		if got := coreGlob(tt.pattern, "/c", 12); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.pattern, got, tt.want)
		}
	}
}

// TestFindCore: a file of an earlier child of the same name is not taken for this one's.
func TestFindCore(t *testing.T) {
	dir := t.TempDir()
	begun := time.Now()
	old := filepath.Join(dir, "vpp.1.12")
	for name, at := range map[string]time.Time{old: begun.Add(-time.Hour), filepath.Join(dir, "vpp.2.12"): begun.Add(time.Minute), filepath.Join(dir, "vpp.3.13"): begun.Add(time.Hour)} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	got, err := findCore("%e.%t.%p", dir, 12, begun)
	if want := filepath.Join(dir, "vpp.2.12"); got != want || err != nil {
		t.Errorf("found %q, %v", got, err)
	}
	if got, err := findCore("vpp.1.%p", dir, 12, begun); err == nil {
		t.Errorf("took %s of an earlier child", got)
	}
}

// TestPrune keeps the newest within both bounds, and never touches what is not ours.
func TestPrune(t *testing.T) {
	stamp := func(i int) string { return fmt.Sprintf("20260102T03040%d.000000-vpp-%d", i, 100+i) }
	for name, tt := range map[string]struct {
		keep Keep
		left int // of 5, the newest
	}{
		"all fit":        {Keep{Reports: 5, Bytes: 1 << 30}, 5},
		"number":         {Keep{Reports: 2, Bytes: 1 << 30}, 2},
		"bytes":          {Keep{Reports: 5, Bytes: 3*(8<<10) + 100}, 3},
		"newest remains": {Keep{Reports: 1, Bytes: 1}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for i := range 5 {
				for suffix, size := range map[string]int{".txt": 4 << 10, ".core": 4 << 10} {
					if err := os.WriteFile(filepath.Join(dir, stamp(i)+suffix), bytes.Repeat([]byte{1}, size), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			want := []string{"notes.txt"}
			if err := os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := prune(dir, tt.keep); err != nil {
				t.Fatal(err)
			}
			for i := 5 - tt.left; i < 5; i++ {
				want = append(want, stamp(i)+".core", stamp(i)+".txt")
			}
			got := listing(dir)
			if len(got) != len(want) || !strings.HasPrefix(got[0], stamp(5-tt.left)) {
				t.Errorf("left %v, want %v", got, want)
			}
		})
	}
}

// TestMoveKeepsHoles: a core file of a large process is mostly holes.
func TestMoveKeepsHoles(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "core"), filepath.Join(dir, "kept")
	f, err := os.Create(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(64 << 20); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 10 << 20, 40 << 20} {
		if _, err := f.WriteAt([]byte("data"), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := moveFile(from, to); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(to)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the copy differs (%v)", err)
	}
	info, err := os.Stat(to)
	if err != nil || allocated(info) > 1<<20 {
		t.Errorf("%d bytes allocated (%v)", allocated(info), err)
	}
	if _, err := os.Stat(from); !os.IsNotExist(err) {
		t.Errorf("the original is still there: %v", err)
	}
}
