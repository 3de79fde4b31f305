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
	Dataplane  nodeconfig.Dataplane `json:"dataplane"` // vpp or engine, never auto
	Reason     string               `json:"reason"`
	Command    []string             `json:"command"` // program and arguments
	RuntimeDir string               `json:"runtimeDir"`
	Sockets    Sockets              `json:"sockets"`
	Threads    string               `json:"threads,omitempty"` // where VPP's threads run, in words
	Memory     string               `json:"memory,omitempty"`  // how its packet buffers lie, in words
	Choices    []Choice             `json:"choices,omitempty"` // of drivers, one for each of Uplinks
	Uplinks    []Uplink             `json:"uplinks,omitempty"` // what the dataplane is told as soon as it runs
	Changes    []Change             `json:"changes,omitempty"` // of the host, in this order before the start; undone in reverse after the end
	Files      []Content            `json:"files,omitempty"`   // written before the start, removed after the end
	Strays     []string             `json:"strays,omitempty"`  // further files the process leaves when it is killed
	Notes      []string             `json:"notes,omitempty"`   // what a person should know before saying yes
	Facts      inventory.Node       `json:"facts"`
}

// Choice is why an uplink has its driver.
type Choice struct {
	Uplink string         `json:"uplink"`
	NIC    string         `json:"nic"` // what the configuration named
	Driver DriverChoice   `json:"driver"`
	Others []DriverChoice `json:"others,omitempty"` // not chosen, and why they would not work or come later
}

// Sockets are the unix sockets the process will listen on. CLI is empty for the engine.
type Sockets struct {
	API   string `json:"api"`
	Stats string `json:"stats"`
	CLI   string `json:"cli,omitempty"`
}

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
	Path string `json:"path"`
	Text string `json:"text"`
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
	list, err := take(inv, cfg, which)
	errs = append(errs, err)
	if which == nodeconfig.UseVPP {
		errs = append(errs, planVPP(&p, inv, cfg, list))
	} else {
		errs = append(errs, planEngine(&p, inv, cfg, list))
	}
	for _, u := range inv.Unread {
		p.Notes = append(p.Notes, "not known: "+u)
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

func planEngine(p *Plan, inv inventory.Node, cfg nodeconfig.Config, list []taken) error {
	ups, err := buildUplinks(inv, list, threads{})
	errs := []error{err}
	p.own(inv, list, ups, nil)
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

func planVPP(p *Plan, inv inventory.Node, cfg nodeconfig.Config, list []taken) error {
	p.Sockets.CLI = path.Join(cfg.RuntimeDir, "cli.sock")
	conf := path.Join(cfg.RuntimeDir, "startup.conf")
	p.Command = []string{inv.VPP.Path, "-c", conf}
	th, err := placeThreads(inv, cfg, list)
	errs := []error{err}
	ups, err := buildUplinks(inv, list, th)
	errs = append(errs, err, checkPlugins(inv, ups))
	memory, notes, err := planMemory(inv, cfg, ups, th)
	errs = append(errs, err)
	text, err := startupConf(p, confParts{inv: inv, cfg: cfg, memory: memory, threads: th, uplinks: ups, dpdk: dpdkSection(list, ups)})
	errs = append(errs, err, checkVPP(p, inv, cfg))
	p.Files = []Content{{Path: conf, Text: text}}
	prefix := segmentPrefix(cfg.RuntimeDir)
	p.Strays = []string{"/dev/shm/" + prefix + "-global_vm", "/dev/shm/" + prefix + "-vpe-api"}
	p.Threads, p.Memory = th.String(inv), memory.String()
	p.Notes = append(append(p.Notes, notes...), th.notes...)
	if !tapsWork(inv, ups) {
		p.Notes = append(p.Notes, fmt.Sprintf("%v: VPP cannot make taps here, pods get veth and af_packet (modprobe vhost_net brings taps)", inv.VhostNet))
	}
	p.own(inv, list, ups, memory.add)
	return errors.Join(errs...)
}

// own puts the uplinks and all changes of the host into the plan.
func (p *Plan) own(inv inventory.Node, list []taken, ups []Uplink, pages []Change) {
	p.Uplinks = ups
	p.Changes = changes(inv, list, ups, pages)
	for i, t := range list {
		p.Choices = append(p.Choices, Choice{Uplink: ups[i].Name, NIC: nameNIC(t.nic), Driver: t.choice, Others: t.others})
	}
	p.Notes = append(p.Notes, uplinkNotes(inv, list, ups)...)
}

// checkVPP finds what stops VPP: a CPU below what its packages are built for, workers
// without CPUs, paths its configuration cannot hold.
func checkVPP(p *Plan, inv inventory.Node, cfg nodeconfig.Config) error {
	var errs []error
	if inv.CPULevel == "x86-64-v1" {
		errs = append(errs, errors.New("the CPU has no SSE4.2, which VPP is built for: choose --dataplane engine"))
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
