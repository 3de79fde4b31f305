package hostnet

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/dataplane"
)

// tree is a host of files.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	put := func(name, text string) {
		path := filepath.Join(root, "proc/sys", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("kernel/random/boot_id", "one")
	for name, text := range files {
		put(name, text)
	}
	return root
}

func onTree(t *testing.T, root, dir string) *Host {
	t.Helper()
	n, err := openNotes(dir, root)
	if err != nil {
		t.Fatal(err)
	}
	return &Host{root: root, notes: n}
}

func contents(t *testing.T, h *Host, names map[string]string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for name := range names {
		value, err := h.read(name)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = value
	}
	return out
}

// someHost has routers that it hears on eth0, a link that forwards already, and one on which
// somebody else listens for routers.
var someHost = map[string]string{
	"net/ipv4/ip_forward": "0", "net/ipv4/conf/all/forwarding": "0", "net/ipv4/conf/all/accept_redirects": "0",
	"net/ipv4/conf/all/rp_filter": "1", "net/ipv4/conf/eth0/forwarding": "0", "net/ipv4/conf/eth1/forwarding": "1",
	"net/ipv4/conf/mr0/rp_filter": "0", "net/ipv4/conf/mr0/accept_local": "0",
	"net/ipv6/conf/all/forwarding": "0", "net/ipv6/conf/all/accept_ra": "1", "net/ipv6/conf/default/accept_ra": "1",
	"net/ipv6/conf/eth0/accept_ra": "1", "net/ipv6/conf/eth1/accept_ra": "0", "net/ipv6/conf/eth0/forwarding": "0", "net/ipv6/conf/eth1/forwarding": "1",
}

var ourSettings = []dataplane.HostSetting{
	{Name: "net/ipv4/ip_forward", Value: "1"}, {Name: "net/ipv6/conf/all/forwarding", Value: "1"},
	{Name: "net/ipv4/conf/mr0/rp_filter", Value: "2", Interface: "host/mr0"}, {Name: "net/ipv4/conf/mr0/accept_local", Value: "1", Interface: "host/mr0"},
}

