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

// room is the right to run in a runtime directory: a locked file in it.
type room struct {
	lock    *os.File
	dir     string
	created []string // directories we made, to be removed at the end; parents first
	files   []string // to be removed at the end: ours, and those of a killed predecessor
}

// lockName is in the runtime directory. It holds the owner and what a supervisor that was
// killed did not get to remove.
const lockName = "supervisor.lock"

type lockText struct {
	PID     int      `json:"pid"`
	Created []string `json:"created,omitempty"`
	Files   []string `json:"files,omitempty"`
}

// enterRoom makes the directories, takes the lock, ends what an earlier supervisor left
// running and removes its dead sockets. A socket that a stranger serves is an error.
func enterRoom(ctx context.Context, spec Spec, log *slog.Logger) (_ *room, err error) {
	r := &room{dir: spec.RuntimeDir}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if err := r.makeDir(spec.RuntimeDir); err != nil {
		return nil, err
	}
	if err := r.take(); err != nil {
		return nil, err
	}
	for _, s := range spec.Sockets {
		if err := r.makeDir(filepath.Dir(s)); err != nil {
			return nil, err
		}
	}
	r.files = union(r.files, spec.Strays)
	for _, f := range spec.Files {
		r.files = union(r.files, []string{f.Path, f.Path + ".new"})
	}
	if err := r.write(); err != nil {
		return nil, err
	}
	mark, err := markOf(spec.RuntimeDir)
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
	if err := clearSockets(spec.Sockets); err != nil {
		return nil, err
	}
	return r, nil
}

// makeDir makes a directory and its parents, and remembers which of them are new.
func (r *room) makeDir(dir string) error {
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
func (r *room) take() error {
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

func (r *room) write() error {
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

// leave removes what the child and we made. Directories stay when a stranger has put
// something into them.
func (r *room) leave(spec Spec) error {
	errs := []error{clearSockets(spec.Sockets), sweepSockets(spec.RuntimeDir)}
	for _, path := range r.files {
		errs = append(errs, removeIfThere(path))
	}
	return errors.Join(append(errs, r.close())...)
}

// close gives the lock back and removes the directories we made, children first.
func (r *room) close() error {
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
