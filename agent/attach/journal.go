package attach

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/millrace/millrace/cluster"
)

// Journal is the durable set of attachments: one file each below the state directory, the
// only place where addresses in use are written down. A file is there whole or not at all,
// whenever the process or the machine stops.
//
// Put and remove of one attachment must not overlap; those of several may.
type Journal struct {
	disk disk
	dir  string
	boot string

	mu       sync.Mutex
	records  map[cluster.AttachmentID]record
	damaged  map[string]error // by file name
	revision uint64           // grows with each put and remove in this process
	ticket   uint64           // grows with each record ever written
	changed  chan struct{}
}

// disk is a directory as the journal needs it. What is written, renamed or removed may be
// undone by a power cut until the file, or the directory, is synced.
type disk interface {
	fs.FS
	Create(name string) (file, error) // new, or emptied
	Rename(from, to string) error
	Remove(name string) error // one that is not there is fs.ErrNotExist
	Sync() error              // of the names
	Close() error
}

type file interface {
	io.WriteCloser
	Sync() error // of the content
}

// recordsDir is below the state directory.
const recordsDir = "attachments"

// Open reads the journal below a state directory, which it makes where there is none, and
// locks it: a directory has one agent. A record that is torn or altered is set aside and
// listed by Damaged; one that cannot be read at all, or that a later release wrote, fails
// the opening.
func Open(stateDir string) (*Journal, error) {
	dir := filepath.Join(stateDir, recordsDir)
	boot, err := bootID()
	if err != nil {
		return nil, fmt.Errorf("open journal %s: %w", dir, err)
	}
	d, err := openDirectory(dir)
	if err != nil {
		return nil, fmt.Errorf("open journal %s: %w", dir, err)
	}
	j, err := load(d, dir, boot)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return j, nil
}

func load(d disk, dir, boot string) (*Journal, error) {
	j := &Journal{
		disk: d, dir: dir, boot: boot, records: map[cluster.AttachmentID]record{},
		damaged: map[string]error{}, changed: make(chan struct{}, 1),
	}
	entries, err := fs.ReadDir(d, ".")
	if err != nil {
		return nil, fmt.Errorf("open journal %s: %w", dir, err)
	}
	var found []record
	for _, e := range entries {
		r, err := j.read(e.Name())
		switch {
		case errors.Is(err, errDamaged):
			j.damaged[e.Name()] = err
		case err != nil:
			return nil, fmt.Errorf("open journal: %w", err)
		case r.ID.ContainerID != "":
			found = append(found, r)
		}
	}
	// The order of writing survives a restart, the numbers do not.
	slices.SortFunc(found, func(a, b record) int { return cmp.Compare(a.Revision, b.Revision) })
	for _, r := range found {
		j.revision++
		j.ticket = max(j.ticket, r.Revision)
		r.Revision = j.revision
		j.records[r.ID] = r
	}
	if len(found) > 0 {
		j.revision++ // that of the whole, which waits for no single one of them
	}
	return j, nil
}

var errDamaged = errors.New("damaged record")

// read reads one file. Leftovers of writes that never ended are swept away and give the
// empty record.
func (j *Journal) read(name string) (record, error) {
	path := filepath.Join(j.dir, name)
	if strings.HasPrefix(name, unfinishedPrefix) {
		if err := j.erase(name); err != nil {
			return record{}, fmt.Errorf("sweep %s: %w", path, err)
		}
		return record{}, nil
	}
	data, err := fs.ReadFile(j.disk, name)
	if err != nil {
		return record{}, fmt.Errorf("read %s: %w", path, err)
	}
	r, err := decode(data)
	if errors.Is(err, errNewer) {
		return record{}, fmt.Errorf("read %s: %w", path, err)
	}
	if err == nil && fileName(r.ID) != name {
		err = fmt.Errorf("holds %s: renamed or copied", r.ID)
	}
	if err != nil {
		return record{}, fmt.Errorf("%w %s: %w", errDamaged, path, err)
	}
	return r, nil
}

// Close unlocks the directory.
func (j *Journal) Close() error { return j.disk.Close() }

// Damaged lists the records that could not be read when the journal was opened and have
// not been replaced or removed since; each names its file. Their containers are facts no
// longer: a DEL, a GC or a new ADD of theirs removes the file.
func (j *Journal) Damaged() []error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var errs []error
	for _, err := range j.damaged {
		errs = append(errs, err)
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errs
}

// Facts returns the attachments in order of their IDs, and the revision they stand at:
// all with a revision up to it are in. Records from before the machine's last boot are
// not: their containers cannot have survived it.
func (j *Journal) Facts() (revision uint64, attachments []cluster.Attachment) {
	revision, stored := j.all()
	for _, r := range stored {
		if r.Namespace.Boot == j.boot {
			attachments = append(attachments, r.Attachment)
		}
	}
	return revision, attachments
}

