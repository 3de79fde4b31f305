package host

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// listRules lists the rules of a family with their actions, which the library leaves out:
// they are read beside it, until both readings agree.
func listRules(h *netlink.Handle, family int) ([]netlink.Rule, error) {
	const tries = 20
	for range tries {
		list, err := whole(func() ([]netlink.Rule, error) { return h.RuleList(family) })
		if err != nil {
			return nil, err
		}
		actions, err := ruleActions(family)
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if join(list, actions) {
			return list, nil
		}
	}
	return nil, errors.New("they keep changing")
}

// rulePart is the action of the rule of a priority (FR_ACT_… in linux/fib_rules.h).
type rulePart struct {
	priority uint32
	action   uint8
}

func join(list []netlink.Rule, actions []rulePart) bool {
	if len(list) != len(actions) {
		return false
	}
	for i, a := range actions {
		if uint32(list[i].Priority) != a.priority {
			return false
		}
		list[i].Type = a.action
	}
	return true
}

// ruleActions dumps struct fib_rule_hdr, whose last byte of the first eight is the action.
func ruleActions(family int) ([]rulePart, error) {
	const header, action = 12, 7
	req := nl.NewNetlinkRequest(unix.RTM_GETRULE, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(family))
	messages, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWRULE)
	if err != nil {
		return nil, err
	}
	var out []rulePart
	for _, m := range messages {
		if len(m) < header {
			return nil, fmt.Errorf("a rule of %d bytes", len(m))
		}
		attrs, err := nl.ParseRouteAttr(m[header:])
		if err != nil {
			return nil, err
		}
		r := rulePart{action: m[action]}
		for _, a := range attrs {
			if a.Attr.Type == nl.FRA_PRIORITY && len(a.Value) == 4 {
				r.priority = binary.NativeEndian.Uint32(a.Value)
			}
		}
		out = append(out, r)
	}
	return out, nil
}
