package attach

import "path/filepath"

// Disk is what a journal writes to, for tests that let it fail.
type Disk = disk

// File is a file of a Disk.
type File = file

// OpenOn opens a journal on the real disk seen through wrap.
func OpenOn(stateDir string, wrap func(Disk) Disk) (*Journal, error) {
	dir := filepath.Join(stateDir, recordsDir)
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	d, err := openDirectory(dir)
	if err != nil {
		return nil, err
	}
	return load(wrap(d), dir, boot)
}
