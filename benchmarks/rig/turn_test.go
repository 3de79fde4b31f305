package rig

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTakeTurn: a turn is one process's until it passes it on.
func TestTakeTurn(t *testing.T) {
	name := fmt.Sprintf("millrace-test-%d", os.Getpid())
	pass, err := takeTurn(name, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := takeTurn(name, 0); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a second turn: %v", err)
	}
	if err := pass(); err != nil {
		t.Fatal(err)
	}
	pass, err = takeTurn(name, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if err := pass(); err != nil {
		t.Fatal(err)
	}
}

// TestRemoveShared: what a dead rig left goes, what a living one has stays.
func TestRemoveShared(t *testing.T) {
	child := exec.Command("true")
	if err := child.Run(); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(sharedDir, sharedPrefix(os.Getpid())+"-test")
	dead := filepath.Join(sharedDir, sharedPrefix(child.Process.Pid)+"-test")
	for _, path := range []string{mine, dead} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Skipf("needs %s: %v", sharedDir, err)
		}
		defer os.Remove(path)
	}
	if err := removeShared(nobody); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what the dead left: %v", err)
	}
	if _, err := os.Stat(mine); err != nil {
		t.Errorf("what the living has: %v", err)
	}
	if err := removeShared(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(mine); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was ours: %v", err)
	}
}

func TestHugeKilobytes(t *testing.T) {
	for text, want := range map[string]int{
		"MemTotal: 1 kB\nHugePages_Total: 9\nHugePages_Free:      3\nHugePages_Rsvd: 1\nHugepagesize:       2048 kB\n": 6144,
		"HugePages_Free: 3\n": 0,
		"":                    0,
	} {
		if got := hugeKilobytes(text); got != want {
			t.Errorf("hugeKilobytes(%q) = %d, want %d", text, got, want)
		}
	}
}
