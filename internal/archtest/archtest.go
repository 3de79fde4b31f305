// Package archtest owns the house's law: which package may import which, and how files
// and packages have to look. The law is a Go table; tests check the tree against it and
// the page docs/ARCHITECTURE.md against the table.
//
// It reads source text only; it never builds or runs what it reads.
package archtest

import (
	"fmt"
	"strings"
)

// Module is the module path that every package of ours begins with.
const Module = "github.com/millrace/millrace"

// Room is one row of the law: a package (with all below it that have no row of their
// own), what it owns, and what it may import of ours.
type Room struct {
	Path  string   // relative to the module, without a trailing slash
	Owns  string   // one phrase for the drawing
	May   []string // rooms it may import, besides its own subtree; "*" = any
	Pure  bool     // no network, files, log, context or clock
	Bans  []string // import paths (or their prefixes) that are forbidden here
	Why   string   // the reason for the bans or for being pure
	Owner string   // import path prefixes only this room (and rooms naming it in May) may use
}

// Law is the table, in the order a fact travels through the house.
func Law() []Room {
	return []Room{
		{Path: "cluster", Owns: "facts: one Snapshot of Kubernetes objects and CNI attachments", May: []string{"internal/textline", "internal/secret", "internal/memifspec"}, Pure: true,
			Why: "the output of a compile depends on its facts, never on the road to them"},
		{Path: "dataplane", Owns: "the wish: objects, State, Diff, Plan", May: []string{"internal/textline", "internal/secret"}, Pure: true,
			Why: "a plan is a value that can be printed, compared and replayed"},
		{Path: "policy", Owns: "Kubernetes policies to ACLs, and their oracle", May: []string{"cluster", "dataplane"}, Pure: true,
			Why: "same facts, same ACLs, whatever the path"},
		{Path: "service", Owns: "Kubernetes services to translations", May: []string{"cluster", "dataplane"}, Pure: true,
			Why: "same facts, same translations, whatever the path"},
		{Path: "agent/compile", Owns: "Snapshot and node name to State", May: []string{"cluster", "dataplane", "policy", "service", "internal/memifspec"}, Pure: true,
			Why: "same facts, same wish"},
		{Path: "agent/explain", Owns: "why a connection is allowed or not: policies, compiled ACLs and a dataplane's, compared", May: []string{"cluster", "dataplane", "policy", "agent/compile", "internal/strictjson"}, Pure: true,
			Why: "what is compared was fetched by somebody else, and prints the same anywhere"},
		{Path: "agent/watch", Owns: "facts from the API server or a directory, as Snapshots", May: []string{"cluster", "internal/secret"}, Owner: "k8s.io/client-go"},
		{Path: "agent/attach", Owns: "the server behind CNI, the journal of attachments, addresses", May: []string{"cluster", "cni", "internal/memifspec", "internal/secret", "internal/textline"}},
		{Path: "agent/program", Owns: "where dataplane meets VPP: observe, create, delete", May: []string{"dataplane", "vpp", "internal/secret", "internal/steer"}},
		{Path: "agent/hostnet", Owns: "what the node's own kernel translates and forwards for pods: an nftables table, settings", May: []string{"dataplane"}, Owner: "github.com/google/nftables"},
		{Path: "agent/nexthop", Owns: "neighbours on shared uplinks, as the kernel has them", May: []string{"dataplane"}},
		{Path: "agent/healthcheck", Owns: "the answers at services' healthCheckNodePorts", May: []string{"cluster", "service"}},
		{Path: "agent", Owns: "the loop; single writer of what is", May: []string{"cluster", "dataplane", "policy", "service", "vpp", "vpp/compat"}},
		{Path: "vpp", Owns: "the GoVPP connection: calls, dumps, events, stats, conformance"},
		{Path: "vpp/compat", Owns: "what each feature needs of a release of VPP, and what a machine lacks", May: []string{"vpp"}},
		{Path: "vpp/conformance", Owns: "one suite of API and packet behaviour for every machine", May: []string{"vpp", "engine", "memif", "internal/netnstest"}},
		{Path: "vppmanager/inventory", Owns: "the node as a value", May: []string{"internal/nodeconfig"}, Pure: true,
			Why: "a recorded node plans like a live one"},
		{Path: "vppmanager/startup", Owns: "inventory and configuration to a start plan", May: []string{"internal/nodeconfig", "vppmanager/inventory"}, Pure: true,
			Why: "a person reads the plan before anything is touched"},
		{Path: "vppmanager/change", Owns: "changes of the host, their journal, and their undoing", May: []string{"internal/nodeconfig", "vppmanager/startup"}},
		{Path: "vppmanager/uplink", Owns: "how the node hangs on the dataplane: uplinks and host links", May: []string{"agent/program", "dataplane", "internal/nodeconfig", "vpp", "vppmanager/inventory", "vppmanager/startup"}},
		{Path: "vppmanager", Owns: "the dataplane process: choice, start, watch, restart, end", May: []string{"internal/nodeconfig", "vpp", "vpp/compat", "vppmanager/change", "vppmanager/uplink", "vppmanager/startup"}},
		{Path: "engine", Owns: "the embedded engine: ports, workers, tables, API, stats", May: []string{"memif", "internal/steer"},
			Bans: []string{"k8s.io/"}, Why: "the engine is a machine; it knows no control plane"},
		{Path: "memif", Owns: "the memif protocol, usable outside this repository", Bans: []string{"go.fd.io/", "google.golang.org/", "k8s.io/", "github.com/", "golang.org/x/sync/"},
			Why: "standard library and x/sys/unix only"},
		{Path: "memif/examples", Owns: "small network functions to start from, each a program", May: []string{"memif"}},
		{Path: "cni", Owns: "the plugin's verbs, request and reply", May: []string{"internal/memifspec", "internal/strictjson"}, Bans: []string{"go.fd.io/"}, Why: "no VPP knowledge in the plugin"},
		{Path: "install", Owns: "the CNI plugin among a node's files, and the removal of all that a node has of us", May: []string{"cni"}},
		{Path: "benchmarks", Owns: "scenarios, the rig, reports, stored results", May: []string{"cni", "vpp", "memif", "engine", "cluster", "dataplane", "policy", "agent/program", "internal/policytest"}},
		{Path: "internal/nodeconfig", Owns: "the NodeConfig file, decoded strictly", Pure: true,
			Why: "bytes to a value; the pure start plan is made from it"},
		{Path: "internal/netnstest", Owns: "namespaces and leak checks for tests"},
		{Path: "internal/steer", Owns: "the XDP program by which a network card is shared, and its maps"},
		{Path: "internal/hoststate", Owns: "what a host is like, as text to compare, for tests"},
		{Path: "internal/machinetest", Owns: "dataplanes for tests: the engine, and VPP where there is one", May: []string{"engine", "vpp", "internal/netnstest"}},
		{Path: "internal/servicetest", Owns: "both ends of connections by services, for tests", May: []string{"internal/netnstest"}},
		{Path: "internal/flowtest", Owns: "numbered flows between namespaces, for tests", May: []string{"internal/netnstest"}},
		{Path: "internal/vmtest", Owns: "a virtual machine with NICs and an IOMMU, for tests", May: []string{"engine", "vpp", "internal/hoststate"}},
		{Path: "internal/kubetest", Owns: "a real Kubernetes API server for tests"},
		{Path: "internal/policytest", Owns: "random clusters and connections for tests of policies", May: []string{"cluster", "policy", "internal/memifspec"}},
		{Path: "internal/textline", Owns: "the line that printed facts, states and plans are made of", Pure: true,
			Why: "a text form depends on its value alone"},
		{Path: "internal/strictjson", Owns: "the strict taking apart of JSON that people write", Pure: true,
			Why: "bytes to values; what is wrong is named by who knows the fields"},
		{Path: "internal/memifspec", Owns: "the form in which pods ask for memif interfaces", May: []string{"internal/strictjson"}, Pure: true,
			Why: "text to a value; one form for annotation, network and request"},
		{Path: "internal/secret", Owns: "the text that prints as its digest only", Pure: true,
			Why: "a secret is a value; who reads or sends it is elsewhere"},
		{Path: "internal/archtest", Owns: "this law"},
		{Path: "cmd/millrace-cni", Owns: "the plugin binary", May: []string{"cni"}},
		{Path: "cmd/millrace", Owns: "flags to configuration, one verb a file", May: []string{"*"}},
		{Path: "deploy", Owns: "manifests, chart and image: tested here, no code"},
		{Path: "tools", Owns: "generators and linters, a module of their own", May: []string{"*"}},
		{Path: "e2e", Owns: "tests on a real Kubernetes, a module of their own", May: []string{"*"}},
	}
}

