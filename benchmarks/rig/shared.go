package rig

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// VPP keeps segments of its API in shared memory, named by a prefix, and leaves them there
// when it is killed.
const (
	sharedDir   = "/dev/shm"
	sharedStart = "millrace-rig" // the pid of the rig follows, then a dash and VPP's own names
)

// nobody is no process's id.
const nobody = -1

// sharedPrefix is the prefix of a VPP of the rig with that pid.
func sharedPrefix(pid int) string { return sharedStart + strconv.Itoa(pid) }

// removeShared removes the segments of the rig with that pid, or nobody's, and those of rigs
// that were killed.
func removeShared(own int) error {
	list, err := filepath.Glob(filepath.Join(sharedDir, sharedStart+"*-*"))
	if err != nil {
		return fmt.Errorf("sweep shared memory: %w", err)
	}
	for _, path := range list {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), sharedStart), "-")
		pid, err := strconv.Atoi(owner)
		if err != nil || pid != own && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("sweep shared memory: %w", err)
		}
	}
	return nil
}
