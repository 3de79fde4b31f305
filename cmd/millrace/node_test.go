package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/vppmanager/inventory"
	"github.com/millrace/millrace/vppmanager/startup"
)

// inspectFlags has everything that inspecting looks at below a directory that nothing made.
func inspectFlags(t *testing.T) (dir string, flags []string) {
	t.Helper()
	t.Setenv("VPP_BIN", "")
	dir = filepath.Join(t.TempDir(), "none")
	config := writeConfig(t, "runtimeDir: "+dir+"/run\nstateDir: "+dir+"/state\n")
	return dir, []string{"inspect", "--config", config, "--vpp-bin", dir + "/vpp"}
}

// links are the names of the links that this machine has all along.
func links(t *testing.T, during func()) []string {
	t.Helper()
	names := map[string]int{}
	look := func() {
		list, err := net.Interfaces()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			if l.Flags&net.FlagLoopback == 0 {
				names[l.Name]++
			}
		}
	}
	look()
	during()
	look()
	var all []string
	for name, seen := range names {
		if seen == 2 {
			all = append(all, name)
		}
	}
	return all
}

// TestNodeInspectJSON: what is printed reads back as a node, with every link of this machine
// and a judgement on each driver for it.
func TestNodeInspectJSON(t *testing.T) {
	dir, flags := inspectFlags(t)
	var out bytes.Buffer
	names := links(t, func() {
		if err := node(append(flags, "--output", "json"), &out); err != nil {
			t.Fatal(err)
		}
	})
	var got struct {
		inventory.Node
		Drivers map[string][]startup.DriverChoice
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v:\n%s", err, &out)
	}
	for _, name := range names {
		nic, found := got.NIC(name)
		if !found {
			t.Errorf("the link %s is missing", name)
			continue
		}
		choices := got.Drivers[nic.Title()]
		if len(choices) != 6 {
			t.Errorf("%s: %d drivers are judged, want 6", name, len(choices))
		}
		for _, c := range choices {
			if c.Why == "" {
				t.Errorf("%s: nothing is said of %s", name, c.Driver)
			}
		}
	}
	if len(got.CPUs) == 0 || got.MemoryAvailable == 0 || !got.VPP.Missing || got.VPP.Path != dir+"/vpp" {
		t.Errorf("CPUs %v, memory %d, VPP %v", got.CPUs, got.MemoryAvailable, got.VPP)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("inspecting made %s (%v)", dir, err)
	}
}

// TestNodeInspectTable: the same for people, who are spared details of links that nobody uses.
func TestNodeInspectTable(t *testing.T) {
	dir, flags := inspectFlags(t)
	var out bytes.Buffer
	names := links(t, func() {
		if err := node(flags, &out); err != nil {
			t.Fatal(err)
		}
	})
	for _, want := range append(names, dir+"/vpp") {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not name %s:\n%s", want, &out)
		}
	}
	for _, name := range names {
		l, err := net.InterfaceByName(name)
		if err != nil || l.Flags&net.FlagUp == 0 {
			continue
		}
		_, details, found := strings.Cut(out.String(), "\n\n"+name+"\n")
		details, _, _ = strings.Cut(details, "\n\n")
		if !found || strings.Count(details, "\n  driver ") != 6 {
			t.Errorf("of %s it does not judge six drivers:\n%s", name, &out)
		}
	}
}

func TestNodeErrors(t *testing.T) {
	_, flags := inspectFlags(t)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "want inspect"},
		{[]string{"look"}, "want inspect"},
		{append(flags, "eth0"), `argument "eth0": want flags only`},
		{append(flags, "--output", "xml"), `--output "xml": want table or json`},
		{[]string{"inspect", "--config", "/none/node.yaml"}, "/none/node.yaml: no such file"},
	} {
		var out bytes.Buffer
		if err := node(tt.args, &out); err == nil || !strings.Contains(err.Error(), tt.want) || out.Len() > 0 {
			t.Errorf("%q: error %v does not say %q; printed %q", tt.args, err, tt.want, &out)
		}
	}
}
