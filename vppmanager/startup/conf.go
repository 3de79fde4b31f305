package startup

import (
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
)

// plugins are loaded always; all others stay off, so that none brings API messages or
// graph nodes that nothing uses. Those of the uplinks' drivers come to them (dpdk.go).
var plugins = []string{"acl", "af_packet", "af_xdp", "cnat", "memif", "ping", "tracedump", "urpf", "vxlan"}

// confParts are what the configuration file is made of.
type confParts struct {
	inv     inventory.Node
	cfg     nodeconfig.Config
	memory  memoryPlan
	threads threads
	uplinks []Uplink
	dpdk    []string // lines of its section
}

// startupConf writes VPP's configuration file, one section a group of lines.
func startupConf(p *Plan, c confParts) (string, error) {
	cfg := c.cfg
	var b strings.Builder
	section := func(name string, lines ...string) {
		fmt.Fprintf(&b, "%s {\n", name)
		for _, l := range lines {
			fmt.Fprintf(&b, "  %s\n", l)
		}
		b.WriteString("}\n")
	}
	b.WriteString("# Written by the millrace manager before each start; changes here are lost.\n")
	// nosyslog sends messages to the standard error, which the manager keeps for the
	// report of a crash.
	section("unix", "nodaemon", "nosyslog", "nocolor", "runtime-dir "+cfg.RuntimeDir, "cli-listen "+p.Sockets.CLI)
	section("logging", logLevels(cfg.LogLevel)...)
	section("socksvr", "socket-name "+p.Sockets.API)
	// A prefix of its own, or VPP removes the shared memory of another VPP at start.
	section("api-segment", "prefix "+segmentPrefix(cfg.RuntimeDir))
	section("statseg", "socket-name "+p.Sockets.Stats, "size 64M")
	section("memory", "main-heap-size "+vppSize(cfg.VPP.MainHeapSize))
	section("buffers", c.memory.buffersSection(c.inv, cfg)...)
	if t := c.threads; t.pinned {
		lines := []string{fmt.Sprintf("main-core %d", t.main)}
		if len(t.workers) > 0 {
			lines = append(lines, "corelist-workers "+ranges(t.workers))
		}
		section("cpu", lines...)
	}
	if len(c.dpdk) > 0 {
		section("dpdk", c.dpdk...)
	}
	names, err := pluginList(cfg.VPP.Plugins, driverPlugins(c.uplinks))
	lines := []string{"plugin default { disable }"}
	for _, name := range names {
		lines = append(lines, fmt.Sprintf("plugin %s_plugin.so { enable }", name))
	}
	section("plugins", lines...)
	// A changed policy is judged again for live sessions, instead of only for new ones.
	section("acl-plugin", "reclassify sessions 1")
	for _, line := range cfg.VPP.Extra {
		b.WriteString(line + "\n")
	}
	return b.String(), errors.Join(err, checkExtra(cfg.VPP.Extra))
}

// logLevels maps ours to VPP's: the memory log shown by "show logging", and what goes to
// the standard error. VPP prints one notice for each disabled plugin, so info means
// warnings there.
func logLevels(l nodeconfig.LogLevel) []string {
	memory, stderr := "info", "warn"
	switch l {
	case nodeconfig.Debug:
		memory, stderr = "debug", "debug"
	case nodeconfig.Warn:
		memory = "warn"
	case nodeconfig.Error:
		memory, stderr = "error", "error"
	}
	return []string{"default-log-level " + memory, "default-syslog-log-level " + stderr}
}

func pluginList(extra, drivers []string) ([]string, error) {
	names := append(slices.Clone(plugins), drivers...)
	var errs []error
	for i, name := range extra {
		name = strings.TrimSuffix(strings.TrimSuffix(name, ".so"), "_plugin")
		switch {
		case name == "" || strings.ContainsFunc(name, func(r rune) bool { return r == '/' || !vppPathRune(r) }):
			errs = append(errs, fmt.Errorf("vpp.plugins[%d]: %q is not a plugin's name: want one such as wireguard", i, extra[i]))
		case name == "dpdk":
			errs = append(errs, fmt.Errorf("vpp.plugins[%d]: dpdk without a list of NICs takes every idle NIC of the node: remove it, and name the NICs in uplinks", i))
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), errors.Join(errs...)
}

// owned are the sections the manager writes itself: a second one would win over it
// silently.
var owned = []string{"unix", "socksvr", "api-segment", "statseg", "memory", "heapsize", "buffers", "cpu", "plugins", "dpdk"}

func checkExtra(lines []string) error {
	var errs []error
	depth := 0
	for i, line := range lines {
		code, _, _ := strings.Cut(line, "#")
		if name, _, _ := strings.Cut(strings.TrimSpace(code), " "); depth == 0 && slices.Contains(owned, strings.TrimSuffix(name, "{")) {
			errs = append(errs, fmt.Errorf("vpp.extra[%d]: the section %s is written by the manager: use the fields of NodeConfig", i, name))
		}
		for _, r := range code {
			switch r {
			case '{':
				depth++
			case '}':
				depth--
			case '\n':
				errs = append(errs, fmt.Errorf("vpp.extra[%d]: holds a line break: write each line as an item", i))
			}
			if depth < 0 {
				return errors.Join(append(errs, fmt.Errorf("vpp.extra[%d]: a } without its {", i))...)
			}
		}
		if len(line) > 1000 {
			errs = append(errs, fmt.Errorf("vpp.extra[%d]: VPP cuts lines above 1000 bytes", i))
		}
	}
	if depth != 0 {
		errs = append(errs, fmt.Errorf("vpp.extra: %d { without }", depth))
	}
	return errors.Join(errs...)
}

// vppSize prints a size as VPP reads it: K, M and G are powers of 1024 there.
func vppSize(s nodeconfig.Size) string { return strings.TrimSuffix(s.String(), "i") }

// segmentPrefix names VPP's shared memory after its runtime directory, so that two of
// them do not meet in /dev/shm. File names there have at most 255 bytes.
func segmentPrefix(runtimeDir string) string {
	name := strings.ReplaceAll(strings.Trim(runtimeDir, "/"), "/", "-")
	if len(name) <= 64 {
		return "millrace-" + name
	}
	sum := fnv.New64a()
	sum.Write([]byte(name)) // never fails
	return fmt.Sprintf("millrace-%s-%x", name[len(name)-40:], sum.Sum64())
}
