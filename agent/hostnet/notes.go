package hostnet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// notesName is the file in the state directory that says what settings were before. It is
// there as long as something is to be given back.
const notesName = "host-settings.json"

const notesVersion = 1

// notes are settings as they were, on disk before each is changed. What a reboot takes away
// is not given back after one.
type notes struct {
	path     string
	Version  int              `json:"version"`
	Boot     string           `json:"boot"` // the kernel's boot_id
	Settings map[string]*note `json:"settings"`
}

// note is one setting.
type note struct {
	Before    string `json:"before"`
	Value     string `json:"value"` // ours
	Interface string `json:"interface,omitempty"`
	// Beside are other settings that change with this one, as they were.
	Beside map[string]string `json:"beside,omitempty"`
}

func openNotes(dir, root string) (notes, error) {
	boot, err := os.ReadFile(filepath.Join(root, "proc/sys/kernel/random/boot_id"))
	if err != nil {
		return notes{}, err
	}
	fresh := notes{path: filepath.Join(dir, notesName), Version: notesVersion, Boot: strings.TrimSpace(string(boot)), Settings: map[string]*note{}}
	data, err := os.ReadFile(fresh.path)
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, nil
	}
	if err != nil {
		return notes{}, err
	}
	n := notes{path: fresh.path}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err = d.Decode(&n)
	switch {
	case err != nil:
		return notes{}, fmt.Errorf("%s is damaged: %w (remove it; settings of the kernel are then not given back)", n.path, err)
	case n.Version != notesVersion:
		return notes{}, fmt.Errorf("%s has version %d: written by another release of millrace", n.path, n.Version)
	case n.Boot != fresh.Boot:
		return fresh, nil
	}
	for name, s := range n.Settings {
		if s == nil {
			return notes{}, fmt.Errorf("%s is damaged: nothing stands under %s", n.path, name)
		}
	}
	if n.Settings == nil {
		n.Settings = map[string]*note{}
	}
	return n, nil
}

// names are those of all settings, the last ones first.
func (n *notes) names() []string {
	list := slices.Sorted(maps.Keys(n.Settings))
	slices.Reverse(list)
	return list
}

// save puts the file in the place of the one that is there, or removes it when nothing is
// noted. It is on disk when save returns.
func (n *notes) save() (err error) {
	if len(n.Settings) == 0 {
		if err := os.Remove(n.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("note settings: %w", err)
		}
		return nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("note settings in %s: %w", n.path, err)
		}
	}()
	data, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Dir(n.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	next := n.path + ".next"
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, n.path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
