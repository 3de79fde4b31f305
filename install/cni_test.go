package install

import (
	"bytes"
	"os"
	"sync"
	"testing"

	"github.com/containernetworking/cni/libcni"

	"github.com/millrace/millrace/cni"
)

// TestConfiguration: libcni, which runtimes read it with, takes it, and our plugin takes what
// libcni makes of it.
func TestConfiguration(t *testing.T) {
	for _, socket := range []string{cni.DefaultSocket, "/run/other/cni.sock"} {
		c := CNI{Socket: socket}
		text, err := c.Configuration()
		if err != nil {
			t.Fatal(err)
		}
		list, err := libcni.ConfListFromBytes(text)
		if err != nil {
			t.Fatal(err)
		}
		if list.Name != Network || list.CNIVersion != "1.1.0" || len(list.Plugins) != 1 || list.Plugins[0].Network.Type != Plugin {
			t.Errorf("libcni reads name %q, version %q, %d plugins", list.Name, list.CNIVersion, len(list.Plugins))
		}
		got, err := cni.ParseConfig(bytes.Replace(list.Plugins[0].Bytes, []byte("{"), []byte(`{"name":"millrace","cniVersion":"1.1.0",`), 1))
		if err != nil {
			t.Fatal(err)
		}
		if got.Socket != socket {
			t.Errorf("the plugin asks at %q, want %q", got.Socket, socket)
		}
	}
}

// TestPutIsWhole: who reads while a file is replaced sees one content or the other.
func TestPutIsWhole(t *testing.T) {
	path := t.TempDir() + "/file"
	contents := [][]byte{bytes.Repeat([]byte("a"), 1<<16), bytes.Repeat([]byte("b"), 1<<17)}
	if _, err := put(path, contents[0], 0o644); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	stop := make(chan struct{})
	readers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			got, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(got, contents[0]) && !bytes.Equal(got, contents[1]) {
				t.Errorf("read %d bytes, %v", len(got), err)
				return
			}
		}
	})
	for i := range 40 {
		if changed, err := put(path, contents[(i+1)%2], 0o644); err != nil || !changed {
			t.Errorf("put: changed %t, %v", changed, err)
		}
	}
	close(stop)
	readers.Wait()
	if changed, err := put(path, contents[0], 0o644); err != nil || changed {
		t.Errorf("put of the same: changed %t, %v", changed, err)
	}
}
