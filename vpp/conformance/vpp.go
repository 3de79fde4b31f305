package conformance

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/internal/netnstest"
)

// VPP is the Machine that the suite takes its transcripts from.
type VPP struct {
	Binary string // path of vpp, or of a wrapper that execs it
}

// Command writes a startup.conf without workers, NICs and huge pages. The process is
// killed in the end: on SIGTERM, VPP now and then does not leave.
func (m VPP) Command(t testing.TB, n *netnstest.Namespace, dir, api, stats string, plugins ...string) *exec.Cmd {
	t.Helper()
	conf := filepath.Join(dir, "startup.conf")
	text := fmt.Sprintf(`unix { nodaemon log %[1]s/vpp.log runtime-dir %[1]s gid root }
api-segment { prefix %[2]s gid root }
socksvr { socket-name %[3]s }
statseg { socket-name %[4]s size 16m page-size 4k }
memory { main-heap-size 512M main-heap-page-size 4k }
buffers { page-size 4k buffers-per-numa 4096 }
plugins {
  plugin default { disable }
  plugin af_packet_plugin.so { enable }
  plugin urpf_plugin.so { enable }
  plugin ping_plugin.so { enable }
  plugin memif_plugin.so { enable }
  plugin acl_plugin.so { enable }
  plugin vxlan_plugin.so { enable }
}
`, dir, n.Name, api, stats)
	for _, p := range plugins {
		text += fmt.Sprintf("plugins { plugin %s_plugin.so { enable } }\n", p)
	}
	t.Cleanup(func() {
		for _, kind := range []string{"global_vm", "vpe-api"} {
			if err := os.Remove("/dev/shm/" + n.Name + "-" + kind); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("remove shared memory: %v", err)
			}
		}
	})
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return n.Command(t, m.Binary, "-c", conf)
}
