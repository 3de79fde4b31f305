package startup

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
)

// Plan is everything the manager is about to do, as a value.
type Plan struct {
	Dataplane  nodeconfig.Dataplane // vpp or engine, never auto
	Reason     string
	Command    []string // program and arguments
	RuntimeDir string
	Sockets    Sockets
	Changes    []Change  // of the host, in this order before the start; undone in reverse after the end
	Uplinks    []Uplink  // what the dataplane is told as soon as it runs
	Files      []Content // written before the start, removed after the end
	Strays     []string  // further files the process leaves when it is killed
	Notes      []string  // what a person should know before saying yes
	Facts      inventory.Node
}

// Sockets are the unix sockets the process will listen on. CLI is empty for the engine.
type Sockets struct{ API, Stats, CLI string }

// Paths returns the sockets that exist.
func (s Sockets) Paths() []string {
	list := []string{s.API, s.Stats}
	if s.CLI != "" {
		list = append(list, s.CLI)
	}
	return list
}

// Content is one file the plan writes, mode 0644.
type Content struct {
	Path string
	Text string
}

// Make chooses the dataplane and plans its start. Every conflict between the
// configuration and the node is reported, all together; then there is no plan.
func Make(inv inventory.Node, cfg nodeconfig.Config) (Plan, error) {
	which, reason, err := choose(inv, cfg)
	if err != nil {
		return Plan{}, fmt.Errorf("plan the dataplane: %w", err)
	}
	errs := []error{checkNode(inv)}
	p := Plan{
		Dataplane:  which,
		Reason:     reason,
		RuntimeDir: cfg.RuntimeDir,
		Sockets:    Sockets{API: cfg.Sockets.API, Stats: cfg.Sockets.Stats},
		Facts:      inv,
	}
	if which == nodeconfig.UseVPP {
		errs = append(errs, planVPP(&p, inv, cfg))
	} else {
		errs = append(errs, planEngine(&p, inv, cfg))
	}
	if err := errors.Join(errs...); err != nil {
		return Plan{}, fmt.Errorf("plan the %s dataplane: %w", which, err)
	}
	return p, nil
}

// choose takes VPP under auto only when its program can be run. A program that was named
// on purpose and cannot be run is an error: falling back would hide the mistake.
func choose(inv inventory.Node, cfg nodeconfig.Config) (nodeconfig.Dataplane, string, error) {
	named := cfg.VPP.Binary != nodeconfig.Default().VPP.Binary
	const remedy = "install VPP 25.10, point vpp.binary, --vpp-bin or VPP_BIN at it, or choose --dataplane engine"
	switch {
	case cfg.Dataplane == nodeconfig.UseEngine:
		return nodeconfig.UseEngine, "it was asked for", nil
	case !inv.VPP.Missing && inv.VPP.Problem != "":
		return "", "", fmt.Errorf("VPP's program %s %s: make it executable, or choose --dataplane engine", inv.VPP.Path, inv.VPP.Problem)
	case inv.VPP.Missing && cfg.Dataplane == nodeconfig.UseVPP:
		return "", "", fmt.Errorf("VPP's program %s is missing: %s", inv.VPP.Path, remedy)
	case inv.VPP.Missing && named:
		return "", "", fmt.Errorf("VPP's program %s was named but is missing: %s", inv.VPP.Path, remedy)
	case inv.VPP.Missing:
		return nodeconfig.UseEngine, "auto: there is no VPP at " + inv.VPP.Path, nil
	case cfg.Dataplane == nodeconfig.UseVPP:
		return nodeconfig.UseVPP, "it was asked for", nil
	}
	return nodeconfig.UseVPP, "auto: VPP is at " + inv.VPP.Path, nil
}

// checkNode finds what stops either dataplane.
func checkNode(inv inventory.Node) error {
	var errs []error
	if !inv.NetAdmin {
		errs = append(errs, errors.New("no privilege: CAP_NET_ADMIN is missing: run as root, or give the container this capability"))
	}
	if len(inv.CPUs) == 0 {
		errs = append(errs, errors.New("no CPU: this process may not run on any"))
	}
	for _, d := range inv.Dirs {
		if d.Problem != "" {
			errs = append(errs, fmt.Errorf("directory %s %s: choose another with runtimeDir or sockets, or make it writable", d.Path, d.Problem))
		}
	}
	return errors.Join(errs...)
}

