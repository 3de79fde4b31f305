package supervise

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Keep bounds what is kept of crashes.
type Keep struct {
	Reports int   // how many, each with its core file
	Bytes   int64 // of all of them together; the kernel cuts a core file at half of it
}

// DefaultKeep is enough for the cores of a VPP whose main heap is partly filled.
func DefaultKeep() Keep { return Keep{Reports: 10, Bytes: 4 << 30} }

// coreLimit is RLIMIT_CORE for the child.
func (s *Supervisor) coreLimit() uint64 {
	if s.spec.CrashDir == "" {
		return 0
	}
	return uint64(s.opt.Keep.Bytes / 2)
}

// limitCore lets the kernel write a core file of the child, or keeps it from it.
func (c *child) limitCore(bytes uint64) {
	limit := unix.Rlimit{Cur: bytes, Max: bytes}
	if err := unix.Prlimit(c.pid, unix.RLIMIT_CORE, &limit, nil); err != nil && !errors.Is(err, unix.ESRCH) {
		c.note(fmt.Errorf("set the limit of core files (RLIMIT_CORE): %w", err))
	}
}

// capture keeps what is known of a child's end. It never fails: what cannot be kept is
// told to the log.
func (s *Supervisor) capture(e end) *Crash {
	c := &Crash{
		Time: time.Now(), Dataplane: s.spec.Name, Command: strings.Join(s.spec.Command, " "), PID: e.pid,
		Uptime: time.Since(e.began), ReadyFor: e.readyFor, How: e.reason, Output: e.output,
	}
	if s.opt.About != nil && e.pid != 0 {
		c.About = s.opt.About()
	}
	if s.spec.CrashDir == "" {
		return c
	}
	base := filepath.Join(s.spec.CrashDir, fmt.Sprintf("%s-%s-%d", c.Time.UTC().Format("20060102T150405.000000"), s.spec.Name, e.pid))
	if err := s.keepCore(c, e, base+".core"); err != nil {
		s.opt.Log.Warn("a core file is not kept", "err", err)
	}
	c.Report = base + ".txt"
	if err := os.WriteFile(c.Report, []byte(c.String()), 0o600); err != nil {
		s.opt.Log.Warn("the report of a crash is not kept", "err", err)
		c.Report = ""
	}
	if err := prune(s.spec.CrashDir, s.opt.Keep); err != nil {
		s.opt.Log.Warn("old reports of crashes are not removed", "err", err)
	}
	return c
}

// keepCore moves the core file of a child's end to where it is kept, and says in c where
// that is or why there is none.
func (s *Supervisor) keepCore(c *Crash, e end, to string) error {
	if !e.core {
		c.Core = "none was written"
		return nil
	}
	pattern, err := corePattern("/proc/sys/kernel")
	if err != nil {
		c.Core = "unknown: " + err.Error()
		return err
	}
	if program, piped := strings.CutPrefix(pattern, "|"); piped {
		c.Core = fmt.Sprintf("was given to %s (kernel.core_pattern)", strings.Fields(program + " ?")[0])
		if strings.Contains(program, "systemd-coredump") {
			c.Core += fmt.Sprintf(": coredumpctl info %d", e.pid)
		}
		return nil
	}
	from, err := findCore(pattern, s.spec.CrashDir, e.pid, e.began)
	if err != nil {
		c.Core = "not found: " + err.Error()
		return err
	}
	c.Core = to
	if err := os.Rename(from, to); err == nil {
		return os.Chmod(to, 0o600)
	} else if !errors.Is(err, unix.EXDEV) {
		c.Core = from
		return err
	}
	// Another file system. The next child may write to the same name, so it is moved out of
	// the way at once, and copied while that runs.
	aside := from + "." + filepath.Base(to)
	if err := os.Rename(from, aside); err != nil {
		c.Core = from
		return err
	}
	s.keeping.Go(func() {
		if err := moveFile(aside, to); err != nil {
			s.opt.Log.Warn("a core file stays where the kernel put it", "core", aside, "err", err)
		}
	})
	return nil
}