// pureBans are the imports that make a package impure. net/netip is fine.
func pureBans() []string {
	return []string{"net", "os", "os/", "log", "log/", "context", "syscall", "io/fs", "net/", "golang.org/x/sys/", "k8s.io/client-go"}
}

// pureAllowed are exceptions to pureBans: values, not I/O.
func pureAllowed() []string { return []string{"net/netip"} }

// RoomOf returns the most specific row that a package (relative path) lies in.
func RoomOf(law []Room, pkg string) (Room, error) {
	best := -1
	for i, r := range law {
		if within(pkg, r.Path) && (best < 0 || len(r.Path) > len(law[best].Path)) {
			best = i
		}
	}
	if best < 0 {
		return Room{}, fmt.Errorf("find room of %s: no row of the law covers it; add one with a reason, or move the package", pkg)
	}
	return law[best], nil
}

// Violation says why pkg may not import imp, or "" when it may. test marks an import
// made by a _test.go file: tests may use what they check the package against.
func Violation(law []Room, pkg, imp string, test bool) string {
	room, err := RoomOf(law, pkg)
	if err != nil {
		return err.Error()
	}
	if test {
		return ""
	}
	if rel, ours := strings.CutPrefix(imp, Module+"/"); ours {
		return oursViolation(law, room, pkg, rel)
	}
	if room.Pure && banned(imp, pureBans()) && !banned(imp, pureAllowed()) {
		return fmt.Sprintf("%s is pure and may not import %s: %s", pkg, imp, room.Why)
	}
	if banned(imp, room.Bans) {
		return fmt.Sprintf("%s may not import %s: %s", pkg, imp, room.Why)
	}
	for _, r := range law {
		if r.Owner != "" && r.Path != room.Path && banned(imp, []string{r.Owner}) {
			return fmt.Sprintf("%s may not import %s: only %s does", pkg, imp, r.Path)
		}
	}
	return ""
}

