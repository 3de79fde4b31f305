package host

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/vppmanager/inventory"
)

// managers finds who configures each link, by what they keep in /run and by the processes
// there are, and whether an address of it is leased.
func (r *reading) managers() {
	ifupdown := r.ifupdown()
	for i := range r.inv.NICs {
		n := &r.inv.NICs[i]
		if n.Name == "" {
			continue
		}
		var by []string
		by = append(by, r.networkd(n)...)
		by = append(by, r.networkManager(n)...)
		if slices.Contains(ifupdown, n.Name) {
			by = append(by, "ifupdown")
		}
		by = append(by, r.clients(n)...)
		if len(by) == 0 && n.Kind == "" && n.Up {
			by = r.general()
		}
		n.ManagedBy = strings.Join(by, ", ")
		n.DHCP = n.DHCP || leased(*n)
	}
}

// leased says whether the kernel's own data shows a lease: a route by DHCP, or an IPv4
// address that ends some day.
func leased(n inventory.NIC) bool {
	return slices.ContainsFunc(n.Routes, func(r inventory.Route) bool { return r.Protocol == "dhcp" }) ||
		slices.ContainsFunc(n.Addresses, func(a inventory.Address) bool {
			return a.Prefix.Addr().Is4() && !a.Permanent && a.ValidFor > 0
		})
}

// ofHost is where a file of the machine's own lies: a container that sees the machine's
// processes reaches it through the first of them.
func (r *reading) ofHost(file string) string {
	if through := "/proc/1/root" + file; r.exists(through) {
		return through
	}
	return file
}

// networkd reads what systemd-networkd keeps of a link.
func (r *reading) networkd(n *inventory.NIC) []string {
	state, err := r.settings(r.ofHost("/run/systemd/netif/links/" + strconv.Itoa(n.Index)))
	r.note(err)
	if state["NETWORK_FILE"] == "" && !slices.Contains([]string{"configuring", "configured", "failed"}, state["ADMIN_STATE"]) {
		return nil
	}
	r.lease(n, "/run/systemd/netif/leases/"+strconv.Itoa(n.Index))
	return []string{r.running("systemd-networkd", "systemd-network")}
}

// networkManager reads what NetworkManager keeps of a link.
func (r *reading) networkManager(n *inventory.NIC) []string {
	state, err := r.settings(r.ofHost("/run/NetworkManager/devices/" + strconv.Itoa(n.Index)))
	r.note(err)
	if state["managed"] != "true" && state["managed"] != "1" {
		return nil
	}
	if uuid := state["connection-uuid"]; uuid != "" && path.Base(uuid) == uuid {
		r.lease(n, "/var/lib/NetworkManager/internal-"+uuid+"-"+n.Name+".lease")
	}
	return []string{r.running("NetworkManager", "NetworkManager")}
}

// lease notes a file with a lease, if it is there.
func (r *reading) lease(n *inventory.NIC, file string) {
	if r.exists(r.ofHost(file)) {
		n.DHCP, n.Lease = true, file
	}
}

// running adds to a manager's name that it does not run, where all processes can be seen.
func (r *reading) running(name, comm string) string {
	if r.seesHost && !slices.ContainsFunc(r.processes, func(p process) bool { return p.name == comm }) {
		return name + " (not running)"
	}
	return name
}

// settings reads KEY=value lines; a missing file has none.
func (r *reading) settings(file string) (map[string]string, error) {
	if !r.exists(file) {
		return nil, nil
	}
	data, err := r.read(file)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), "="); found {
			out[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return out, nil
}

// ifupdown names the links that Debian's ifup has up.
func (r *reading) ifupdown() []string {
	state, err := r.settings(r.ofHost("/run/network/ifstate"))
	r.note(err)
	var names []string
	for name := range state {
		names = append(names, name)
	}
	return names
}

// leaseFiles are where each client keeps the lease of a link, with %s for its name.
func leaseFiles(client string) []string {
	return map[string][]string{
		"dhclient": {"/var/lib/dhcp/dhclient.%s.leases", "/var/lib/dhclient/dhclient-%s.leases", "/var/lib/dhclient/dhclient--%s.lease"},
		"dhcpcd":   {"/var/lib/dhcpcd/%s.lease", "/var/lib/dhcpcd5/dhcpcd-%s.lease", "/var/lib/dhcpcd/dhcpcd-%s.lease"},
		"udhcpc":   {"/var/lib/udhcpc/%s.lease"},
	}[client]
}

// clients are the DHCP clients of a link: those that name it in their arguments, and those
// that name no link but hold a lease of it, or run where the kernel's data shows one.
func (r *reading) clients(n *inventory.NIC) []string {
	var by []string
	for _, p := range r.processes {
		files := leaseFiles(p.name)
		if files == nil {
			continue
		}
		held := ""
		for _, f := range files {
			if f = fmt.Sprintf(f, n.Name); r.exists(r.ofHost(f)) {
				held = f
			}
		}
		named := r.named(p)
		if slices.Contains(named, n.Name) || len(named) == 0 && (held != "" || leased(*n)) {
			n.DHCP, n.Lease = true, held
			by = append(by, fmt.Sprintf("%s (pid %d)", p.name, p.pid))
		}
	}
	return by
}

// named are the links in a process's arguments. A client may have written over them as one
// text.
func (r *reading) named(p process) []string {
	var names []string
	for _, word := range strings.Fields(strings.Join(p.args, " ")) {
		if slices.ContainsFunc(r.inv.NICs, func(n inventory.NIC) bool { return n.Name != "" && n.Name == word }) {
			names = append(names, word)
		}
	}
	return names
}

// general are managers of all links that run here and do not say which are theirs.
func (r *reading) general() []string {
	var by []string
	for _, p := range r.processes {
		if slices.Contains([]string{"connmand", "wickedd", "netifd"}, p.name) {
			by = append(by, fmt.Sprintf("%s (pid %d) runs", p.name, p.pid))
		}
	}
	return by
}
