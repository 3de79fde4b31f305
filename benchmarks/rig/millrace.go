package rig

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/vpp"
)

// Millrace is the product itself: the manager with its dataplane and the agent as
// processes in a node namespace, pods wired by the real plugin binary.
type Millrace struct {
	Binary    string // the millrace binary
	PluginDir string // where millrace-cni is
	Dataplane string // "engine" or "vpp"
	VPPBin    string // for "vpp"
	PodCIDRs  []netip.Prefix
	NodeAddrs []netip.Addr
	ExtraArgs []string // for the manager
	MemifPods []string // names of pods that get a memif, memif0 in ip mode

	Name   string     // of the node in the facts, "" is rig
	Home   *Namespace // the node's, with its network card, which its maker closes; nil: a new one, the addresses on its loopback
	Config string     // text of the NodeConfig, "" is none
	Facts  string     // Kubernetes objects as YAML, "" is the node's

	launcher *Launcher
	node     *Namespace
	wiring   *Wiring
	dir      string
	manager  *Process
	agent    *Process
}

// DefaultPodCIDRs and DefaultNodeAddrs are what a rig uses unless told otherwise.
func DefaultPodCIDRs() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.244.0.0/23"), netip.MustParsePrefix("fd00:244::/112")}
}

// DefaultNodeAddrs are the node's own addresses.
func DefaultNodeAddrs() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")}
}

// Start boots manager, dataplane and agent, and waits until CNI STATUS is ready.
func (m *Millrace) Start(ctx context.Context, l *Launcher, dir string) error {
	if m.PodCIDRs == nil {
		m.PodCIDRs, m.NodeAddrs = DefaultPodCIDRs(), DefaultNodeAddrs()
	}
	m.launcher, m.dir = l, dir
	if m.Name == "" {
		m.Name = "rig"
	}
	if m.node = m.Home; m.node == nil {
		var err error
		if m.node, err = l.NewNamespace(); err != nil {
			return fmt.Errorf("start %s: %w", m.Dataplane, err)
		}
		if err := m.addressNode(ctx); err != nil {
			return err
		}
	}
	if m.Facts == "" {
		m.Facts = m.nodeFacts()
	}
	if err := errors.Join(m.write(m.Facts, "facts", "node.yaml"), m.write(m.Config, "node.yaml")); err != nil {
		return err
	}
	if err := m.StartManager(ctx); err != nil {
		return err
	}
	return m.StartAgent(ctx)
}

// addressNode gives the node its addresses, on the loopback: a node without an uplink.
func (m *Millrace) addressNode(ctx context.Context) error {
	for _, a := range m.NodeAddrs {
		p := netip.PrefixFrom(a, a.BitLen())
		cmd := Command("ip", "addr", "add", p.String(), "dev", "lo", "nodad")
		if _, err := m.launcher.Run(ctx, m.node, cmd); err != nil {
			return fmt.Errorf("address node: %w", err)
		}
	}
	return nil
}

// nodeFacts are the objects of a node that stands alone.
func (m *Millrace) nodeFacts() string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: v1\nkind: Node\nmetadata:\n  name: %s\nspec:\n  podCIDRs:\n", m.Name)
	for _, p := range m.PodCIDRs {
		fmt.Fprintf(&b, "  - %q\n", p)
	}
	b.WriteString("status:\n  addresses:\n")
	for _, a := range m.NodeAddrs {
		fmt.Fprintf(&b, "  - {type: InternalIP, address: %q}\n", a)
	}
	for _, name := range m.MemifPods {
		fmt.Fprintf(&b, memifPod, name)
	}
	return b.String()
}

// write writes a file of the node's scratch space.
func (m *Millrace) write(text string, elem ...string) error {
	path := m.path(elem...)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write file of node: %w", err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write file of node: %w", err)
	}
	return nil
}

// configured adds the node's configuration to a process's arguments.
func (m *Millrace) configured(args ...string) []string {
	if m.Config != "" {
		args = append(args, "--config", m.path("node.yaml"))
	}
	return args
}

// StartManager starts the manager and waits until the dataplane's API answers.
func (m *Millrace) StartManager(ctx context.Context) error {
	args := m.configured("manager", "--dataplane", m.Dataplane, "--runtime-dir", m.path("vpp"), "--state-dir", m.path("state"),
		"--api-socket", m.APISocket(), "--stats-socket", m.path("vpp", "stats.sock"))
	if m.VPPBin != "" {
		args = append(args, "--vpp-bin", m.VPPBin)
	}
	var err error
	m.manager, err = m.launcher.StartProcess(m.node, "manager", Command(m.Binary, append(args, m.ExtraArgs...)...))
	if err != nil {
		return err
	}
	return m.manager.Await(ctx, m.answers)
}

