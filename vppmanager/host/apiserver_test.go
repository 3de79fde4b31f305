package host

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAPIServers(t *testing.T) {
	write := func(root, file, text string) {
		t.Helper()
		path := filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := func(server string) string {
		return "apiVersion: v1\nkind: Config\nclusters:\n- name: a\n  cluster: {server: \"" + server + "\"}\n"
	}
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"none", nil, nil},
		{"address", map[string]string{"/etc/kubernetes/kubelet.conf": config("https://192.0.2.5:6443")}, []string{"192.0.2.5"}},
		{"IPv6", map[string]string{"/var/lib/kubelet/kubeconfig": config("https://[2001:db8::5]:6443")}, []string{"2001:db8::5"}},
		{"name", map[string]string{"/etc/kubernetes/kubelet.conf": config("https://api.example.org:6443"),
			"/etc/hosts": "127.0.0.1 localhost\n192.0.2.7 api api.example.org # the VIP\n2001:db8::7 api.example.org\n"}, []string{"192.0.2.7", "2001:db8::7"}},
		{"unknown name", map[string]string{"/etc/kubernetes/kubelet.conf": config("https://api.example.org:6443")}, nil},
		{"two files, one server", map[string]string{"/etc/kubernetes/kubelet.conf": config("https://192.0.2.5"), "/var/lib/kubelet/kubeconfig": config("https://192.0.2.5:6443")}, []string{"192.0.2.5"}},
		{"no kubeconfig", map[string]string{"/etc/kubernetes/kubelet.conf": "\x00\x01"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for file, text := range tt.files {
				write(root, file, text)
			}
			r := &reading{Node: Node{Root: root}}
			r.apiServers()
			var got []string
			for _, a := range r.inv.APIServers {
				got = append(got, a.String())
				if a.Zone() != "" || a != netip.MustParseAddr(a.String()) {
					t.Errorf("%v is not plain", a)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("API servers (-want +got):\n%s", diff)
			}
		})
	}
}