func planEngine(p *Plan, inv inventory.Node, cfg nodeconfig.Config) error {
	var errs []error
	if !inv.Engine.Usable() {
		errs = append(errs, fmt.Errorf("the engine's program cannot be run: %v", inv.Engine))
	}
	if !inv.Tun.Usable() {
		errs = append(errs, fmt.Errorf("the engine makes pod interfaces with %v: load the kernel module (modprobe tun), or let the container use the device", inv.Tun))
	}
	workers := cfg.Engine.Workers
	if workers == 0 {
		workers = min(max(len(inv.CPUs)/2, 1), 4)
	}
	if workers > len(inv.CPUs) {
		errs = append(errs, fmt.Errorf("engine.workers: %d is more than the CPUs this process may use (%s)", workers, ranges(inv.CPUs)))
	}
	p.Command = []string{
		inv.Engine.Path, "engine",
		"--api-socket", p.Sockets.API,
		"--stats-socket", p.Sockets.Stats,
		"--runtime-dir", cfg.RuntimeDir,
		"--workers", strconv.Itoa(workers),
		"--log-level", string(cfg.LogLevel),
	}
	return errors.Join(errs...)
}

func planVPP(p *Plan, inv inventory.Node, cfg nodeconfig.Config) error {
	p.Sockets.CLI = path.Join(cfg.RuntimeDir, "cli.sock")
	conf := path.Join(cfg.RuntimeDir, "startup.conf")
	p.Command = []string{inv.VPP.Path, "-c", conf}
	memory, err := planMemory(p, inv, cfg)
	text, confErr := startupConf(p, inv, cfg, memory)
	p.Files = []Content{{Path: conf, Text: text}}
	prefix := segmentPrefix(cfg.RuntimeDir)
	p.Strays = []string{"/dev/shm/" + prefix + "-global_vm", "/dev/shm/" + prefix + "-vpe-api"}
	if !inv.VhostNet.Usable() {
		p.Notes = append(p.Notes, fmt.Sprintf("%v: VPP cannot make taps here, pods get veth and af_packet (modprobe vhost_net brings taps)", inv.VhostNet))
	}
	return errors.Join(err, checkVPP(p, inv, cfg), confErr)
}

// checkVPP finds what stops VPP: a CPU below what its packages are built for, workers
// without CPUs, paths its configuration cannot hold.
func checkVPP(p *Plan, inv inventory.Node, cfg nodeconfig.Config) error {
	var errs []error
	if inv.CPULevel == "x86-64-v1" {
		errs = append(errs, errors.New("the CPU has no SSE4.2, which VPP is built for: choose --dataplane engine"))
	}
	if cfg.VPP.Workers > 0 && cfg.VPP.Workers >= len(inv.CPUs) {
		errs = append(errs, fmt.Errorf("vpp.workers: %d workers and the main thread need %d CPUs, this process may use %d (%s)",
			cfg.VPP.Workers, cfg.VPP.Workers+1, len(inv.CPUs), ranges(inv.CPUs)))
	}
	for _, path := range append(p.Sockets.Paths(), cfg.RuntimeDir) {
		if i := strings.IndexFunc(path, func(r rune) bool { return !vppPathRune(r) }); i >= 0 {
			errs = append(errs, fmt.Errorf("path %s: VPP accepts only letters, digits, / - . _ in paths, not %q", path, path[i]))
		}
	}
	return errors.Join(errs...)
}

// vppPathRune is what VPP's own parser of socket names reads (vppinfra/socket.c).
func vppPathRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/-._", r)
}

// String prints the plan for a person to read before it is carried out.
func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "dataplane  %s: %s\n", p.Dataplane, p.Reason)
	fmt.Fprintf(&b, "command    %s\n", strings.Join(p.Command, " "))
	fmt.Fprintf(&b, "runtime    %s\n", p.RuntimeDir)
	for _, s := range p.Sockets.Paths() {
		fmt.Fprintf(&b, "socket     %s\n", s)
	}
	for line := range strings.Lines(facts(p.Facts)) {
		fmt.Fprintf(&b, "fact       %s", line)
	}
	for _, n := range p.Notes {
		fmt.Fprintf(&b, "note       %s\n", n)
	}
	for _, f := range p.Files {
		fmt.Fprintf(&b, "file       %s\n", f.Path)
		for line := range strings.Lines(f.Text) {
			fmt.Fprintf(&b, "           | %s", line)
		}
	}
	return b.String()
}
