package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	specversion "github.com/containernetworking/cni/pkg/version"
	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/agent/attach"
	"github.com/millrace/millrace/agent/attach/attachtest"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/cni"
)

// TestMain lets this test binary be the plugin: runtimes tell it by CNI_COMMAND.
func TestMain(m *testing.M) {
	if os.Getenv("CNI_COMMAND") != "" {
		os.Exit(run())
	}
	os.Exit(m.Run())
}

// node is a directory of plugins and an agent's server behind a socket.
type node struct {
	journal *attach.Journal
	loop    *attachtest.Loop
	pods    *attachtest.Pods
	plugins string
	socket  string
	runtime *libcni.CNIConfig
	known   map[cluster.PodKey]cluster.Pod // set before the first verb
}

func start(t *testing.T, ranges ...string) *node {
	t.Helper()
	dir := t.TempDir()
	n := &node{loop: &attachtest.Loop{}, plugins: dir, socket: filepath.Join(dir, "cni.sock")}
	if err := os.Symlink(os.Args[0], filepath.Join(dir, "millrace")); err != nil {
		t.Fatal(err)
	}
	n.runtime = libcni.NewCNIConfigWithCacheDir([]string{dir}, filepath.Join(dir, "cache"), executor())
	if len(ranges) > 0 {
		n.serve(t, ranges)
	}
	return n
}

// executor is libcni's own, set beforehand: it would set it on first use without a lock.
func executor() invoke.Exec {
	return &invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: os.Stderr}, PluginDecoder: specversion.PluginDecoder{}}
}

func (n *node) serve(t *testing.T, ranges []string) {
	t.Helper()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	if n.journal, err = attach.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	n.pods = &attachtest.Pods{Journal: n.journal, Boot: strings.TrimSpace(string(boot))}
	var prefixes []netip.Prefix
	for _, r := range ranges {
		prefixes = append(prefixes, netip.MustParsePrefix(r))
	}
	server, err := attach.New(attach.Config{
		Journal: n.journal, Loop: n.loop, PodSide: n.pods, Ranges: func() []netip.Prefix { return prefixes },
		MTU: 1500, Objects: attachtest.Objects(func() cluster.Snapshot { return cluster.Snapshot{Pods: n.known} }),
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := attach.Listen(n.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-served, n.journal.Close()); err != nil {
			t.Error(err)
		}
	})
}

// list is a network configuration list of a version, with the plugin alone in it.
func (n *node) list(t *testing.T, version string) *libcni.NetworkConfigList {
	t.Helper()
	list, err := libcni.NetworkConfFromBytes(fmt.Appendf(nil,
		`{"cniVersion": %q, "name": "pods", "plugins": [{"type": "millrace", "socket": %q, "dns": {"nameservers": ["10.0.0.10"]}}]}`, version, n.socket))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func pod(container string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID: container, NetNS: "/run/netns/" + container, IfName: "eth0",
		Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", container}, {"OTHER", "x"}},
	}
}

func (n *node) facts() (ids []string) {
	_, facts := n.journal.Facts()
	for _, a := range facts {
		ids = append(ids, a.ID.String())
	}
	return ids
}

