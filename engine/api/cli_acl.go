package api

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.fd.io/govpp/api"

	"github.com/millrace/millrace/engine/acl"
	sessions "github.com/millrace/millrace/engine/session"
	"github.com/millrace/millrace/engine/vnet"
)

// The commands of VPP's acl plugin, as far as they mean something here. VPP takes what it
// does not know in silence; a user is better served by an error.

func (s *Server) aclCommands() []command {
	return []command{
		{"clear acl-plugin sessions", "clear acl-plugin sessions", s.clearACLSessions},
		{"set acl-plugin", "set acl-plugin session timeout {{udp idle}|tcp {idle|transient}} <seconds>", s.setACLPlugin},
		{"set acl-plugin interface", "set acl-plugin interface <interface> <input|output> <acl INDEX> [del]", s.setACLInterface},
		{"delete acl-plugin acl", "delete acl-plugin acl index <idx>", s.deleteACL},
		{"show acl-plugin acl", "show acl-plugin acl [index N]", s.showACL},
		{"show acl-plugin interface", "show acl-plugin interface [sw_if_index N] [acl]", s.showACLInterface},
		{"show acl-plugin sessions", "show acl-plugin sessions", s.showACLSessions},
		{"show acl-plugin tables", "show acl-plugin tables", s.showACLTables},
	}
}

func (s *Server) clearACLSessions([]string) (string, error) { return "", s.plane.ClearSessions() }

// setACLPlugin sets one of the plugin's settings.
func (s *Server) setACLPlugin(args []string) (string, error) {
	if len(args) < 2 {
		return "", unknownInput(args)
	}
	last := len(args) - 1
	n, err := strconv.ParseUint(args[last], 10, 32)
	if err != nil {
		return "", cliError(fmt.Sprintf("expecting a number, got `%s'", args[last]))
	}
	value := uint32(n)
	switch strings.Join(args[:last], " ") {
	case "session timeout udp idle":
		return "", s.plane.SetSessionTimeout(sessions.UDPIdle, value)
	case "session timeout tcp idle":
		return "", s.plane.SetSessionTimeout(sessions.TCPIdle, value)
	case "session timeout tcp transient":
		return "", s.plane.SetSessionTimeout(sessions.TCPTransient, value)
	case "session table max-entries":
		return "", told(s.plane.SetMaxSessions(value))
	case "session table hash-table-buckets":
		return "", nil // the table's size follows from max-entries
	case "reclassify-sessions":
		return "", s.plane.SetReclassify(value != 0)
	case "use-hash-acl-matching":
		s.settings.setLinear(value == 0)
		return "", nil
	case "l4-match-nonfirst-fragment":
		if value == 0 {
			return "", cliError("later fragments always match by their addresses and protocol")
		}
		return "", nil
	}
	return "", unknownInput(args)
}

// told is an error as a line for the user.
func told(err error) error {
	if err == nil {
		return nil
	}
	return cliError(err.Error())
}

func (s *Server) setACLInterface(args []string) (string, error) {
	name, isInput, isAdd, list := "", true, true, uint64(vnet.NoIndex)
	for i := 0; i < len(args); i++ {
		var err error
		switch args[i] {
		case "add", "del":
			isAdd = args[i] == "add"
		case "input", "output":
			isInput = args[i] == "input"
		case "acl":
			if i++; i == len(args) {
				return "", cliError("invalid acl")
			}
			if list, err = strconv.ParseUint(args[i], 10, 32); err != nil {
				return "", cliError("invalid acl")
			}
		default:
			name = args[i]
		}
	}
	i, err := s.interfaceNamed(name)
	switch {
	case err != nil:
		return "", cliError("invalid interface")
	case uint32(list) == vnet.NoIndex:
		return "", cliError("invalid acl")
	case isAdd:
		return "", told(s.plane.AddACL(i.Index, isInput, uint32(list)))
	}
	return "", told(s.plane.RemoveACL(i.Index, isInput, uint32(list)))
}

// numberAfter reads "<word> N" where it stands alone; NoIndex without any input.
func numberAfter(word string, args []string) (uint32, error) {
	if len(args) == 0 {
		return vnet.NoIndex, nil
	}
	if len(args) != 2 || args[0] != word {
		return 0, unknownInput(args)
	}
	n, err := strconv.ParseUint(args[1], 10, 32)
	if err != nil {
		return 0, unknownInput(args)
	}
	return uint32(n), nil
}

func (s *Server) deleteACL(args []string) (string, error) {
	index, err := numberAfter("index", args)
	if err != nil {
		return "", err
	}
	if err := s.plane.DeleteACL(index); err != nil {
		if errors.Is(err, api.NO_SUCH_ENTRY) {
			return "", cliError(fmt.Sprintf("no acl has the index %d", index))
		}
		return "", cliError(fmt.Sprintf("acl %d is on an interface", index))
	}
	return fmt.Sprintf("Deleted ACL index:%d", index), nil
}

func (s *Server) showACL(args []string) (string, error) {
	index, err := numberAfter("index", args)
	if err != nil {
		return "", err
	}
	on := slices.Collect(s.plane.ACLLists())
	var out strings.Builder
	for l := range s.plane.ACLs() {
		if index != vnet.NoIndex && index != l.Index {
			continue
		}
		writeACL(&out, &l)
		fmt.Fprintf(&out, "  applied inbound on sw_if_index: %s\n", users(on, l.Index, true))
		fmt.Fprintf(&out, "  applied outbound on sw_if_index: %s\n", users(on, l.Index, false))
	}
	return out.String(), nil
}

