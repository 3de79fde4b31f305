package rig

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/benchmarks"
)

// Kernel is the path Linux itself offers: veth pairs on a bridge, made by the
// reference CNI plugins (bridge with host-local), in a node namespace of its own.
type Kernel struct {
	PluginDir string         // where bridge and host-local are
	Home      *Namespace     // the node's, which its maker closes; nil: a new one
	Subnets   []netip.Prefix // of pods; nil: one of each family
	MTU       int            // of pods; 0: the bridge's

	node   *Namespace
	wiring *Wiring
}

// Check says what the subject lacks, before anything is started.
func (k *Kernel) Check() error {
	for _, name := range []string{"bridge", "host-local"} {
		if _, err := os.Stat(filepath.Join(k.PluginDir, name)); err != nil {
			return fmt.Errorf("find CNI reference plugin (`make reference` builds it): %w", err)
		}
	}
	return nil
}

// Start makes the node. dir is scratch space, removed by the rig's owner.
func (k *Kernel) Start(_ context.Context, l *Launcher, dir string) error {
	if err := k.Check(); err != nil {
		return fmt.Errorf("start kernel subject: %w", err)
	}
	if k.node = k.Home; k.node == nil {
		var err error
		if k.node, err = l.NewNamespace(); err != nil {
			return fmt.Errorf("start kernel subject: %w", err)
		}
	}
	if k.Subnets == nil {
		k.Subnets = []netip.Prefix{netip.MustParsePrefix("10.245.0.0/23"), netip.MustParsePrefix("fd00:245::/112")}
	}
	var ranges [][]map[string]string
	for _, p := range k.Subnets {
		ranges = append(ranges, []map[string]string{{"subnet": p.String()}})
	}
	ipam := map[string]any{"type": "host-local", "dataDir": filepath.Join(dir, "ipam"), "ranges": ranges}
	if k.Home != nil { // pods have to find out of their bridge
		ipam["routes"] = []map[string]string{{"dst": "0.0.0.0/0"}}
	}
	conf, err := confList("rig-kernel", map[string]any{"type": "bridge", "bridge": "cni0", "isGateway": true, "mtu": k.MTU, "ipam": ipam})
	if err != nil {
		return err
	}
	k.wiring, err = NewWiring(l, k.node, conf, filepath.Join(dir, "cache"), k.PluginDir)
	return err
}

// Describe says what the subject is.
func (k *Kernel) Describe(context.Context) (benchmarks.Subject, error) {
	m, err := benchmarks.ThisMachine()
	return benchmarks.Subject{Name: "kernel", Version: "Linux " + m.Kernel, Detail: "veth + bridge, CNI plugins bridge and host-local"}, err
}

// Node is the node's namespace.
func (k *Kernel) Node() *Namespace { return k.node }

// Wiring speaks CNI for this subject.
func (k *Kernel) Wiring() *Wiring { return k.wiring }

// Memory is empty: the kernel's path has no process of its own.
func (k *Kernel) Memory() (map[string]int64, error) { return nil, nil }

// Stop gives the node's namespace up; the bridge goes with it.
func (k *Kernel) Stop() error {
	if k.node == nil || k.Home != nil {
		return nil
	}
	return k.node.Close()
}
