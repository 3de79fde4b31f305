package supervise

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sv") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestSecondSupervisorIsRefused(t *testing.T) {
	first := newRig(t, "server", nil)
	first.await(t, Ready)
	second := runRig(t, first.dir, "server", nil)
	<-second.done
	want := fmt.Sprintf("another manager (pid %d) runs in %s", os.Getpid(), first.dir)
	if second.err == nil || !strings.Contains(second.err.Error(), want) {
		t.Errorf("error %v does not say %q", second.err, want)
	}
	if got := first.Status().Phase; got != Ready {
		t.Errorf("the first one is %s", got)
	}
	first.stop(t)
}

// TestStrangersSocketIsKept: a dataplane that somebody else runs is neither killed nor cut off.
func TestStrangersSocketIsKept(t *testing.T) {
	for _, network := range []string{"unix", "unixpacket"} {
		t.Run(network, func(t *testing.T) {
			dir := shortDir(t)
			socket := filepath.Join(dir, "api.sock")
			l, err := net.Listen(network, socket)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			r := runRig(t, dir, "server", nil)
			<-r.done
			want := fmt.Sprintf("api.sock is served by pid %d (", os.Getpid())
			if r.err == nil || !strings.Contains(r.err.Error(), want) {
				t.Errorf("error %v does not say %q", r.err, want)
			}
			if got := listing(dir); len(got) != 1 {
				t.Errorf("the directory holds %v", got)
			}
		})
	}
}

func TestFileInTheWayIsKept(t *testing.T) {
	dir := shortDir(t)
	if err := os.WriteFile(filepath.Join(dir, "api.sock"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := runRig(t, dir, "server", nil)
	<-r.done
	if r.err == nil || !strings.Contains(r.err.Error(), "is not a socket") {
		t.Errorf("error %v", r.err)
	}
	if got := listing(dir); len(got) != 1 {
		t.Errorf("the directory holds %v", got)
	}
}

// TestStaleThingsAreCleared: dead sockets of an earlier run go, and at the end also those
// the child has left beside; what others put into the directory stays, and so does it.
func TestStaleThingsAreCleared(t *testing.T) {
	dir := shortDir(t)
	for _, name := range []string{"api.sock", "memif.sock"} {
		deadSocket(t, filepath.Join(dir, name))
	}
	if err := os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	live, err := net.Listen("unix", filepath.Join(dir, "live.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	stray := filepath.Join(dir, "stray")
	r := runRig(t, dir, "server", func(s *Spec, _ *Timing) { s.Strays = []string{stray} })
	r.await(t, Ready)
	if err := os.WriteFile(stray, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r.cancel()
	<-r.done
	if r.err != nil {
		t.Error(r.err)
	}
	if got := strings.Join(listing(dir), " "); got != "live.sock notes.txt" {
		t.Errorf("the directory holds %s", got)
	}
}

func deadSocket(t *testing.T, path string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
}

func TestTornLockFile(t *testing.T) {
	dir := shortDir(t)
	if err := os.WriteFile(filepath.Join(dir, lockName), []byte(`{"pid":12,"crea`), 0o644); err != nil {
		t.Fatal(err)
	}
	r := runRig(t, dir, "server", nil)
	r.await(t, Ready)
	r.cancel()
	<-r.done
	if got := listing(dir); r.err != nil || len(got) != 0 {
		t.Errorf("error %v, the directory holds %v", r.err, got)
	}
}

func TestRuntimeDirIsAFile(t *testing.T) {
	file := filepath.Join(shortDir(t), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r := runRig(t, file, "server", nil)
	<-r.done
	if r.err == nil || !strings.Contains(r.err.Error(), "not a directory") {
		t.Errorf("error %v", r.err)
	}
}

// TestFilesOfAKilledPredecessor: what an earlier run noted is removed also when this run
// makes other files, but only when nobody else could have written the note.
func TestFilesOfAKilledPredecessor(t *testing.T) {
	for _, tt := range []struct {
		name string
		mode os.FileMode
		left string
	}{{"believed", 0o644, ""}, {"writable by others", 0o666, "startup.conf"}} {
		t.Run(tt.name, func(t *testing.T) {
			dir := shortDir(t)
			conf, lock := filepath.Join(dir, "startup.conf"), filepath.Join(dir, lockName)
			for path, text := range map[string]string{conf: "unix { }", lock: fmt.Sprintf(`{"pid":1,"files":[%q]}`, conf)} {
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(lock, tt.mode); err != nil {
				t.Fatal(err)
			}
			r := runRig(t, dir, "server", nil)
			r.await(t, Ready)
			r.cancel()
			<-r.done
			if got := strings.Join(listing(dir), " "); r.err != nil || got != tt.left {
				t.Errorf("error %v, the directory holds %q, want %q", r.err, got, tt.left)
			}
		})
	}
}
