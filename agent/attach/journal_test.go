package attach

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/cluster"
)

func numbered(n int) record {
	boot, _ := bootID()
	return record{
		Attachment: cluster.Attachment{
			ID: cluster.AttachmentID{ContainerID: fmt.Sprintf("c%d", n), IfName: "eth0"}, Netns: "/run/netns/x", Network: "pods",
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, 0, byte(n)})},
		},
		Namespace: NamespaceID{Boot: boot, Cookie: uint64(n)},
	}
}

func openJournal(t *testing.T, dir string) *Journal {
	t.Helper()
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func ids(j *Journal) (all []string) {
	_, facts := j.Facts()
	for _, a := range facts {
		all = append(all, a.ID.ContainerID)
	}
	return all
}

func TestJournalKeepsFacts(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir)
	for _, n := range []int{3, 1, 2} {
		if _, err := j.put(numbered(n)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-j.Changed():
	default:
		t.Error("nothing told of three changes")
	}
	select {
	case <-j.Changed():
		t.Error("three changes nobody read are more than one value")
	default:
	}
	if r, err := j.remove(numbered(1).ID); err != nil || r != 4 {
		t.Errorf("remove = %d, %v; want revision 4", r, err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("a second Open = %v, want it refused", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = openJournal(t, dir)
	defer j.Close()
	if diff := cmp.Diff([]string{"c2", "c3"}, ids(j)); diff != "" {
		t.Error(diff)
	}
	// The order of writing survives: 3 was first.
	first, _ := j.find(numbered(3).ID)
	second, _ := j.find(numbered(2).ID)
	if first.Revision != 1 || second.Revision != 2 {
		t.Errorf("revisions %d and %d, want 1 and 2", first.Revision, second.Revision)
	}
	if r, err := j.put(numbered(9)); err != nil || r.Revision != 4 {
		t.Errorf("put = %d, %v; want revision 4", r.Revision, err)
	}
}

func TestJournalAfterReboot(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir)
	old := numbered(1)
	old.Namespace.Boot = "yesterday"
	for _, r := range []record{old, numbered(2)} {
		if _, err := j.put(r); err != nil {
			t.Fatal(err)
		}
	}
	defer j.Close()
	if diff := cmp.Diff([]string{"c2"}, ids(j)); diff != "" {
		t.Errorf("a container of the last boot is a fact: %s", diff)
	}
	if _, found := j.find(old.ID); !found {
		t.Error("its record is gone before a DEL")
	}
}

func TestJournalDamage(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir)
	for n := range 4 {
		if _, err := j.put(numbered(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, recordsDir, name) }
	torn, err := os.ReadFile(at("c0@eth0"))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"c0@eth0": torn[:len(torn)/2], "c1@eth0": {}, "c9@eth0": torn, ".new-77": torn[:5],
	} {
		if err := os.WriteFile(at(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	j = openJournal(t, dir)
	defer j.Close()
	if diff := cmp.Diff([]string{"c2", "c3"}, ids(j)); diff != "" {
		t.Error(diff)
	}
	damaged := j.Damaged()
	if len(damaged) != 3 {
		t.Fatalf("damaged %v, want three", damaged)
	}
	for i, want := range []string{"c0@eth0: checksum", "c1@eth0: does not begin", "c9@eth0: holds c0/eth0"} {
		if !strings.Contains(damaged[i].Error(), at(want)) {
			t.Errorf("damage %q does not say %q", damaged[i], want)
		}
	}
	if _, err := os.Stat(at(".new-77")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an unfinished write was not swept: %v", err)
	}
	if err := j.clearDamaged(numbered(0).ID); err != nil {
		t.Error(err)
	}
	if _, err := j.put(numbered(1)); err != nil {
		t.Error(err)
	}
	if err := j.clearDamagedExcept([]cluster.AttachmentID{numbered(9).ID}); err != nil || len(j.Damaged()) != 1 {
		t.Errorf("damaged %v, %v; want c9 kept", j.Damaged(), err)
	}
	if err := j.clearDamagedExcept(nil); err != nil || len(j.Damaged()) != 0 {
		t.Errorf("damaged %v, %v; want none", j.Damaged(), err)
	}
}

func TestJournalRefusesToOpen(t *testing.T) {
	newer := strings.Replace(string(encode(numbered(1))), "v1", "v3", 1)
	for name, spoil := range map[string]func(path string) error{
		"a later release": func(path string) error { return os.WriteFile(path, []byte(newer), 0o600) },
		"c1@eth0":         func(path string) error { return os.Mkdir(path, 0o700) }, // cannot be read
	} {
		dir := t.TempDir()
		if err := openJournal(t, dir).Close(); err != nil {
			t.Fatal(err)
		}
		if err := spoil(filepath.Join(dir, recordsDir, "c1@eth0")); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "c1@eth0") {
			t.Errorf("%s: Open = %v, want an error that names the file", name, err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file as state directory: %v", err)
	}
}

// model is a disk in memory that dies at a chosen step. What it held then, after a kill or
// a power cut, is a disk again.
type model struct {
	fstest.MapFS                            // as the kernel shows it
	synced       map[*fstest.MapFile][]byte // content that a power cut leaves
	durable      fstest.MapFS               // names that a power cut leaves
	unsynced     []func(fstest.MapFS)       // changes of names since the last Sync
	steps        int                        // still allowed; negative: no end
}

var errDead = errors.New("the machine is dead")

func newModel(steps int) *model {
	return &model{MapFS: fstest.MapFS{}, durable: fstest.MapFS{}, synced: map[*fstest.MapFile][]byte{}, steps: steps}
}

func (m *model) step() error {
	if m.steps == 0 {
		return errDead
	}
	m.steps--
	return nil
}

func (m *model) rename(change func(fstest.MapFS)) {
	change(m.MapFS)
	m.unsynced = append(m.unsynced, change)
}

func (m *model) Create(name string) (file, error) {
	if err := m.step(); err != nil {
		return nil, err
	}
	f := &fstest.MapFile{Mode: 0o600}
	m.rename(func(names fstest.MapFS) { names[name] = f })
	return &modelFile{m, f}, nil
}

func (m *model) Rename(from, to string) error {
	if err := m.step(); err != nil {
		return err
	}
	f := m.MapFS[from]
	m.rename(func(names fstest.MapFS) { delete(names, from); names[to] = f })
	return nil
}

func (m *model) Remove(name string) error {
	if err := m.step(); err != nil {
		return err
	}
	if m.MapFS[name] == nil {
		return fs.ErrNotExist
	}
	m.rename(func(names fstest.MapFS) { delete(names, name) })
	return nil
}

func (m *model) Sync() error {
	if err := m.step(); err != nil {
		return err
	}
	for _, change := range m.unsynced {
		change(m.durable)
	}
	m.unsynced = nil
	return nil
}

func (m *model) Close() error { return nil }

type modelFile struct {
	disk *model
	file *fstest.MapFile
}

// Write dies half way when it dies.
func (f *modelFile) Write(data []byte) (int, error) {
	if err := f.disk.step(); err != nil {
		f.file.Data = append(f.file.Data, data[:len(data)/2]...)
		return len(data) / 2, err
	}
	f.file.Data = append(f.file.Data, data...)
	return len(data), nil
}

func (f *modelFile) Sync() error {
	if err := f.disk.step(); err != nil {
		return err
	}
	f.disk.synced[f.file] = slices.Clone(f.file.Data)
	return nil
}

func (f *modelFile) Close() error { return nil }

// afterKill is the disk as the next process finds it: the kernel lived on.
func (m *model) afterKill() *model {
	n := newModel(-1)
	for name, f := range m.MapFS {
		n.MapFS[name] = &fstest.MapFile{Data: slices.Clone(f.Data), Mode: 0o600}
	}
	return n
}

// afterPowerCut is the disk after a reboot: of the unsynced names any part, in order, may
// have reached it, and of unsynced content the first half.
func (m *model) afterPowerCut(r *rand.Rand) *model {
	names := fstest.MapFS{}
	for name, f := range m.durable {
		names[name] = f
	}
	for _, change := range m.unsynced[:r.IntN(len(m.unsynced)+1)] {
		change(names)
	}
	n := newModel(-1)
	for name, f := range names {
		data, synced := m.synced[f]
		if !synced {
			data = f.Data[:len(f.Data)/2]
		}
		n.MapFS[name] = &fstest.MapFile{Data: slices.Clone(data), Mode: 0o600}
	}
	return n
}

// TestJournalCrashes walks through puts and removes on a disk that dies at each step in
// turn: whatever was acknowledged is there afterwards, whatever was not is there whole or
// not at all.
func TestJournalCrashes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for steps := 0; ; steps++ {
		disk := newModel(steps)
		want, unsure, died := crashWalk(t, disk)
		after := map[string]*model{"kill": disk.afterKill()}
		for i := range 4 {
			after[fmt.Sprintf("power cut %d", i)] = disk.afterPowerCut(r)
		}
		for how, left := range after {
			j, err := load(left, "model", "boot")
			if err != nil {
				t.Fatalf("%s at step %d: %v", how, steps, err)
			}
			if d := j.Damaged(); len(d) > 0 {
				t.Errorf("%s at step %d: damaged %v", how, steps, d)
			}
			for n := range 4 {
				_, found := j.find(numbered(n).ID)
				if found != want[n] && n != unsure {
					t.Errorf("%s at step %d: record %d found=%t, want %t", how, steps, n, found, want[n])
				}
			}
			for name := range left.MapFS {
				if strings.HasPrefix(name, unfinishedPrefix) {
					t.Errorf("%s at step %d: %s is left over", how, steps, name)
				}
			}
		}
		if !died {
			if steps < 20 {
				t.Fatalf("the walk has only %d steps", steps)
			}
			return
		}
	}
}

// crashWalk returns what was acknowledged, and which record was being worked on when the
// disk died.
func crashWalk(t *testing.T, disk *model) (want map[int]bool, unsure int, died bool) {
	t.Helper()
	want = map[int]bool{}
	j, err := load(disk, "model", "boot")
	if err != nil {
		t.Fatal(err)
	}
	walk := []struct {
		n   int
		put bool
	}{{0, true}, {1, true}, {0, false}, {2, true}, {0, true}, {1, false}, {3, true}}
	for _, w := range walk {
		if w.put {
			_, err = j.put(numbered(w.n))
		} else {
			_, err = j.remove(numbered(w.n).ID)
		}
		if errors.Is(err, errDead) {
			return want, w.n, true
		}
		if err != nil {
			t.Fatal(err)
		}
		want[w.n] = w.put
	}
	return want, -1, false
}
