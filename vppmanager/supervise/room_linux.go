package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Room is the right to run in a runtime directory: a locked file in it.
type Room struct {
	lock    *os.File
	dir     string
	created []string // directories we made, to be removed at the end; parents first
	files   []string // to be removed at the end: ours, and those of a killed predecessor
	sockets []string // to be removed at the end
}

// lockName is in the runtime directory. It holds the owner and what a supervisor that was
// killed did not get to remove.
const lockName = "supervisor.lock"

type lockText struct {
	PID     int      `json:"pid"`
	Created []string `json:"created,omitempty"`
	Files   []string `json:"files,omitempty"`
}

// Enter makes the directory, takes its lock and ends what an earlier supervisor left
// running. Whoever changes the host for the child does it between Enter and Leave: then no
// other supervisor of this directory does, and no child of a dead one uses what is changed.
func Enter(ctx context.Context, dir string, log *slog.Logger) (_ *Room, err error) {
	r := &Room{dir: dir}
	defer func() {
		if err != nil {
			err = fmt.Errorf("prepare %s: %w", dir, errors.Join(err, r.close()))
		}
	}()
	if err := r.makeDir(dir); err != nil {
		return nil, err
	}
	if err := r.take(); err != nil {
		return nil, err
	}
	if err := r.write(); err != nil {
		return nil, err
	}
	mark, err := markOf(dir)
	if err != nil {
		return nil, err
	}
	ended, err := endMarked(ctx, mark)
	if err != nil {
		return nil, fmt.Errorf("end what an earlier manager left running: %w", err)
	}
	for _, pid := range ended {
		log.Warn("ended a dataplane that an earlier manager left running", "pid", pid)
	}
	return r, nil
}

// furnish makes the other directories of a spec, notes what has to be removed at the end,
// and removes dead sockets. A socket that a stranger serves is an error.
func (r *Room) furnish(spec Spec) (err error) {
	defer func() {
		if err != nil {
			r.files = nil // they may be the stranger's by now
		}
	}()
	for _, s := range spec.Sockets {
		if err := r.makeDir(filepath.Dir(s)); err != nil {
			return err
		}
	}
	if spec.CrashDir != "" {
		if err := r.makeDir(spec.CrashDir); err != nil {
			return err
		}
		// A core file holds what the process knew, keys among it.
		if err := os.Chmod(spec.CrashDir, 0o700); err != nil {
			return err
		}
	}
	r.files = union(r.files, spec.Strays)
	for _, f := range spec.Files {
		r.files = union(r.files, []string{f.Path, f.Path + ".new"})
	}
	if err := r.write(); err != nil {
		return err
	}
	if err := clearSockets(spec.Sockets); err != nil {
		return err
	}
	r.sockets = spec.Sockets
	return nil
}

// makeDir makes a directory and its parents, and remembers which of them are new.
func (r *Room) makeDir(dir string) error {
	var missing []string
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); err == nil {
			break
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		missing = append(missing, at)
	}
	for _, at := range slices.Backward(missing) {
		if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		r.created = append(r.created, at)
	}
	return nil
}

// take locks the lock file. A file that was removed between open and lock does not count.
func (r *Room) take() error {
	path := filepath.Join(r.dir, lockName)
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		old := readLock(f)
		if lockErr := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); lockErr != nil {
			f.Close()
			if errors.Is(lockErr, unix.EWOULDBLOCK) {
				return fmt.Errorf("another manager (pid %d) runs in %s: stop it, or choose another runtimeDir", old.PID, r.dir)
			}
			return fmt.Errorf("lock %s: %w", path, lockErr)
		}
		if !sameFile(f, path) {
			f.Close()
			continue
		}
		r.lock = f
		r.created, r.files = union(old.Created, r.created), old.Files
		return nil
	}
}

// readLock reads what an earlier supervisor noted. Only a file that nobody else could
// have written is believed, since what it names will be removed. A file torn by a crash
// tells nothing: then a few files may stay.
func readLock(f *os.File) lockText {
	var old, nothing lockText
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 || st.Size > 1<<20 {
		return nothing
	}
	text := make([]byte, st.Size)
	if _, err := f.ReadAt(text, 0); err != nil || json.Unmarshal(text, &old) != nil {
		return nothing
	}
	return old
}

// union appends what a does not hold yet.
func union(a, b []string) []string {
	for _, v := range b {
		if !slices.Contains(a, v) {
			a = append(a, v)
		}
	}
	return a
}

func sameFile(f *os.File, path string) bool {
	a, errA := f.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

func (r *Room) write() error {
	text, err := json.Marshal(lockText{PID: os.Getpid(), Created: r.created, Files: r.files})
	if err != nil {
		return err
	}
	if err := r.lock.Truncate(0); err != nil {
		return err
	}
	_, err = r.lock.WriteAt(text, 0)
	return err
}

// Leave removes what the child and we made. Directories stay when something else is in
// them: what a stranger put there, or reports of crashes.
func (r *Room) Leave() error {
	errs := []error{clearSockets(r.sockets), sweepSockets(r.dir)}
	for _, path := range r.files {
		errs = append(errs, removeIfThere(path))
	}
	if err := errors.Join(append(errs, r.close())...); err != nil {
		return fmt.Errorf("clear %s: %w", r.dir, err)
	}
	return nil
}

// close gives the lock back and removes the directories we made, children first.
func (r *Room) close() error {
	var errs []error
	if r.lock != nil {
		errs = append(errs, removeIfThere(r.lock.Name()))
	}
	for _, dir := range slices.Backward(r.created) {
		// Rmdir cannot remove a file that took the directory's place.
		if err := unix.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
			errs = append(errs, fmt.Errorf("remove directory %s: %w", dir, err))
		}
	}
	if r.lock != nil {
		errs = append(errs, r.lock.Close())
	}
	return errors.Join(errs...)
}