// moveFile copies a file to another file system, with its holes, and removes it.
func moveFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = copySparse(out, in)
	if err = errors.Join(err, out.Close()); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return os.Remove(from)
}

func copySparse(out, in *os.File) error {
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := out.Truncate(info.Size()); err != nil {
		return err
	}
	for at := int64(0); at < info.Size(); {
		from, err := in.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // only a hole is left
		}
		if err != nil {
			return err
		}
		to, err := in.Seek(from, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := out.Seek(from, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.Copy(out, io.NewSectionReader(in, from, to-from)); err != nil {
			return err
		}
		at = to
	}
	return nil
}

// corePattern is kernel.core_pattern with the process number that core_uses_pid asks for.
func corePattern(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "core_pattern"))
	if err != nil {
		return "", err
	}
	pattern := strings.TrimSuffix(string(text), "\n")
	uses, err := os.ReadFile(filepath.Join(dir, "core_uses_pid"))
	if err != nil {
		return "", err
	}
	if strings.TrimSpace(string(uses)) != "0" && !strings.Contains(pattern, "%p") && !strings.HasPrefix(pattern, "|") {
		pattern += ".%p"
	}
	return pattern, nil
}

// coreGlob makes a pattern for filepath.Glob of kernel.core_pattern (core(5)). What the
// kernel knows better than we is a star.
func coreGlob(pattern, dir string, pid int) string {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '%' && i+1 < len(pattern):
			i++
			switch pattern[i] {
			case '%':
				b.WriteByte('%')
			case 'p':
				b.WriteString(strconv.Itoa(pid))
			default:
				b.WriteByte('*')
			}
		case c == '%': // a single one at the end is dropped
		case strings.ContainsRune(`*?[\`, rune(c)):
			b.WriteString(`\` + string(c))
		default:
			b.WriteByte(c)
		}
	}
	glob := b.String()
	if !filepath.IsAbs(glob) {
		glob = filepath.Join(dir, glob)
	}
	return glob
}

// findCore finds the core file of a child: the newest one of that pattern that is not
// older than the child.
func findCore(pattern, dir string, pid int, since time.Time) (string, error) {
	if pattern == "" {
		pattern = "core"
	}
	glob := coreGlob(pattern, dir, pid)
	paths, err := filepath.Glob(glob)
	if err != nil {
		return "", err
	}
	var newest string
	var at time.Time
	for _, path := range paths {
		info, err := os.Lstat(path)
		if err != nil || !info.Mode().IsRegular() || info.ModTime().Before(since.Add(-time.Second)) || info.ModTime().Before(at) {
			continue
		}
		newest, at = path, info.ModTime()
	}
	if newest == "" {
		return "", fmt.Errorf("no file %s is of this child", glob)
	}
	return newest, nil
}

// prune removes the oldest reports and cores until the others are few and small enough.
// The newest report stays whatever its size.
func prune(dir string, keep Keep) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	sizes := map[string]int64{}
	for _, e := range entries {
		base, ours := reportOf(e.Name())
		if !ours {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		sizes[base] += allocated(info)
	}
	bases := make([]string, 0, len(sizes))
	total := int64(0)
	for base, size := range sizes {
		bases, total = append(bases, base), total+size
	}
	slices.Sort(bases) // by time
	var errs []error
	for len(bases) > 1 && (len(bases) > keep.Reports || total > keep.Bytes) {
		oldest := filepath.Join(dir, bases[0])
		errs = append(errs, removeIfThere(oldest+".txt"), removeIfThere(oldest+".core"))
		total -= sizes[bases[0]]
		bases = bases[1:]
	}
	return errors.Join(errs...)
}

// reportOf takes the name of a report or core file apart; files of others are not ours.
func reportOf(name string) (base string, ours bool) {
	base, isText := strings.CutSuffix(name, ".txt")
	if !isText {
		var isCore bool
		if base, isCore = strings.CutSuffix(name, ".core"); !isCore {
			return "", false
		}
	}
	stamp, _, found := strings.Cut(base, "-")
	_, err := time.Parse("20060102T150405.000000", stamp)
	return base, found && err == nil
}

// allocated is what a file takes of the disk; a core file has holes.
func allocated(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}
