// Package install owns what a node gets besides running processes: the CNI plugin and its
// network configuration among the container runtime's files, put there whole, watched, and
// taken away again; and the removal of all that Millrace leaves on a node.
//
// It never wires pods, and never touches the files of other networks.
package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/millrace/millrace/cni"
)

// Network is the name of the network in its configuration.
const Network = "millrace"

// Plugin is the file name that the container runtime finds the plugin by.
const Plugin = "millrace-cni"

// CNI is where plugin and configuration belong.
type CNI struct {
	Program  string // the plugin to copy
	BinDir   string // directory of the runtime's plugins
	ConfDir  string // directory of the runtime's network configurations
	ConfName string // file name of ours: runtimes take the first in the order of names
	Socket   string // where the plugin finds the agent
}

func (c CNI) plugin() string { return filepath.Join(c.BinDir, Plugin) }
func (c CNI) conf() string   { return filepath.Join(c.ConfDir, c.ConfName) }

// Validate checks what a person may have got wrong.
func (c CNI) Validate() error {
	if ext := filepath.Ext(c.ConfName); ext != ".conflist" || filepath.Base(c.ConfName) != c.ConfName {
		return fmt.Errorf("name of the network configuration %q: want a file name that ends in .conflist, such as 10-millrace.conflist", c.ConfName)
	}
	for _, dir := range []string{c.BinDir, c.ConfDir} {
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("directory %q: want an absolute path", dir)
		}
	}
	return nil
}

// Configuration is the network configuration's text. It is read by runtimes of every age:
// libcni before 1.2 takes cniVersion, which every containerd and CRI-O in use knows, later
// ones the highest of cniVersions, with which they ask for STATUS and GC.
func (c CNI) Configuration() ([]byte, error) {
	plugin := map[string]any{"type": Plugin}
	if c.Socket != cni.DefaultSocket {
		plugin["socket"] = c.Socket
	}
	text, err := json.MarshalIndent(map[string]any{
		"name":        Network,
		"cniVersion":  "1.0.0",
		"cniVersions": []string{"0.4.0", "1.0.0", "1.1.0"},
		"plugins":     []any{plugin},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("make network configuration: %w", err)
	}
	return append(text, '\n'), nil
}

// PutPlugin copies the plugin to where the runtime finds it, unless it is there. A runtime
// that starts it meanwhile gets the old one or the new one, whole.
func (c CNI) PutPlugin() (changed bool, err error) {
	program, err := os.ReadFile(c.Program)
	if err != nil {
		return false, fmt.Errorf("read CNI plugin: %w", err)
	}
	changed, err = put(c.plugin(), program, 0o755)
	if err != nil {
		return false, fmt.Errorf("install CNI plugin: %w", err)
	}
	return changed, nil
}

// PutConf writes the network configuration, unless it is there.
func (c CNI) PutConf() (changed bool, err error) {
	text, err := c.Configuration()
	if err != nil {
		return false, err
	}
	changed, err = put(c.conf(), text, 0o644)
	if err != nil {
		return false, fmt.Errorf("install network configuration: %w", err)
	}
	return changed, nil
}

// Check says what of plugin and configuration is not as Put leaves it.
func (c CNI) Check() error {
	program, err := os.ReadFile(c.Program)
	if err != nil {
		return fmt.Errorf("read CNI plugin: %w", err)
	}
	text, err := c.Configuration()
	if err != nil {
		return err
	}
	for _, f := range []struct {
		path string
		want []byte
		mode fs.FileMode
	}{{c.plugin(), program, 0o755}, {c.conf(), text, 0o644}} {
		same, err := holds(f.path, f.want, f.mode)
		if err != nil {
			return fmt.Errorf("check %s: %w", f.path, err)
		}
		if !same {
			return fmt.Errorf("check %s: it is not there, or not as it was installed", f.path)
		}
	}
	return nil
}

// Before are the networks that the runtime takes instead of ours, since their files' names
// come first.
func (c CNI) Before() ([]string, error) {
	entries, err := os.ReadDir(c.ConfDir)
	if err != nil {
		return nil, fmt.Errorf("list network configurations: %w", err)
	}
	var names []string
	for _, e := range entries {
		if slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(e.Name())) && e.Name() < c.ConfName {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Remove takes configuration and plugin away, in this order, and what a writer that was
// killed left. It returns the files it removed; files that are not there are none.
func (c CNI) Remove() (removed []string, err error) {
	files, err := c.Files()
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		switch err := os.Remove(f); {
		case err == nil:
			removed = append(removed, f)
		case !errors.Is(err, fs.ErrNotExist):
			return removed, fmt.Errorf("remove CNI plugin: %w", err)
		}
	}
	return removed, nil
}

// Files are those of ours that are there, the configuration first.
func (c CNI) Files() ([]string, error) {
	var files []string
	for _, f := range []string{c.conf(), c.plugin()} {
		if _, err := os.Lstat(f); err == nil {
			files = append(files, f)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("find CNI plugin: %w", err)
		}
		dir, name := filepath.Split(f)
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("find CNI plugin: %w", err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), partPrefix(name)) {
				files = append(files, filepath.Join(dir, e.Name()))
			}
		}
	}
	return files, nil
}

// partPrefix begins the name of a file that is being written. Runtimes overlook it: it does
// not end as their configurations do.
func partPrefix(name string) string { return "." + name + ".part-" }

// put has path hold data. A reader sees what was there before or all of data; after a power
// failure, too.
func put(path string, data []byte, mode fs.FileMode) (changed bool, err error) {
	same, err := holds(path, data, mode)
	if same || err != nil {
		return false, err
	}
	dir, name := filepath.Split(path)
	part, err := os.CreateTemp(dir, partPrefix(name))
	if err != nil {
		return false, err
	}
	defer func() {
		if err != nil {
			os.Remove(part.Name())
		}
	}()
	_, err = part.Write(data)
	if err = errors.Join(err, part.Chmod(mode), part.Sync(), part.Close()); err != nil {
		return false, err
	}
	if err := os.Rename(part.Name(), path); err != nil {
		return false, err
	}
	return true, syncDir(dir)
}

// syncDir makes a rename last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// holds says whether path is a file with this content and mode.
func holds(path string, data []byte, mode fs.FileMode) (bool, error) {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if st.IsDir() {
		return false, errors.New("a directory has this name; move it away")
	}
	if !st.Mode().IsRegular() || st.Mode().Perm() != mode || st.Size() != int64(len(data)) {
		return false, nil
	}
	have, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	return bytes.Equal(have, data), nil
}
