package host

import (
	"errors"
	"io/fs"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// kubeconfigs are where the usual installers leave the kubelet's (kubeadm, kubelet's own
// default, k3s, RKE2).
var kubeconfigs = []string{
	"/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/kubeconfig",
	"/var/lib/rancher/k3s/agent/kubelet.kubeconfig", "/var/lib/rancher/rke2/agent/kubelet.kubeconfig",
}

// apiServers reads which API servers this node's kubelet talks to. A name is looked up in
// /etc/hosts only: an inspection asks nobody on the network.
func (r *reading) apiServers() {
	for _, file := range kubeconfigs {
		data, err := r.read(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			r.note(err)
			continue
		}
		for _, name := range serverNames(data) {
			if addr, err := netip.ParseAddr(name); err == nil {
				r.inv.APIServers = append(r.inv.APIServers, addr.Unmap())
				continue
			}
			r.inv.APIServers = append(r.inv.APIServers, r.hosts(name)...)
		}
	}
	slices.SortFunc(r.inv.APIServers, netip.Addr.Compare)
	r.inv.APIServers = slices.Compact(r.inv.APIServers)
}

// serverNames are the hosts of all clusters in a kubeconfig; none when it is no such file.
func serverNames(kubeconfig []byte) []string {
	var config struct {
		Clusters []struct {
			Cluster struct {
				Server string `json:"server"`
			} `json:"cluster"`
		} `json:"clusters"`
	}
	if err := yaml.Unmarshal(kubeconfig, &config); err != nil {
		return nil
	}
	var names []string
	for _, c := range config.Clusters {
		if u, err := url.Parse(c.Cluster.Server); err == nil && u.Hostname() != "" {
			names = append(names, u.Hostname())
		}
	}
	return names
}

// hosts looks a name up in /etc/hosts.
func (r *reading) hosts(name string) []netip.Addr {
	data, err := r.read("/etc/hosts")
	if err != nil {
		return nil // a node without one knows its names from elsewhere
	}
	var list []netip.Addr
	for line := range strings.Lines(string(data)) {
		code, _, _ := strings.Cut(line, "#")
		words := strings.Fields(code)
		if len(words) < 2 || !slices.Contains(words[1:], name) {
			continue
		}
		if addr, err := netip.ParseAddr(words[0]); err == nil {
			list = append(list, addr.Unmap())
		}
	}
	return list
}
