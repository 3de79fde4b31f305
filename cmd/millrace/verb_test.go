package main

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBadFlags: each verb names what is wrong with its flags, before it starts anything.
func TestBadFlags(t *testing.T) {
	t.Setenv("VPP_BIN", "")
	dir := t.TempDir()
	plugin := filepath.Join(dir, "millrace-cni")
	if err := os.WriteFile(plugin, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	config := writeConfig(t, "")
	missing := filepath.Join(dir, "missing")
	for _, tt := range []struct {
		verb string
		args []string
		want string
	}{
		{"manager", []string{"vpp"}, `argument "vpp": want flags only`},
		{"agent", []string{"x"}, `argument "x": want flags only`},
		{"agent", []string{"--config", config, "--log-level", "loud"}, `flag --log-level: "loud" is not one of`},
		{"agent", []string{"--config", config, "--mtu", "3"}, "mtu: 3 is not between"},
		{"agent", []string{"--config", config, "--state-dir", ""}, "flag --state-dir: is empty"},
		{"agent", []string{"--config", config, "--facts", missing}, "flag --facts: list facts: open " + missing},
		{"agent", []string{"--config", config, "--kubeconfig", missing}, "flag --kubeconfig: reach the API server: stat " + missing},
		{"agent", []string{"--config", config, "--kubeconfig", missing, "--facts", dir}, "flags --facts and --kubeconfig: want one of them"},
		{"engine", []string{"x"}, `argument "x": want flags only`},
		{"engine", []string{"--log-level", "loud"}, `flag --log-level: "loud" is not one of`},
		{"ctl", nil, "want a command of the dataplane"},
		{"ctl", []string{"--config", config, "--api-socket", missing, "show", "version"}, missing},
		{"config", []string{"frob"}, "want show"},
		{"policy", nil, "want explain"},
		{"policy", []string{"frob"}, "want explain"},
		{"policy", []string{"test"}, "want both flags: -f dir/ --flows flows.yaml"},
		{"policy", []string{"test", "-f", missing, "--flows", missing}, "list manifests: stat " + missing},
		{"policy", []string{"test", "-f", config, "--flows", missing}, "read flows: open " + missing},
		{"policy", []string{"explain"}, `flag --from: "": want namespace/pod or an IP address`},
		{"policy", []string{"explain", "--from", "a/b", "--to", "10.0.0.1", "--port", "icmp", "--output", "xml"}, `flag --output: "xml": want text or json`},
		{"policy", []string{"explain", "--config", config, "--from", "a/b", "--to", "10.0.0.1", "--port", "80", "--agent-socket", missing}, "(--facts works without an agent)"},
		{"show", nil, "want facts"},
		{"show", []string{"plan", "--config", config, "--agent-socket", missing}, missing},
		{"bench", []string{"readmee"}, `argument "readmee": want flags only`},
		{"bench", []string{"readme", "x"}, `argument "x": want flags only`},
		{"bench", []string{"memif", "x"}, `argument "x": want flags only`},
		{"bench", []string{"memif", "--scenario", "speed"}, `flag --scenario: "speed" is none of transport, forward, rate, all`},
		{"bench", []string{"memif", "--scenario", "rate", "--sizes", "9300"}, "9300 is not between 60 and 9216"},
		{"bench", []string{"memif", "--sizes", "64,big"}, `"64,big" is no list of numbers`},
		{"bench", []string{"memif", "--sizes", "20"}, "20 is not between 60 and 9216"},
		{"bench", []string{"memif", "--queues", "0"}, "0 is not between 1 and 16"},
		{"bench", []string{"memif", "--repetitions", "0"}, "flag --repetitions: 0 is too few"},
		{"bench", []string{"memif", "--window", "2s"}, "flag --window: 2s is not between"},
		{"bench", []string{"memif", "--cores", "1,1"}, "want two different ones"},
		{"bench", []string{"memif", "--cores", "0,60000"}, "flag --cores: core 60000 is none of"},
		{"bench", []string{"memif", "--testpmd", missing}, "flag --testpmd (Debian's package dpdk-dev has it"},
		{"bench", []string{"policy", "x"}, `argument "x": want flags only`},
		{"bench", []string{"policy", "--scenario", "speed"}, `flag --scenario: "speed" is none of acl, compile, all`},
		{"bench", []string{"policy", "--repetitions", "0"}, "flag --repetitions: 0 is too few"},
		{"bench", []string{"policy", "--rules", "1k,9k"}, `"9k" is none of 10, 1k, 1k-pods, 10k`},
		{"bench", []string{"policy", "--loads", "last"}, `"last" is none of first, 1k, 100k`},
		{"bench", []string{"policy", "--batch", "0"}, "flag --batch: 0 is not between"},
		{"bench", []string{"policy", "--window", "2s"}, "flag --window: 2s is not between"},
		{"bench", []string{"policy", "--routes", "0"}, "flag --routes: 0 is not between"},
		{"bench", []string{"policy", "--cores", "1,1"}, "want two different ones"},
		{"bench", []string{"policy", "--vpp-bin", missing}, "flag --vpp-bin: find FD.io VPP"},
		{"demo", []string{"x"}, `argument "x": want flags only`},
		{"demo", []string{"--pods", "0"}, "flag --pods: 0 is too few"},
		{"demo", []string{"--seconds", "-1"}, "flag --seconds: -1 is too few"},
		{"demo", []string{"--plugin", dir}, "want a file named millrace-cni"},
		{"demo", []string{"--plugin", filepath.Join(missing, "millrace-cni")}, "flag --plugin (`make build` builds it)"},
		{"demo", []string{"--plugin", plugin, "--dataplane", "ebpf"}, `"ebpf" is none of engine, vpp, both`},
		{"demo", []string{"--plugin", plugin, "--dataplane", "vpp"}, "give --vpp-bin or set VPP_BIN"},
		{"demo", []string{"--plugin", plugin, "--dataplane", "vpp", "--vpp-bin", missing}, "flag --vpp-bin: "},
		{"demo", []string{"--plugin", plugin, "--reference-plugins", missing}, "`make reference` builds it"},
	} {
		t.Run(tt.verb+" "+strings.Join(tt.args, " "), func(t *testing.T) {
			for _, v := range verbs() {
				if v.name != tt.verb {
					continue
				}
				err := v.run(t.Context(), tt.args)
				if err == nil || errors.Is(err, flag.ErrHelp) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error %v does not say %q", err, tt.want)
				}
			}
		})
	}
}
