package change

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/vppmanager/startup"
)

// JournalFile is the journal's name in the state directory.
const JournalFile = "manager.journal"

const lockFile = "manager.lock"

// Journal is the manager's journal, open and locked for one process. The kernel lets go of
// the lock when the process ends, however it ends.
type Journal struct {
	contents
	path string
	dir  *os.File
	lock *os.File // locked; a file of its own, since the agent locks the directory
	file *os.File // nil: there is none
	size int64
}

// Open opens the journal of a state directory, which it makes where there is none, and
// locks it. It refuses while another process has it open, and a journal that another
// release or somebody else wrote. It makes no journal: Apply does.
func Open(stateDir string) (*Journal, error) {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j := &Journal{path: filepath.Join(stateDir, JournalFile)}
	if err := j.open(stateDir); err != nil {
		return nil, fmt.Errorf("open journal %s: %w", j.path, errors.Join(err, j.Close()))
	}
	return j, nil
}

func (j *Journal) open(stateDir string) (err error) {
	if j.dir, err = os.Open(stateDir); err != nil {
		return err
	}
	j.lock, err = os.OpenFile(filepath.Join(stateDir, lockFile), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	err = unix.Flock(int(j.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("a manager that runs holds it: stop that one, which undoes its changes, or use another stateDir")
	}
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	f, err := os.OpenFile(j.path, os.O_RDWR|os.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	j.file = f
	torn, err := j.read()
	if err != nil || !torn {
		return err
	}
	return j.file.Truncate(j.size)
}

// Left lists what the journal of a state directory says is not undone, of a manager that
// was ended or of one that runs: it locks and changes nothing. What a reboot has taken away
// is not in it.
func (h Host) Left(stateDir string) ([]startup.Change, error) {
	path := filepath.Join(stateDir, JournalFile)
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look into journal: %w", err)
	}
	defer f.Close()
	boot, err := h.bootID()
	if err != nil {
		return nil, fmt.Errorf("look into journal: %w", err)
	}
	j := &Journal{path: path, file: f}
	if _, err := j.read(); err != nil {
		return nil, fmt.Errorf("look into journal %s: %w", path, err)
	}
	if j.head.Boot != boot {
		return nil, nil
	}
	return j.Pending(), nil
}

// read believes only a file that nobody else could have written: what it names is done. A
// torn last line is left out.
func (j *Journal) read() (torn bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(j.file.Fd()), &st); err != nil {
		return false, err
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return false, errors.New("it is no file: remove it")
	case int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0:
		return false, fmt.Errorf("it belongs to user %d with mode %04o, so that others could have written it: it is not followed; remove it when it is none of millrace's", st.Uid, st.Mode&0o7777)
	case st.Size > journalMax:
		return false, fmt.Errorf("it has %d MiB: longer than any journal", st.Size>>20)
	}
	data, err := io.ReadAll(j.file)
	if err != nil {
		return false, err
	}
	if j.contents, err = parseJournal(data); err != nil {
		return false, err
	}
	j.size = int64(j.whole)
	return j.whole < len(data), nil
}

// Close unlocks the journal. It stays as it is.
func (j *Journal) Close() error {
	var errs []error
	for _, f := range []*os.File{j.file, j.lock, j.dir} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	j.file, j.lock, j.dir = nil, nil, nil
	return errors.Join(errs...)
}

// Pending lists the changes that are not undone, in the order in which they were made. A
// last one may not have been carried out.
func (j *Journal) Pending() []startup.Change {
	var list []startup.Change
	for _, s := range j.pending() {
		list = append(list, s.Change)
	}
	return list
}

func (j *Journal) pending() []*step {
	var list []*step
	for _, s := range j.steps {
		if !s.Undone {
			list = append(list, s)
		}
	}
	return list
}

func (j *Journal) exists() bool { return j.file != nil }

// spare is kept free on the disk for the marks of undoing, and for what most steps note.
const spare = 64 << 10

// begin makes a new journal, durably, and sees to it that a full disk shows now.
func (j *Journal) begin(boot string, steps int) error {
	if err := j.finish(); err != nil {
		return err
	}
	f, err := os.OpenFile(j.path, os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	j.file, j.size, j.contents = f, 0, contents{head: head{journalName, journalVersion, boot}}
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, int64(spare+4096*steps))
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("keep room in %s: %w", j.path, err)
	}
	if err := j.append(j.head); err != nil {
		return err
	}
	return j.dir.Sync()
}

// finish removes the journal, durably.
func (j *Journal) finish() error {
	if j.file == nil {
		return nil
	}
	if err := os.Remove(j.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := errors.Join(j.file.Close(), j.dir.Sync())
	j.file, j.contents = nil, contents{}
	return err
}

// append makes a line durable. What was written of one that could not be goes again.
func (j *Journal) append(v any) error {
	line, err := encodeLine(v)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if j.size+int64(len(line)) > journalMax {
		return fmt.Errorf("write journal: it would be longer than %d MiB", journalMax>>20)
	}
	_, err = j.file.Write(line)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write journal: %w", err), j.file.Truncate(j.size))
	}
	j.size += int64(len(line))
	return nil
}

func (j *Journal) intend(c startup.Change, before state) (*step, error) {
	s := &step{ID: len(j.steps) + 1, Change: c, Before: before}
	if err := j.append(mark{Step: s.ID, Mark: markIntend, Change: &c, Before: &before}); err != nil {
		return nil, err
	}
	j.steps = append(j.steps, s)
	return s, nil
}

func (j *Journal) done(s *step, after *state) error {
	s.Done, s.After = true, after
	return j.append(mark{Step: s.ID, Mark: markDone, After: after})
}

// target notes what undoing a step has to reach.
func (j *Journal) target(s *step, target state) error {
	s.Target = &target
	return j.append(mark{Step: s.ID, Mark: markUndo, After: &target})
}

func (j *Journal) undone(s *step) error { return j.append(mark{Step: s.ID, Mark: markUndone}) }
