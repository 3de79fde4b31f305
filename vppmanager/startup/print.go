package startup

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
)

// String prints the plan for a person to read before it is carried out: what runs, what
// the uplinks become and why, what is changed on the host in which order, and the files.
func (p Plan) String() string {
	var b strings.Builder
	line := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s %s\n", what, fmt.Sprintf(format, args...))
	}
	line("dataplane", "%s: %s", p.Dataplane, p.Reason)
	line("command", "%s", strings.Join(p.Command, " "))
	line("runtime", "%s", p.RuntimeDir)
	for _, s := range p.Sockets.Paths() {
		line("socket", "%s", s)
	}
	if p.Threads != "" {
		line("threads", "%s", p.Threads)
	}
	if p.Memory != "" {
		line("memory", "%s", p.Memory)
	}
	for l := range strings.Lines(facts(p.Facts)) {
		line("fact", "%s", strings.TrimSuffix(l, "\n"))
	}
	for i, u := range p.Uplinks {
		for j, l := range uplinkLines(u, p.Choices[i]) {
			line([]string{"uplink", ""}[min(j, 1)], "%s", l)
		}
	}
	for i, c := range p.Changes {
		line("change", "%d. %v", i+1, c)
	}
	for _, n := range p.Notes {
		line("note", "%s", n)
	}
	for _, f := range p.Files {
		line("file", "%s", f.Path)
		for l := range strings.Lines(f.Text) {
			fmt.Fprintf(&b, "           | %s", l)
		}
	}
	return b.String()
}

// JSON is the plan for programs.
func (p Plan) JSON() ([]byte, error) {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode plan: %w", err)
	}
	return append(text, '\n'), nil
}

// uplinkLines describe one uplink, the first line by itself the most important.
func uplinkLines(u Uplink, c Choice) []string {
	lines := []string{fmt.Sprintf("%s is %s by %s: %s", u.Name, c.NIC, u.Driver, c.Driver.Why)}
	if u.Share {
		lines[0] = fmt.Sprintf("%s shares %s with the kernel by %s: %s", u.Name, c.NIC, u.Driver, c.Driver.Why)
	}
	if u.Bond != nil {
		lines = append(lines, fmt.Sprintf("  bond %s of", u.Bond.Mode))
		for _, m := range u.Members {
			lines = append(lines, fmt.Sprintf("  %s %s, %s", m.Name, m.PCI, rings(m)))
		}
	} else {
		where := u.PCI
		if u.Link != "" {
			where = "on the link " + u.Link
		}
		lines = append(lines, "  "+strings.TrimPrefix(where+", "+rings(u), ", "))
	}
	if u.Share {
		return append(lines, "  the host goes on over "+u.Link+" itself")
	}
	lines = append(lines, "  "+hostLine(u.Host, u.MTU, u.Addresses, len(u.Routes)))
	for _, v := range u.VLANs {
		lines = append(lines, fmt.Sprintf("  VLAN %d: %s", v.ID, hostLine(v.Host, v.MTU, v.Addresses, len(v.Routes))))
	}
	for _, o := range c.Others {
		verb := "not"
		if o.Works {
			verb = "later"
		}
		lines = append(lines, fmt.Sprintf("  %s %s: %s", verb, o.Driver, o.Why))
	}
	return lines
}

func rings(u Uplink) string {
	side := func(what string, queues, ring int) string {
		text := fmt.Sprintf("%d %s", queues, what)
		if ring > 0 {
			text += fmt.Sprintf(" of %d", ring)
		}
		return text
	}
	text := "queues: " + side("rx", u.RxQueues, u.RxRing) + ", " + side("tx", u.TxQueues, u.TxRing)
	if len(u.Workers) > 0 {
		text += ", by the workers " + ranges(u.Workers)
	}
	return text
}

func hostLine(host string, mtu int, addresses []netip.Prefix, routes int) string {
	if host == "" {
		return "the host has no link here"
	}
	var list []string
	for _, a := range addresses {
		list = append(list, a.String())
	}
	if len(list) == 0 {
		list = []string{"no addresses"}
	}
	return fmt.Sprintf("the host goes on over %s: %s, %d routes, MTU %d", host, strings.Join(list, ", "), routes, mtu)
}
