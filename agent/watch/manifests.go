package watch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/millrace/millrace/cluster"
)

// Manifests reads the manifests that people keep, once: all files of a directory as
// Directory reads them, or one file. Objects of kinds that mean nothing here, Deployments
// for example, are passed over and named in skipped. A policy of a kind or version that is
// not enforced here is an error: passed over, it would be taken for one that allows all.
// The files named in except are left out, if they are there.
func Manifests(path string, except ...string) (s cluster.Snapshot, skipped []string, err error) {
	files, err := manifestFiles(path)
	if err != nil {
		return s, nil, fmt.Errorf("list manifests: %w", err)
	}
	var left []os.FileInfo
	for _, name := range except {
		if info, err := os.Stat(name); err == nil {
			left = append(left, info)
		}
	}
	f := newFacts()
	f.unknown = func(place, version, kind string) error {
		if strings.HasSuffix(kind, "NetworkPolicy") || slices.Contains([]string{"Node", "Namespace", "Pod", "Service", "EndpointSlice"}, kind) {
			return errUnknown(version, kind)
		}
		if kind == "" {
			return errors.New("it has no kind: want Kubernetes objects only")
		}
		skipped = append(skipped, place)
		return nil
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err == nil && slices.ContainsFunc(left, func(l os.FileInfo) bool { return os.SameFile(l, info) }) {
			continue
		}
		data, err := os.ReadFile(file)
		if err == nil {
			err = f.decode(file, data)
		}
		if err != nil {
			return s, nil, fmt.Errorf("read manifests: %w", err)
		}
	}
	return f.snapshot, skipped, nil
}

// manifestFiles are the files of a directory that hold facts, in order, or the one file.
func manifestFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return []string{path}, err
	}
	found, err := (&Directory{path: path}).list()
	var list []string
	for name := range found {
		list = append(list, filepath.Join(path, name))
	}
	slices.Sort(list)
	return list, err
}
