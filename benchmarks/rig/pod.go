package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	specversion "github.com/containernetworking/cni/pkg/version"
)

// Pod is a network namespace that a CNI plugin has given an interface.
type Pod struct {
	Name      string
	Namespace *Namespace
	Addresses []netip.Addr
	Result    *types100.Result
}

// Addr returns the pod's first address of a family.
func (p *Pod) Addr(v6 bool) (netip.Addr, error) {
	for _, a := range p.Addresses {
		if a.Is6() == v6 {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("find address of pod %s: none of IPv6=%t among %v", p.Name, v6, p.Addresses)
}

// Wiring speaks CNI for a subject: libcni and a real plugin binary, run inside the
// node's namespace as a container runtime would.
type Wiring struct {
	launcher *Launcher
	node     *Namespace
	cni      *libcni.CNIConfig
	list     *libcni.NetworkConfigList
	dirs     []string
}

// Plugin is the path of the plugin's binary.
func (w *Wiring) Plugin() string {
	return filepath.Join(w.dirs[0], w.list.Plugins[0].Network.Type)
}

// NewWiring reads a network configuration list; plugins are looked for in dirs, and
// libcni's result cache goes to cacheDir.
func NewWiring(l *Launcher, node *Namespace, conf []byte, cacheDir string, dirs ...string) (*Wiring, error) {
	if len(dirs) == 0 {
		return nil, errors.New("wire pods: no directory to look for plugins in")
	}
	list, err := libcni.NetworkConfFromBytes(conf)
	if err != nil {
		return nil, fmt.Errorf("read CNI configuration: %w", err)
	}
	// libcni's own executor, set beforehand: libcni would set it on first use without a
	// lock, and ADDs run side by side.
	executor := &invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: os.Stderr}, PluginDecoder: specversion.PluginDecoder{}}
	return &Wiring{launcher: l, node: node, list: list, dirs: dirs, cni: libcni.NewCNIConfigWithCacheDir(dirs, cacheDir, executor)}, nil
}

// Add runs CNI ADD for a pod that has a namespace already.
func (w *Wiring) Add(ctx context.Context, pod *Pod) error {
	err := w.onNode(func() error {
		result, err := w.cni.AddNetworkList(ctx, w.list, w.runtimeConf(pod))
		if err != nil {
			return err
		}
		pod.Result, err = types100.NewResultFromResult(result)
		return err
	})
	if err != nil {
		return fmt.Errorf("add pod %s: %w", pod.Name, err)
	}
	pod.Addresses = pod.Addresses[:0]
	for _, ip := range pod.Result.IPs {
		a, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			return fmt.Errorf("add pod %s: result has address %v", pod.Name, ip.Address)
		}
		pod.Addresses = append(pod.Addresses, a.Unmap())
	}
	return nil
}

// Check runs CNI CHECK.
func (w *Wiring) Check(ctx context.Context, pod *Pod) error {
	return w.onNode(func() error { return w.cni.CheckNetworkList(ctx, w.list, w.runtimeConf(pod)) })
}

// Del runs CNI DEL.
func (w *Wiring) Del(ctx context.Context, pod *Pod) error {
	err := w.onNode(func() error { return w.cni.DelNetworkList(ctx, w.list, w.runtimeConf(pod)) })
	if err != nil {
		return fmt.Errorf("delete pod %s: %w", pod.Name, err)
	}
	return nil
}

// Status runs CNI STATUS.
func (w *Wiring) Status(ctx context.Context) error {
	return w.onNode(func() error { return w.cni.GetStatusNetworkList(ctx, w.list) })
}

func (w *Wiring) runtimeConf(pod *Pod) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID: "rig-" + pod.Name,
		NetNS:       pod.Namespace.Path,
		IfName:      "eth0",
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", "rig"},
			{"K8S_POD_NAME", pod.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", "rig-" + pod.Name},
		},
	}
}

// onNode runs fn on a thread of its own inside the node's namespace: plugins inherit
// it, and ADDs of several pods run side by side, which the launcher's thread would not.
func (w *Wiring) onNode(fn func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := inside(w.node, fn)
		if err == nil || !errors.Is(err, errStuck) {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return <-result
}

// confList renders a network configuration list with one plugin.
func confList(name string, plugin map[string]any) ([]byte, error) {
	return json.Marshal(map[string]any{"cniVersion": "1.1.0", "name": name, "plugins": []any{plugin}})
}
