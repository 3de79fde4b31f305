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
// graph nodes that nothing uses. dpdk is not among them: without a list of devices it
// takes every idle NIC of the node.
var plugins = []string{"acl", "af_packet", "af_xdp", "cnat", "memif", "ping", "tracedump", "urpf", "vxlan"}

// bufferBytes is what VPP lays one buffer of 2 KiB data into (vlib/buffer.c): data, header
// and head room, as an odd number of cache lines.
const bufferBytes = 2368

// memoryPlan is how VPP's packet buffers lie in memory.
type memoryPlan struct {
	hugePages bool
	buffers   int // to ask for, per NUMA node
}

// wantedBuffers is the configured number, or one for this node: the rings of a pod's tap
// hold buffers for good, those of af_packet are the kernel's.
func wantedBuffers(inv inventory.Node, cfg nodeconfig.Config) int {
	switch {
	case cfg.VPP.BuffersPerNuma > 0:
		return cfg.VPP.BuffersPerNuma
	case inv.VhostNet.Usable():
		return 65536 // 110 pods of 512, and some in flight
	}
	return 16384
}

// planMemory decides whether packet buffers lie on huge pages, and checks that the memory
// VPP will ask for is there.
func planMemory(p *Plan, inv inventory.Node, cfg nodeconfig.Config) (memoryPlan, error) {
	m := memoryPlan{buffers: wantedBuffers(inv, cfg)}
	short := hugePagesShort(inv, m.buffers)
	switch {
	case cfg.VPP.HugePages == nodeconfig.HugePagesOn && short != "":
		return m, fmt.Errorf("vpp.hugepages: %s: set vm.nr_hugepages, or choose auto or off", short)
	case cfg.VPP.HugePages == nodeconfig.HugePagesOff:
		short = "vpp.hugepages is off"
	}
	total := cfg.VPP.MainHeapSize
	if m.hugePages = short == ""; !m.hugePages {
		p.Notes = append(p.Notes, "packet buffers lie on small pages, which costs speed: "+short)
		// No buffer may straddle two pages: VPP lays out a page for each asked for, then
		// keeps those 73 % that do not.
		m.buffers = m.buffers * 100 / 72
		total += nodeconfig.Size(m.buffers) * 4096 * nodeconfig.Size(len(inv.NUMA))
	}
	if inv.MemoryAvailable < total {
		return m, fmt.Errorf("vpp.mainHeapSize: VPP may use %d MiB (heap and buffers), %d MiB are available: lower it, or vpp.buffersPerNuma",
			total>>20, inv.MemoryAvailable>>20)
	}
	return m, nil
}

// hugePagesShort says why the buffers do not fit into the free huge pages; "" when they do.
func hugePagesShort(inv inventory.Node, buffers int) string {
	if inv.HugePageSize < bufferBytes {
		return "the kernel has no huge pages"
	}
	need := (buffers-1)/int(inv.HugePageSize/bufferBytes) + 1
	for _, n := range inv.NUMA {
		if n.HugePagesFree < need {
			return fmt.Sprintf("%d buffers need %d huge pages of %v on NUMA node %d, %d are free",
				buffers, need, inv.HugePageSize, n.ID, n.HugePagesFree)
		}
	}
	return ""
}

// startupConf writes VPP's configuration file, one section a group of lines.
func startupConf(p *Plan, inv inventory.Node, cfg nodeconfig.Config, memory memoryPlan) (string, error) {
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
	buffers := []string{fmt.Sprintf("buffers-per-numa %d", memory.buffers)}
	switch {
	case !memory.hugePages:
		buffers = append(buffers, "page-size default")
	case cfg.VPP.HugePages == nodeconfig.HugePagesOn:
		buffers = append(buffers, "page-size default-hugepage")
	} // else VPP tries huge pages, and takes small ones when another program was quicker
	section("buffers", buffers...)
	if n := cfg.VPP.Workers; n > 0 && n < len(inv.CPUs) {
		section("cpu", fmt.Sprintf("main-core %d", inv.CPUs[0]), "corelist-workers "+ranges(inv.CPUs[1:n+1]))
	}
	names, err := pluginList(cfg.VPP.Plugins)
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

func pluginList(extra []string) ([]string, error) {
	names := slices.Clone(plugins)
	var errs []error
	for i, name := range extra {
		name = strings.TrimSuffix(strings.TrimSuffix(name, ".so"), "_plugin")
		switch {
		case name == "" || strings.ContainsFunc(name, func(r rune) bool { return r == '/' || !vppPathRune(r) }):
			errs = append(errs, fmt.Errorf("vpp.plugins[%d]: %q is not a plugin's name: want one such as wireguard", i, extra[i]))
		case name == "dpdk":
			errs = append(errs, fmt.Errorf("vpp.plugins[%d]: dpdk without a list of NICs takes every idle NIC of the node: remove it", i))
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
