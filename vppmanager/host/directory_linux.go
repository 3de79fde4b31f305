package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/vppmanager/inventory"
)

// directory asks whether files can be made in a directory. One that does not exist will
// be made, so the nearest one above it is asked instead.
func (n Node) directory(path string) inventory.File {
	f := inventory.File{Path: path}
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Stat(n.path(at))
		if errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at) {
			f.Missing = true
			continue
		}
		switch {
		case err != nil:
			f.Problem = "cannot be read: " + reason(err)
		case !info.IsDir():
			f.Problem = "cannot be used: " + at + " is not a directory"
		default:
			if err := unix.Access(n.path(at), unix.W_OK|unix.X_OK); err != nil {
				f.Problem = "cannot be written: " + err.Error()
			}
		}
		return f
	}
}