// TestEveryVersion is a container's life as libcni leads it, in each version it speaks.
func TestEveryVersion(t *testing.T) {
	for _, v := range cni.Versions().SupportedVersions() {
		t.Run(v, func(t *testing.T) {
			n := start(t, "10.1.0.0/24", "fd00:1::/64")
			list := n.list(t, v)
			n.pods.Make("/run/netns/c1")
			result, err := n.runtime.AddNetworkList(t.Context(), list, pod("c1"))
			if err != nil {
				t.Fatal(err)
			}
			checkResult(t, result, v)
			if diff := cmp.Diff([]string{"c1/eth0"}, n.facts()); diff != "" {
				t.Error(diff)
			}
			if atLeast(t, v, "0.4.0") {
				if err := n.runtime.CheckNetworkList(t.Context(), list, pod("c1")); err != nil {
					t.Errorf("CHECK: %v", err)
				}
				n.pods.Spoil(func(l *attach.Link) { l.Routes = nil })
				if err := n.runtime.CheckNetworkList(t.Context(), list, pod("c1")); err == nil {
					t.Error("CHECK of a container without routes succeeded")
				}
				n.pods.Spoil(nil)
			}
			if atLeast(t, v, "1.1.0") {
				n.statusAndGC(t, list)
			}
			for range 2 {
				if err := n.runtime.DelNetworkList(t.Context(), list, pod("c1")); err != nil {
					t.Errorf("DEL: %v", err)
				}
			}
			if left := n.facts(); len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

func checkResult(t *testing.T, result types.Result, v string) {
	t.Helper()
	if result.Version() != v {
		t.Errorf("result of version %s, want %s", result.Version(), v)
	}
	got, err := types100.NewResultFromResult(result)
	if err != nil {
		t.Fatal(err)
	}
	var addresses []string
	for _, ip := range got.IPs {
		addresses = append(addresses, ip.Address.String())
	}
	if diff := cmp.Diff([]string{"10.1.0.2/32", "fd00:1::2/128"}, addresses); diff != "" {
		t.Error(diff)
	}
	if len(got.Routes) != 4 || len(got.DNS.Nameservers) != 1 {
		t.Errorf("routes %v, dns %v", got.Routes, got.DNS)
	}
	if atLeast(t, v, "0.3.0") && (len(got.Interfaces) != 1 || got.Interfaces[0].Sandbox != "/run/netns/c1") {
		t.Errorf("interfaces %v", got.Interfaces)
	}
}

func atLeast(t *testing.T, v, least string) bool {
	t.Helper()
	ok, err := specversion.GreaterThanOrEqualTo(v, least)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

// statusAndGC leaves c1, and removes another container that the runtime forgot.
func (n *node) statusAndGC(t *testing.T, list *libcni.NetworkConfigList) {
	t.Helper()
	if err := n.runtime.GetStatusNetworkList(t.Context(), list); err != nil {
		t.Errorf("STATUS: %v", err)
	}
	n.loop.Away(errors.New("API socket closed"))
	if err := n.runtime.GetStatusNetworkList(t.Context(), list); err == nil || !strings.Contains(err.Error(), "API socket closed") {
		t.Errorf("STATUS without a dataplane: %v", err)
	}
	n.loop.Away(nil)
	n.pods.Make("/run/netns/c2")
	forgetful := libcni.NewCNIConfigWithCacheDir([]string{n.plugins}, filepath.Join(n.plugins, "other-cache"), executor())
	if _, err := forgetful.AddNetworkList(t.Context(), list, pod("c2")); err != nil {
		t.Fatal(err)
	}
	valid := &libcni.GCArgs{ValidAttachments: []types.GCAttachment{{ContainerID: "c1", IfName: "eth0"}}}
	if err := n.runtime.GCNetworkList(t.Context(), list, valid); err != nil {
		t.Errorf("GC: %v", err)
	}
	if diff := cmp.Diff([]string{"c1/eth0"}, n.facts()); diff != "" {
		t.Error(diff)
	}
}

func TestFiftyPodsAtOnce(t *testing.T) {
	n := start(t, "10.1.0.0/24")
	list := n.list(t, "1.1.0")
	const pods = 50
	step := func(name string, f func(container string) error) {
		errs := make(chan error, pods)
		for i := range pods {
			go func() { errs <- f(fmt.Sprintf("c%d", i)) }()
		}
		for range pods {
			if err := <-errs; err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	step("ADD", func(container string) error {
		n.pods.Make("/run/netns/" + container)
		_, err := n.runtime.AddNetworkList(t.Context(), list, pod(container))
		return err
	})
	if got := n.facts(); len(got) != pods {
		t.Errorf("%d facts, want %d", len(got), pods)
	}
	step("DEL", func(container string) error { return n.runtime.DelNetworkList(t.Context(), list, pod(container)) })
	if got := n.facts(); len(got) != 0 {
		t.Errorf("left %v", got)
	}
}

// call is one run of the plugin without libcni's care for its input.
type call struct {
	verb   string
	config string // %s is the socket
	env    []string
}

func (n *node) command(c call) *exec.Cmd {
	cmd := exec.Command(filepath.Join(n.plugins, "millrace"))
	cmd.Env = append([]string{
		"CNI_COMMAND=" + c.verb, "CNI_CONTAINERID=c1", "CNI_NETNS=/run/netns/c1", "CNI_IFNAME=eth0", "CNI_PATH=" + n.plugins,
	}, c.env...)
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(c.config, "%s", n.socket))
	return cmd
}

// run returns what the plugin printed and the CNI error it exited with.
func (n *node) run(t *testing.T, c call) (stdout, stderr string, failure *types.Error) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := n.command(c)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err == nil {
		return out.String(), errs.String(), nil
	}
	failure = &types.Error{}
	if cmd.ProcessState.ExitCode() != 1 {
		t.Fatalf("%v: %s", err, errs.String())
	}
	if err := json.Unmarshal(out.Bytes(), failure); err != nil {
		t.Fatalf("the plugin failed without a CNI error: %q: %v", out.String(), err)
	}
	return out.String(), errs.String(), failure
}

const good = `{"cniVersion": "1.1.0", "name": "pods", "type": "millrace", "socket": "%s"}`

// with is the good configuration with one more field.
func with(field string) string { return strings.TrimSuffix(good, "}") + ", " + field + "}" }

func TestBadInput(t *testing.T) {
	n := start(t, "10.1.0.0/30")
	n.pods.Make("/run/netns/c1")
	tests := []struct {
		name string
		call call
		code uint
		word string
	}{
		{"malformed", call{verb: "ADD", config: `{"name": "pods",`}, types.ErrDecodingFailure, "unexpected end"},
		{"unknown field", call{verb: "ADD", config: with(`"bridge": "cni0"`)}, types.ErrInvalidNetworkConfig, "bridge: no such field"},
		{"unknown field on STATUS", call{verb: "STATUS", config: with(`"dns": {"x": 1}`)}, types.ErrInvalidNetworkConfig, "dns.x: no such field"},
		{"wrong version", call{verb: "ADD", config: strings.Replace(good, "1.1.0", "9.9.9", 1)}, types.ErrIncompatibleCNIVersion, "9.9.9"},
		{"CHECK in a version without it", call{verb: "CHECK", config: strings.Replace(good, "1.1.0", "0.3.1", 1)}, types.ErrIncompatibleCNIVersion, "CHECK"},
		{"GC in a version without it", call{verb: "GC", config: strings.Replace(good, "1.1.0", "1.0.0", 1)}, types.ErrIncompatibleCNIVersion, "GC"},
		{"no container", call{"ADD", good, []string{"CNI_CONTAINERID="}}, types.ErrInvalidEnvironmentVariables, "CNI_CONTAINERID"},
		{"bad container", call{"ADD", good, []string{"CNI_CONTAINERID=../x"}}, types.ErrInvalidEnvironmentVariables, "../x"},
		{"no namespace", call{"ADD", good, []string{"CNI_NETNS="}}, types.ErrInvalidEnvironmentVariables, "CNI_NETNS"},
		{"missing namespace", call{"ADD", good, []string{"CNI_NETNS=/run/netns/none"}}, types.ErrInvalidNetNS, "/run/netns/none"},
		{"long interface", call{"ADD", good, []string{"CNI_IFNAME=abcdefghijklmnop"}}, types.ErrInvalidEnvironmentVariables, "too long"},
		{"unknown args", call{"ADD", good, []string{"CNI_ARGS=FOO=bar"}}, types.ErrInvalidEnvironmentVariables, "FOO=bar"},
		{"unknown verb", call{verb: "FROB", config: good}, types.ErrInvalidEnvironmentVariables, "FROB"},
		{"prevResult on ADD", call{verb: "ADD", config: with(`"prevResult": {}`)}, types.ErrUnsupportedField, "first of the list"},
		{"CHECK without prevResult", call{verb: "CHECK", config: good}, types.ErrInvalidNetworkConfig, "prevResult: is missing"},
		{"CHECK before ADD", call{verb: "CHECK", config: with(`"prevResult": {"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/run/netns/c1"}],
			"ips": [{"interface": 0, "address": "10.1.0.2/32"}]}`)}, types.ErrUnknownContainer, "c1/eth0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, failure := n.run(t, tt.call)
			if failure == nil || failure.Code != tt.code || !strings.Contains(failure.Error(), tt.word) {
				t.Errorf("got %+v, want code %d and %q", failure, tt.code, tt.word)
			}
		})
	}
	if left := n.facts(); len(left) > 0 {
		t.Fatalf("bad input left %v", left)
	}
}

// TestRefusedForState: the agent refuses what contradicts what is attached already, and
// removes even for a configuration that has gone bad since.
func TestRefusedForState(t *testing.T) {
	n := start(t, "10.1.0.0/30")
	n.pods.Make("/run/netns/c1")
	n.pods.Make("/run/netns/c2")
	if _, _, failure := n.run(t, call{verb: "ADD", config: good}); failure != nil {
		t.Fatal(failure)
	}
	for _, tt := range []struct {
		name string
		env  string
		code uint
		word string
	}{
		{"a second ADD for the same container", "CNI_NETNS=/run/netns/c2", cni.CodeConflict, "lives in /run/netns/c1 already"},
		{"an exhausted range", "CNI_CONTAINERID=c2", cni.CodeExhausted, "10.1.0.0/30 (1 of 1 in use)"},
	} {
		_, _, failure := n.run(t, call{"ADD", good, []string{tt.env}})
		if failure == nil || failure.Code != tt.code || !strings.Contains(failure.Msg, tt.word) {
			t.Errorf("%s: %+v, want code %d and %q", tt.name, failure, tt.code, tt.word)
		}
	}
	// Removal overlooks what went wrong with the configuration since; an empty namespace is
	// how a runtime repeats a DEL.
	for _, env := range []string{"CNI_NETNS=/run/netns/c1", "CNI_NETNS="} {
		if _, _, failure := n.run(t, call{"DEL", with(`"mtuu": 1, "prevResult": 7`), []string{env}}); failure != nil {
			t.Errorf("DEL with a bad configuration and %s: %v", env, failure)
		}
	}
	if left := n.facts(); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestWithoutAnAgent(t *testing.T) {
	n := start(t)
	out, _, failure := n.run(t, call{verb: "VERSION"})
	if failure != nil || !strings.Contains(out, `"1.1.0"`) || !strings.Contains(out, `"0.1.0"`) {
		t.Errorf("VERSION printed %s, %v", out, failure)
	}
	prev := `, "prevResult": {"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/run/netns/c1"}], "ips": [{"interface": 0, "address": "10.1.0.2/32"}]}}`
	for verb, code := range map[string]uint{
		"ADD": types.ErrTryAgainLater, "DEL": types.ErrTryAgainLater, "GC": types.ErrTryAgainLater, "STATUS": types.ErrPluginNotAvailable, "CHECK": types.ErrTryAgainLater,
	} {
		config := good
		if verb == "CHECK" {
			config = strings.TrimSuffix(good, "}") + prev
		}
		_, _, failure := n.run(t, call{verb: verb, config: config})
		if failure == nil || failure.Code != code || !strings.Contains(failure.Error(), "millrace agent") || !strings.Contains(failure.Error(), n.socket) {
			t.Errorf("%s: %+v, want code %d naming the agent and %s", verb, failure, code, n.socket)
		}
	}
}

// TestGivingUp: whether the plugin's time is over or the runtime ends it, the agent takes
// back what the ADD stored.
func TestGivingUp(t *testing.T) {
	n := start(t, "10.1.0.0/30")
	n.pods.Make("/run/netns/c1")
	if _, _, failure := n.run(t, call{verb: "STATUS", config: good}); failure != nil {
		t.Fatal(failure)
	}
	config := strings.TrimSuffix(good, "}") + `, "timeout": "1s", "logLevel": "debug"}`
	n.loop.Hold()
	_, stderr, failure := n.run(t, call{verb: "ADD", config: config})
	if failure == nil || failure.Code != types.ErrTryAgainLater {
		t.Errorf("got %+v, want to try again later", failure)
	}
	if !strings.HasPrefix(stderr, "millrace-cni: ADD c1/eth0 in ") {
		t.Errorf("standard error %q, want the verb's line", stderr)
	}
	n.loop.Release()
	if _, _, failure := n.run(t, call{verb: "DEL", config: good}); failure != nil || len(n.facts()) > 0 {
		t.Errorf("DEL: %v; left %v", failure, n.facts())
	}

	n.loop.Hold()
	var out bytes.Buffer
	cmd := n.command(call{verb: "ADD", config: good})
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := n.loop.AwaitWaiters(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(out.String(), `"code": 11`) {
		t.Errorf("ended by a signal: %v, %s", err, out.String())
	}
	n.loop.Release()
	if _, _, failure := n.run(t, call{verb: "DEL", config: good}); failure != nil || len(n.facts()) > 0 {
		t.Errorf("DEL: %v; left %v", failure, n.facts())
	}
}
