package host

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/vppmanager/inventory"
)

// connection is an established TCP connection to an SSH server here.
type connection struct {
	local, remote netip.AddrPort
	seen          bool // its owner was seen; else it only has sshd's usual port
}

// sessions puts each SSH session onto the links it runs through: the one with the local
// address, the one by which answers leave, and what lies under either.
func (r *reading) sessions() {
	for _, c := range r.connections() {
		if r.owns(c.remote.Addr()) { // the machine talks to itself
			continue
		}
		links := map[string]bool{}
		for _, n := range r.inv.NICs {
			if has(n, c.local.Addr()) {
				links[n.Name] = true
			}
		}
		if r.Kernel != nil {
			index, err := r.Kernel.Way(c.local.Addr(), c.remote.Addr())
			r.note(err)
			for _, n := range r.inv.NICs {
				if index != 0 && n.Index == index {
					links[n.Name] = true
				}
			}
		}
		text := c.remote.String()
		if !c.seen {
			text += " (owner not seen)"
		}
		for name := range r.under(links) {
			for i := range r.inv.NICs {
				if n := &r.inv.NICs[i]; n.Name == name && name != "" {
					n.Sessions = append(n.Sessions, text)
				}
			}
		}
	}
	for i := range r.inv.NICs {
		r.inv.NICs[i].Sessions = sorted(r.inv.NICs[i].Sessions)
	}
}

func has(n inventory.NIC, addr netip.Addr) bool {
	return slices.ContainsFunc(n.Addresses, func(a inventory.Address) bool { return a.Prefix.Addr() == addr })
}

func (r *reading) owns(addr netip.Addr) bool {
	return slices.ContainsFunc(r.inv.NICs, func(n inventory.NIC) bool { return has(n, addr) })
}

// under adds what lies under the links: parents of VLANs, members of bonds and bridges.
func (r *reading) under(links map[string]bool) map[string]bool {
	for range r.inv.NICs { // a chain of links is no longer than their number
		for _, n := range r.inv.NICs {
			if links[n.Name] && n.VLAN != nil {
				links[n.VLAN.Parent] = true
			}
			if n.Master != "" && links[n.Master] {
				links[n.Name] = true
			}
		}
	}
	return links
}

// connections are those of SSH servers, and those to port 22 whose owner cannot be seen:
// to cut one off is the worse mistake.
func (r *reading) connections() []connection {
	owned := map[string]bool{}
	for _, p := range r.processes {
		for _, f := range p.files {
			if inode, ok := strings.CutPrefix(f, "socket:["); ok {
				owned[strings.TrimSuffix(inode, "]")] = true
			}
		}
	}
	var out []connection
	for _, file := range []string{"tcp", "tcp6"} {
		list, err := r.established("/proc/thread-self/net/"+file, owned)
		r.note(err)
		out = append(out, list...)
	}
	return out
}

// established reads one of the kernel's tables of TCP sockets, of which each line is:
//
//	sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode ...
func (r *reading) established(file string, sshd map[string]bool) ([]connection, error) {
	const established, sshPort = "01", 22
	data, err := r.read(file)
	if errors.Is(err, fs.ErrNotExist) { // no IPv6
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []connection
	for number, line := range slices.Collect(strings.Lines(string(data))) {
		f := strings.Fields(line)
		if number == 0 {
			if !slices.Contains(f, "local_address") {
				return nil, fmt.Errorf("read %s: it does not begin as the kernel's table of TCP sockets does", file)
			}
			continue
		}
		if len(f) < 10 {
			return nil, fmt.Errorf("read %s: line %d has %d fields", file, number+1, len(f))
		}
		if f[3] != established {
			continue
		}
		local, err := r.endpoint(f[1])
		remote, err2 := r.endpoint(f[2])
		if err := errors.Join(err, err2); err != nil {
			return nil, fmt.Errorf("read %s: line %d: %w", file, number+1, err)
		}
		if local.Addr().IsLoopback() || !sshd[f[9]] && (local.Port() != sshPort || r.seesAll) {
			continue
		}
		out = append(out, connection{local: local, remote: remote, seen: sshd[f[9]]})
	}
	return out, nil
}

// endpoint reads 0100007F:0016: the address as words of 32 bits in the machine's own byte
// order, and the port.
func (r *reading) endpoint(text string) (netip.AddrPort, error) {
	address, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(address)
	if err != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, fmt.Errorf("%.60q is no address", text)
	}
	p, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%.60q has no port", text)
	}
	if !slices.Contains([]string{"s390x", "ppc64", "mips", "mips64"}, r.Arch) {
		for i := 0; i < len(raw); i += 4 {
			binary.BigEndian.PutUint32(raw[i:], binary.LittleEndian.Uint32(raw[i:]))
		}
	}
	addr, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr.Unmap(), uint16(p)), nil
}
