// Package watch owns the facts of Kubernetes objects: it reads them where they are kept and
// follows their changes as Snapshots.
//
// It has two doors, which say the same of the same objects: an API server, and a directory
// of YAML files for nodes that stand alone. The server's objects are taken as they come,
// and what cannot be used is left out and named; the directory is read strictly. It never
// judges what the facts mean, and it knows no attachments: those come by the CNI door.
package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/cluster"
)

// interval is how often the directory is looked at. Polling sees what any file system and
// any way of writing leave, also the swapped links of a mounted ConfigMap.
const interval = 500 * time.Millisecond

// Directory is the facts of all *.yaml, *.yml and *.json files of one directory.
type Directory struct {
	path    string
	changed chan struct{}
	seen    map[string]stamp // only Run's goroutine, after Open

	// mu guards the snapshot and the one that was taken last.
	mu       sync.Mutex
	snapshot cluster.Snapshot
	taken    cluster.Snapshot
}

// stamp tells whether a file may have changed.
type stamp struct {
	size     int64
	modified time.Time
}

// Open reads the directory once. Its error names the file, the document in it, the object
// and the field. An empty path is a directory without facts.
func Open(path string) (*Directory, error) {
	d := &Directory{path: path, changed: make(chan struct{}, 1)}
	if path == "" {
		return d, nil
	}
	var err error
	if d.seen, err = d.list(); err != nil {
		return nil, err
	}
	d.snapshot, err = d.read(d.seen)
	return d, err
}

// Snapshot returns the latest facts that could be read whole.
func (d *Directory) Snapshot() cluster.Snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.snapshot
}

// Take returns the latest facts and the objects in which they differ from what Take
// returned before, at first from nothing. It is for one caller.
func (d *Directory) Take() (cluster.Snapshot, cluster.Changes) {
	d.mu.Lock()
	defer d.mu.Unlock()
	changed := cluster.Compare(d.taken, d.snapshot)
	d.taken = d.snapshot
	return d.snapshot, changed
}

// WaitSynced returns at once: what was there when it was opened is known.
func (d *Directory) WaitSynced(context.Context) error { return nil }

// Pod returns the facts of a pod if there are any; one of the name and another uid is not
// the one asked for. Where the directory says nothing of a pod, that is as it is.
func (d *Directory) Pod(_ context.Context, key cluster.PodKey, uid string) (cluster.Pod, bool, error) {
	p, ok := d.Snapshot().Pods[key]
	return p, ok && (p.UID == "" || uid == "" || p.UID == uid), nil
}

// Secret returns a Secret of the directory.
func (d *Directory) Secret(_ context.Context, key cluster.SecretKey) (cluster.Secret, bool, error) {
	s, ok := d.Snapshot().Secrets[key]
	return s, ok, nil
}

// Changed receives a value after the facts changed; several changes may be one value.
func (d *Directory) Changed() <-chan struct{} { return d.changed }

// Run follows changes until ctx ends. Files that cannot be read leave the facts as they
// were, and are logged once.
func (d *Directory) Run(ctx context.Context, log *slog.Logger) error {
	if d.path == "" {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	reported := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := d.poll()
		switch {
		case err == nil:
			reported = ""
		case err.Error() != reported:
			reported = err.Error()
			log.Error("facts stay as they were", "err", err)
		}
	}
}

// poll reads the directory again if something in it looks different.
func (d *Directory) poll() error {
	now, err := d.list()
	if err != nil {
		return err
	}
	if maps.Equal(now, d.seen) {
		return nil
	}
	snapshot, err := d.read(now)
	if err != nil {
		return err // seen stays, so that the next poll tries again
	}
	d.seen = now
	d.mu.Lock()
	same := d.snapshot.String() == snapshot.String()
	d.snapshot = snapshot
	d.mu.Unlock()
	if !same {
		select {
		case d.changed <- struct{}{}:
		default:
		}
	}
	return nil
}

// list finds the files that hold facts.
func (d *Directory) list() (map[string]stamp, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("list facts: %w", err)
	}
	files := map[string]stamp{}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) {
			continue
		}
		info, err := os.Stat(filepath.Join(d.path, name)) // through links
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("list facts: %w", err)
		}
		if info.Mode().IsRegular() {
			files[name] = stamp{info.Size(), info.ModTime()}
		}
	}
	return files, nil
}

// read decodes all files, in order of their names.
func (d *Directory) read(files map[string]stamp) (cluster.Snapshot, error) {
	f := newFacts()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(d.path, name)
		data, err := os.ReadFile(path)
		if err != nil {
			return cluster.Snapshot{}, fmt.Errorf("read facts: %w", err)
		}
		if err := f.decode(path, data); err != nil {
			return cluster.Snapshot{}, fmt.Errorf("read facts: %w", err)
		}
	}
	return f.snapshot, nil
}