func oursViolation(law []Room, room Room, pkg, rel string) string {
	target, err := RoomOf(law, rel)
	if err != nil {
		return err.Error()
	}
	if target.Path == room.Path || within(target.Path, room.Path) {
		return ""
	}
	for _, may := range room.May {
		if may == "*" || within(rel, may) {
			return ""
		}
	}
	return fmt.Sprintf("%s (room %s) may not import %s: the law lets it import %s", pkg, room.Path, rel, orNone(room.May))
}

// Table renders the law as the markdown that docs/ARCHITECTURE.md holds.
func Table(law []Room) string {
	var b strings.Builder
	b.WriteString("| package | owns | may import of ours |\n|---|---|---|\n")
	for _, r := range law {
		owns := r.Owns
		if r.Pure {
			owns += ". Pure"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.Path, owns, orNone(r.May))
	}
	return b.String()
}

func orNone(may []string) string {
	switch {
	case len(may) == 0:
		return "nothing"
	case may[0] == "*":
		return "all"
	}
	return strings.Join(may, ", ")
}

// banned matches whole paths, and prefixes that end in a slash.
func banned(imp string, bans []string) bool {
	for _, b := range bans {
		if imp == b || strings.HasSuffix(b, "/") && strings.HasPrefix(imp, b) || strings.HasPrefix(imp, b+"/") && strings.Contains(b, ".") {
			return true
		}
	}
	return false
}

func within(pkg, room string) bool {
	return pkg == room || strings.HasPrefix(pkg, room+"/")
}
