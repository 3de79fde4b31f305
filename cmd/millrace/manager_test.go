package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/nodeconfig"
)

// managerFlags are those managerConfig reads, as runManager declares them.
func managerFlags(t *testing.T, args ...string) *flag.FlagSet {
	t.Helper()
	set := flag.NewFlagSet("manager", flag.ContinueOnError)
	set.SetOutput(t.Output())
	set.String("config", filepath.Join(t.TempDir(), "none.yaml"), "")
	for _, name := range []string{"dataplane", "vpp-bin", "runtime-dir", "state-dir", "api-socket", "stats-socket", "log-level"} {
		set.String(name, "", "")
	}
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	return set
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "node.yaml")
	if err := os.WriteFile(path, []byte("apiVersion: millrace.io/v1alpha1\nkind: NodeConfig\n"+text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestManagerConfigPrecedence(t *testing.T) {
	file := writeConfig(t, "dataplane: vpp\nruntimeDir: /run/file\nvpp: {binary: /opt/file/vpp}\n")
	for _, tt := range []struct {
		name, env string
		args      []string
		check     func(nodeconfig.Config) string // what is read, for comparing
		want      string
	}{
		{"defaults", "", nil, func(c nodeconfig.Config) string { return string(c.Dataplane) + " " + c.Sockets.API }, "auto /run/vpp/api.sock"},
		{"file", "", []string{"--config", file}, func(c nodeconfig.Config) string { return string(c.Dataplane) + " " + c.VPP.Binary }, "vpp /opt/file/vpp"},
		{"environment over file", "/opt/env/vpp", []string{"--config", file}, func(c nodeconfig.Config) string { return c.VPP.Binary }, "/opt/env/vpp"},
		{"flag over environment", "/opt/env/vpp", []string{"--config", file, "--vpp-bin", "/opt/flag/vpp"}, func(c nodeconfig.Config) string { return c.VPP.Binary }, "/opt/flag/vpp"},
		{"sockets follow the flag", "", []string{"--config", file, "--runtime-dir", "/run/flag"}, func(c nodeconfig.Config) string { return c.Sockets.API + " " + c.Sockets.Stats }, "/run/flag/api.sock /run/flag/stats.sock"},
		{"flag over file", "", []string{"--config", file, "--dataplane", "engine", "--log-level", "warn"}, func(c nodeconfig.Config) string { return string(c.Dataplane) + " " + string(c.LogLevel) }, "engine warn"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("VPP_BIN", tt.env)
			c, err := managerConfig(managerFlags(t, tt.args...))
			if err != nil {
				t.Fatal(err)
			}
			if got := tt.check(c); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestManagerConfigErrors(t *testing.T) {
	t.Setenv("VPP_BIN", "")
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"file asked for and missing", []string{"--config", "/none/node.yaml"}, "/none/node.yaml: no such file"},
		{"file wrong", []string{"--config", writeConfig(t, "mut: 9000\n")}, "node.yaml: decode NodeConfig: mut: unknown field"},
		{"value wrong", []string{"--config", writeConfig(t, "mtu: 90\n")}, "mtu: 90 is not between"},
		{"flag wrong", []string{"--dataplane", "ebpf"}, `flag --dataplane: "ebpf" is not one of`},
		{"level wrong", []string{"--log-level", "loud"}, `flag --log-level: "loud"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := managerConfig(managerFlags(t, tt.args...))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v does not say %q", err, tt.want)
			}
		})
	}
}

func TestWatchdogInterval(t *testing.T) {
	for _, tt := range []struct {
		usec, pid string
		want      time.Duration
		fails     bool
	}{
		{"", "", 0, false},
		{"30000000", "", 30 * time.Second, false},
		{"30000000", "7", 30 * time.Second, false},
		{"30000000", "8", 0, false},
		{"soon", "", 0, true},
		{"-1", "7", 0, true},
		{"9223372036854775807", "", 0, true},
	} {
		got, err := watchdogInterval(tt.usec, tt.pid, 7)
		if got != tt.want || (err != nil) != tt.fails {
			t.Errorf("%q of %q: %v, %v", tt.usec, tt.pid, got, err)
		}
	}
}
