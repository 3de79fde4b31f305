package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseConf(t *testing.T) {
	const text = `# comment { with a brace
unix { nodaemon runtime-dir /run/x cli-listen /run/x/cli.sock }
socksvr { socket-name /run/x/api.sock }
statseg {
  socket-name /run/x/stats.sock
  size 64M
}
dpdk {
  dev default { num-rx-desc 1024 }
  dev 0000:02:00.0 { name uplink1 num-rx-queues 1 }
  dev 0000:01:00.0 {
    name uplink0 # the first
  }
}
`
	got, err := parseConf(text)
	want := config{api: "/run/x/api.sock", stats: "/run/x/stats.sock", devices: []device{{"0000:01:00.0", "uplink0"}, {"0000:02:00.0", "uplink1"}}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(config{}, device{})); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for name, bad := range map[string]string{
		"open":     "socksvr { socket-name a } statseg { socket-name b } dpdk {",
		"closed":   "socksvr { socket-name a } }",
		"no api":   "statseg { socket-name b }",
		"no name":  "socksvr { socket-name a } statseg { socket-name b } dpdk { dev 0000:01:00.0 }",
		"nameless": "socksvr { socket-name a } statseg { socket-name b } dpdk { dev 0000:01:00.0 { num-rx-desc 64 } }",
	} {
		if c, err := parseConf(bad); err == nil {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

func FuzzParseConf(f *testing.F) {
	f.Add("socksvr { socket-name a } statseg { socket-name b } dpdk { dev 0000:01:00.0 { name x } }")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseConf(text)
		for _, d := range c.devices {
			if err == nil && (d.pci == "" || d.name == "") {
				t.Errorf("%q has device %+v", text, d)
			}
		}
	})
}
