package rig

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"go.fd.io/govpp/binapi/acl"
	"go.fd.io/govpp/binapi/acl_types"

	"github.com/millrace/millrace/vpp"
)

// Guard is the ACLs of a router's way through, by their indexes: of what comes in by its
// first memif and of what goes out by its last.
type Guard struct{ Input, Output []uint32 }

// WriteACL gives the router an ACL that no interface uses yet.
func (r *Router) WriteACL(ctx context.Context, tag string, rules []acl_types.ACLRule) (index uint32, err error) {
	reply, err := vpp.Call[acl.ACLAddReplaceReply](ctx, r.conn, &acl.ACLAddReplace{ACLIndex: ^uint32(0), Tag: tag, R: rules})
	if err != nil {
		return 0, fmt.Errorf("write acl %s: %w", tag, err)
	}
	return reply.ACLIndex, nil
}

// Bind puts ACLs on the router's way through, in place of those that are there.
func (r *Router) Bind(ctx context.Context, g Guard) error {
	first, last := 0, len(r.arms)-1
	calls := make([]vpp.Exchange, len(r.arms))
	for i, a := range r.arms {
		var in, out []uint32
		if i == first {
			in = g.Input
		}
		if i == last {
			out = g.Output
		}
		all := append(append([]uint32{}, in...), out...)
		calls[i] = vpp.Exchange{Reply: &acl.ACLInterfaceSetACLListReply{}, Request: &acl.ACLInterfaceSetACLList{
			SwIfIndex: a.index, Count: uint8(len(all)), NInput: uint8(len(in)), Acls: all,
		}}
	}
	if err := r.batch(ctx, calls); err != nil {
		return fmt.Errorf("bind acls: %w", err)
	}
	return nil
}

const (
	sessionsPatience = 20 * time.Second
	udpIdle          = 60 // seconds, as the agent has it
)

// ForgetSessions ends all sessions of UDP and waits until they are gone. The router runs.
// They are made to time out: "clear acl-plugin sessions" of VPP 25.10 ends a hundred of them.
func (r *Router) ForgetSessions(ctx context.Context) (err error) {
	if err := r.setIdle(ctx, 0); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.setIdle(context.WithoutCancel(ctx), udpIdle)) }()
	if _, err := r.CLI(ctx, "clear acl-plugin sessions"); err != nil { // which also begins at once
		return err
	}
	for deadline := time.Now().Add(sessionsPatience); ; {
		n, err := r.Sessions(ctx)
		if err != nil || n == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("end sessions of %s: %d are left after %s", r.About.Name, n, sessionsPatience)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (r *Router) setIdle(ctx context.Context, seconds int) error {
	_, err := r.CLI(ctx, fmt.Sprintf("set acl-plugin session timeout udp idle %d", seconds))
	return err
}

// Sessions is how many sessions of ACLs there are, one for each interface and flow.
func (r *Router) Sessions(ctx context.Context) (int, error) {
	text, err := r.CLI(ctx, "show acl-plugin sessions")
	if err != nil {
		return 0, err
	}
	return sessionsOf(text)
}

var sessionsLine = regexp.MustCompile(`(?m)^Sessions total: add \d+ - del \d+ = (\d+)`)

func sessionsOf(text string) (int, error) {
	m := sessionsLine.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("read sessions: no total in %q", text)
	}
	return strconv.Atoi(m[1])
}