// Changed receives a value after facts changed; several changes may be one value.
func (j *Journal) Changed() <-chan struct{} { return j.changed }

// all returns every record in order of IDs, those from before the last boot included:
// their addresses stay theirs until somebody removes them.
func (j *Journal) all() (uint64, []record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	stored := make([]record, 0, len(j.records))
	for _, r := range j.records {
		stored = append(stored, r)
	}
	slices.SortFunc(stored, func(a, b record) int { return a.ID.Compare(b.ID) })
	return j.revision, stored
}

func (j *Journal) find(id cluster.AttachmentID) (record, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r, ok := j.records[id]
	return r, ok
}

// hasOther says whether the container has another attachment.
func (j *Journal) hasOther(id cluster.AttachmentID) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for other := range j.records {
		if other.ContainerID == id.ContainerID && other != id {
			return true
		}
	}
	return false
}

// put makes a record durable, then a fact, and returns it with its revision. After an
// error nothing of it is left.
func (j *Journal) put(r record) (record, error) {
	name := fileName(r.ID)
	r.Revision = j.nextTicket()
	data := encode(r)
	if back, err := decode(data); err != nil || !reflect.DeepEqual(back, r) {
		return record{}, fmt.Errorf("store attachment %s: it does not survive writing and reading: %w", r.ID, err)
	}
	if err := j.replace(name, r.Revision, data); err != nil {
		// It may have failed after the name was there: better no file than one whose
		// durability nobody knows.
		return record{}, errors.Join(fmt.Errorf("store attachment %s in %s: %w", r.ID, j.dir, err), j.erase(name))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.revision++
	r.Revision = j.revision
	j.records[r.ID] = r
	delete(j.damaged, name)
	j.notify()
	return r, nil
}

// remove makes a record cease to be a fact, durably, and returns the revision of that.
// After an error it still is one.
func (j *Journal) remove(id cluster.AttachmentID) (uint64, error) {
	if err := j.erase(fileName(id)); err != nil {
		return 0, fmt.Errorf("remove attachment %s from %s: %w", id, j.dir, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.revision++
	delete(j.records, id)
	j.notify()
	return j.revision, nil
}

// clearDamaged removes the damaged record of an attachment, if there is one.
func (j *Journal) clearDamaged(id cluster.AttachmentID) error {
	name := fileName(id)
	j.mu.Lock()
	_, is := j.damaged[name]
	j.mu.Unlock()
	if !is {
		return nil
	}
	if err := j.erase(name); err != nil {
		return fmt.Errorf("remove damaged record of %s: %w", id, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.damaged, name)
	return nil
}

// clearDamagedExcept removes the damaged records of all attachments but these. Nobody can
// tell the network of a damaged record, and nobody misses it.
func (j *Journal) clearDamagedExcept(keep []cluster.AttachmentID) error {
	j.mu.Lock()
	var names []string
	for name := range j.damaged {
		if !slices.ContainsFunc(keep, func(id cluster.AttachmentID) bool { return fileName(id) == name }) {
			names = append(names, name)
		}
	}
	j.mu.Unlock()
	var errs []error
	for _, name := range names {
		if err := j.erase(name); err != nil {
			errs = append(errs, fmt.Errorf("remove damaged record %s: %w", name, err))
			continue
		}
		j.mu.Lock()
		delete(j.damaged, name)
		j.mu.Unlock()
	}
	return errors.Join(errs...)
}

// replace writes a file so that name holds its old content or the new one, whenever the
// machine stops; after success it is the new one.
func (j *Journal) replace(name string, ticket uint64, data []byte) error {
	unfinished := unfinishedPrefix + strconv.FormatUint(ticket, 10)
	err := j.write(unfinished, data)
	if err == nil {
		err = j.disk.Rename(unfinished, name)
	}
	if err != nil {
		if gone := j.disk.Remove(unfinished); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
		return err
	}
	return j.disk.Sync()
}

// unfinishedPrefix begins the names of files that are being written.
const unfinishedPrefix = ".new-"

func (j *Journal) write(name string, data []byte) error {
	f, err := j.disk.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// erase removes a file for good. That there is none may be a removal whose sync failed, so
// the names are synced all the same.
func (j *Journal) erase(name string) error {
	if err := j.disk.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return j.disk.Sync()
}

func (j *Journal) nextTicket() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ticket++
	return j.ticket
}

func (j *Journal) notify() {
	select {
	case j.changed <- struct{}{}:
	default: // the reader has not taken the last value yet
	}
}