func carryAll(t *testing.T, h *Host, verb dataplane.Verb) {
	t.Helper()
	for _, s := range ourSettings {
		for _, err := range h.Carry([]dataplane.Step{{Verb: verb, Object: s}}) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestSettingsComeBack: through several lives of agents, what was before comes back.
func TestSettingsComeBack(t *testing.T) {
	root, dir := tree(t, someHost), filepath.Join(t.TempDir(), "state")
	carryAll(t, onTree(t, root, dir), dataplane.Create)
	carryAll(t, onTree(t, root, dir), dataplane.Create)
	h := onTree(t, root, dir)
	want := maps.Clone(someHost)
	maps.Copy(want, map[string]string{
		"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1", "net/ipv6/conf/eth0/accept_ra": "2",
		"net/ipv4/conf/mr0/rp_filter": "2", "net/ipv4/conf/mr0/accept_local": "1",
	})
	if diff := cmp.Diff(want, contents(t, h, someHost)); diff != "" {
		t.Errorf("as set (-want +got):\n%s", diff)
	}
	seen, wish := dataplane.State{}, dataplane.State{}
	for _, s := range h.settings() {
		seen.Put(s)
	}
	for _, s := range ourSettings {
		wish.Put(s)
	}
	if !seen.Equal(wish) {
		t.Errorf("seen:\n%s\nwant:\n%s", seen, wish)
	}
	// As the kernel does when it begins to forward.
	for _, name := range []string{"net/ipv4/conf/eth0/forwarding", "net/ipv4/conf/all/forwarding", "net/ipv4/conf/all/accept_redirects", "net/ipv6/conf/eth0/forwarding"} {
		if err := h.write(name, "1"); err != nil {
			t.Fatal(err)
		}
	}
	carryAll(t, onTree(t, root, dir), dataplane.Delete)
	if diff := cmp.Diff(someHost, contents(t, h, someHost)); diff != "" {
		t.Errorf("given back (-want +got):\n%s", diff)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// TestSettingsOfOthersStay: a setting that was as wanted before, or was changed since.
func TestSettingsOfOthersStay(t *testing.T) {
	files := maps.Clone(someHost)
	files["net/ipv4/ip_forward"] = "1"
	root, dir := tree(t, files), t.TempDir()
	h := onTree(t, root, dir)
	carryAll(t, h, dataplane.Create)
	if err := h.write("net/ipv4/conf/mr0/rp_filter", "1"); err != nil {
		t.Fatal(err)
	}
	for _, s := range h.settings() {
		if s.Name == "net/ipv4/conf/mr0/rp_filter" && s.Value != "1" {
			t.Errorf("%s: want the change by others seen", s)
		}
	}
	carryAll(t, h, dataplane.Delete)
	if forward, _ := h.read("net/ipv4/ip_forward"); forward != "1" {
		t.Errorf("ip_forward was 1 before, and is %s", forward)
	}
	if filter, _ := h.read("net/ipv4/conf/mr0/rp_filter"); filter != "1" {
		t.Errorf("rp_filter was set to 1 by others, and is %s", filter)
	}
}

// TestPathFilterThatIsOffStaysOff, unless everybody's is strict.
func TestPathFilterThatIsOffStaysOff(t *testing.T) {
	for all, want := range map[string]string{"0": "0", "2": "0", "1": "2"} {
		files := maps.Clone(someHost)
		files["net/ipv4/conf/all/rp_filter"] = all
		h := onTree(t, tree(t, files), t.TempDir())
		carryAll(t, h, dataplane.Create)
		if got, _ := h.read("net/ipv4/conf/mr0/rp_filter"); got != want {
			t.Errorf("all %s: set to %s, want %s", all, got, want)
		}
		for _, s := range h.settings() {
			if isPathFilter(s.Name) && s.Value != "2" {
				t.Errorf("all %s: %s is taken for a difference", all, s)
			}
		}
	}
}

// TestSettingsGoWithTheBoot: a reboot has given them back.
func TestSettingsGoWithTheBoot(t *testing.T) {
	root, dir := tree(t, someHost), t.TempDir()
	carryAll(t, onTree(t, root, dir), dataplane.Create)
	again := tree(t, someHost)
	if err := os.WriteFile(filepath.Join(again, "proc/sys/kernel/random/boot_id"), []byte("two\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if left := onTree(t, again, dir).settings(); len(left) > 0 {
		t.Errorf("after a reboot: %v", left)
	}
}

func TestSettingThatIsNotThere(t *testing.T) {
	root, dir := tree(t, someHost), t.TempDir()
	h := onTree(t, root, dir)
	err := h.carry(dataplane.Step{Verb: dataplane.Create, Object: dataplane.HostSetting{Name: "net/ipv4/conf/gone/rp_filter", Value: "2"}})
	if err == nil || !strings.Contains(err.Error(), "net/ipv4/conf/gone/rp_filter") {
		t.Errorf("error %v, want one that names the setting", err)
	}
	// An interface goes, with its settings.
	carryAll(t, h, dataplane.Create)
	if err := os.RemoveAll(filepath.Join(root, "proc/sys/net/ipv4/conf/mr0")); err != nil {
		t.Fatal(err)
	}
	carryAll(t, onTree(t, root, dir), dataplane.Delete)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

func TestDamagedNotes(t *testing.T) {
	root, dir := tree(t, nil), t.TempDir()
	for text, want := range map[string]string{
		"{": "is damaged", `{"version":1,"boot":"one","settings":{"a":null}}`: "nothing stands under a",
		`{"version":2,"boot":"one","settings":{}}`: "another release", `{"version":1,"what":1}`: "is damaged",
	} {
		if err := os.WriteFile(filepath.Join(dir, notesName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openNotes(dir, root); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want one with %q", text, err, want)
		}
	}
}