func writeACL(out *strings.Builder, l *vnet.ACL) {
	fmt.Fprintf(out, "acl-index %d count %d tag {%s}\n", l.Index, len(l.Rules), l.Tag)
	for i := range l.Rules {
		fmt.Fprintf(out, "  %9d: %s\n", i, ruleText(&l.Rules[i]))
	}
}

// ruleText is a rule as VPP prints it.
func ruleText(r *acl.Rule) string {
	family := "ipv4"
	if r.Src.Addr().Is6() {
		family = "ipv6"
	}
	action := r.Action.String()
	if r.Action > acl.PermitReflect {
		action = fmt.Sprintf("action %d", r.Action)
	}
	text := fmt.Sprintf("%s %s src %v dst %v proto %d sport %s dport %s", family, action, r.Src, r.Dst, r.Protocol,
		portsText(r.SrcPorts), portsText(r.DstPorts))
	if r.TCPMask|r.TCPValue != 0 {
		text += fmt.Sprintf(" tcpflags %d mask %d", r.TCPValue, r.TCPMask)
	}
	return text
}

func portsText(p acl.Ports) string {
	if p.First == p.Last {
		return strconv.Itoa(int(p.First))
	}
	return fmt.Sprintf("%d-%d", p.First, p.Last)
}

// users lists the interfaces that have a list in a direction.
func users(all []vnet.ACLLists, list uint32, isInput bool) string {
	var out []string
	for _, l := range all {
		if isInput && slices.Contains(l.Input, list) || !isInput && slices.Contains(l.Output, list) {
			out = append(out, strconv.Itoa(int(l.Interface)))
		}
	}
	return strings.Join(out, ", ")
}

func (s *Server) showACLInterface(args []string) (string, error) {
	detail := len(args) > 0 && args[len(args)-1] == "acl"
	if detail {
		args = args[:len(args)-1]
	}
	index, err := numberAfter("sw_if_index", args)
	if err != nil {
		return "", err
	}
	lists := map[uint32]vnet.ACL{}
	for l := range s.plane.ACLs() {
		lists[l.Index] = l
	}
	var out strings.Builder
	for l := range s.plane.ACLLists() {
		if index != vnet.NoIndex && index != l.Interface {
			continue
		}
		fmt.Fprintf(&out, "sw_if_index %d:\n", l.Interface)
		for _, d := range []struct {
			name string
			acls []uint32
		}{{"input", l.Input}, {"output", l.Output}} {
			if len(d.acls) == 0 {
				continue
			}
			fmt.Fprintf(&out, "  %s acl(s): %s\n", d.name, numbersText(d.acls))
			for _, n := range d.acls {
				if l, ok := lists[n]; ok && detail {
					writeACL(&out, &l)
				}
			}
		}
	}
	return out.String(), nil
}

func numbersText(list []uint32) string {
	text := make([]string, len(list))
	for i, n := range list {
		text[i] = strconv.Itoa(int(n))
	}
	return strings.Join(text, ", ")
}

// showACLSessions has VPP's sums, which monitors read, and what else the engine knows of.
// Sessions belong to no thread here.
func (s *Server) showACLSessions(args []string) (string, error) {
	if len(args) > 0 {
		return "", unknownInput(args)
	}
	st := s.plane.Sessions()
	dead := st.Adds - st.Dels - min(st.Live, st.Adds-st.Dels)
	var out strings.Builder
	fmt.Fprintf(&out, "Sessions total: add %d - del %d = %d\n", st.Adds, st.Dels, st.Adds-st.Dels)
	fmt.Fprintf(&out, "Sessions active: add %d - deact %d = %d\n", st.Adds, st.Dels+dead, st.Adds-st.Dels-dead)
	fmt.Fprintf(&out, "Sessions being purged: deact %d - del %d = %d\n", st.Dels+dead, st.Dels, dead)
	fmt.Fprintf(&out, "  connection add/del stats:\n")
	for _, i := range st.Interfaces {
		fmt.Fprintf(&out, "    sw_if_index %d: add %d - del %d = %d; epoch chg: %d\n", i.Interface, i.Adds, i.Dels, i.Adds-i.Dels, i.Judged)
	}
	fmt.Fprintf(&out, "Sessions at most: %d\n", st.Max)
	fmt.Fprintf(&out, "Session timeouts: udp idle %d tcp idle %d tcp transient %d\n",
		st.Timeouts[sessions.UDPIdle], st.Timeouts[sessions.TCPIdle], st.Timeouts[sessions.TCPTransient])
	reclassify := 0
	if st.Reclassify {
		reclassify = 1
	}
	fmt.Fprintf(&out, "Reclassify sessions: %d\n", reclassify)
	return out.String(), nil
}

func (s *Server) showACLTables([]string) (string, error) {
	count, hash := 0, 1
	if s.plane.Sessions().CountRules {
		count = 1
	}
	if s.settings.isLinear() {
		hash = 0
	}
	return fmt.Sprintf("Stats counters enabled for interface ACLs: %d\nUse hash-based lookup for ACLs: %d\n", count, hash), nil
}