// StartAgent starts the agent and waits until CNI STATUS says ready.
func (m *Millrace) StartAgent(ctx context.Context) error {
	var err error
	args := m.configured("agent", "--node-name", m.Name, "--api-socket", m.APISocket(), "--cni-socket", m.path("cni.sock"),
		"--state-dir", m.path("state"), "--facts", m.path("facts"))
	m.agent, err = m.launcher.StartProcess(m.node, "agent", Command(m.Binary, args...))
	if err != nil {
		return err
	}
	if m.wiring == nil {
		conf, err := confList("rig-"+m.Dataplane, map[string]any{"type": "millrace-cni", "socket": m.path("cni.sock")})
		if err != nil {
			return err
		}
		if m.wiring, err = NewWiring(m.launcher, m.node, conf, m.path("cache"), m.PluginDir); err != nil {
			return err
		}
	}
	return m.agent.Await(ctx, m.wiring.Status)
}

// answers asks the dataplane for a sign of life.
func (m *Millrace) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := m.CLI(ctx, "show version")
	return err
}

// CLI runs a dataplane command by the binary API and returns its text.
func (m *Millrace) CLI(ctx context.Context, command string) (string, error) {
	conn, err := vpp.Dial(ctx, vpp.Config{Socket: m.APISocket()})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.CLI(ctx, command)
}

// Describe says what the subject is, in the dataplane's own words.
func (m *Millrace) Describe(ctx context.Context) (benchmarks.Subject, error) {
	version, err := m.CLI(ctx, "show version")
	if err != nil {
		return benchmarks.Subject{}, fmt.Errorf("describe %s: %w", m.Dataplane, err)
	}
	interfaces, err := m.CLI(ctx, "show interface")
	if err != nil {
		return benchmarks.Subject{}, fmt.Errorf("describe %s: %w", m.Dataplane, err)
	}
	detail := "TUN with GSO, CNI plugin millrace-cni"
	if strings.Contains(interfaces, "host-") {
		detail = "veth + af_packet with GSO, CNI plugin millrace-cni"
	}
	return benchmarks.Subject{Name: m.Dataplane, Version: strings.TrimSpace(version), Detail: detail}, nil
}

// APISocket is the dataplane's binary API socket.
func (m *Millrace) APISocket() string { return m.path("vpp", "api.sock") }

// Node is the node's namespace.
func (m *Millrace) Node() *Namespace { return m.node }

// Wiring speaks CNI for this subject.
func (m *Millrace) Wiring() *Wiring { return m.wiring }

// Manager is the manager's process, for tests that crash it.
func (m *Millrace) Manager() *Process { return m.manager }

// Agent is the agent's process.
func (m *Millrace) Agent() *Process { return m.agent }

// DataplanePID is the process id of the engine or of VPP: the manager's child.
func (m *Millrace) DataplanePID() (int, error) {
	pid := m.manager.PID()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err == nil && len(strings.Fields(string(data))) == 0 {
		data, err = childrenOfThreads(pid)
	}
	if err != nil {
		return 0, fmt.Errorf("find dataplane process: %w", err)
	}
	fields := strings.Fields(string(data))
	if len(fields) != 1 {
		return 0, fmt.Errorf("find dataplane process: manager %d has children %v, want one", pid, fields)
	}
	return strconv.Atoi(fields[0])
}

// childrenOfThreads joins the children of all threads of a process: a Go program forks
// from whichever thread it happens to be on.
func childrenOfThreads(pid int) ([]byte, error) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	var all []byte
	for _, list := range lists {
		data, err := os.ReadFile(list)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // threads come and go
			return nil, err
		}
		all = append(append(all, data...), ' ')
	}
	return all, nil
}

// Memory is the resident memory in bytes of the processes dataplane, agent and manager.
func (m *Millrace) Memory() (map[string]int64, error) {
	dataplane, err := m.DataplanePID()
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for name, pid := range map[string]int{"dataplane": dataplane, "agent": m.agent.PID(), "manager": m.manager.PID()} {
		if out[name], err = residentBytes(pid); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Stop ends agent, dataplane and manager in that order and gives the node up.
func (m *Millrace) Stop() error {
	var errs []error
	for _, p := range []*Process{m.agent, m.manager} {
		if p != nil {
			errs = append(errs, p.Stop(10*time.Second))
		}
	}
	if m.node != nil && m.Home == nil {
		errs = append(errs, m.node.Close())
	}
	return errors.Join(errs...)
}

func (m *Millrace) path(elem ...string) string {
	return filepath.Join(append([]string{m.dir}, elem...)...)
}

// residentBytes reads a process's resident set from /proc.
func residentBytes(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, fmt.Errorf("read resident memory: %w", err)
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0, fmt.Errorf("read resident memory: /proc/%d/statm is %q", pid, data)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read resident memory: %w", err)
	}
	return pages * int64(os.Getpagesize()), nil
}
