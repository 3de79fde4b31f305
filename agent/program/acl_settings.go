package program

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.fd.io/govpp/binapi/acl"
	"go.fd.io/govpp/binapi/vpe"

	"github.com/millrace/millrace/vpp"
)

// ErrUnguarded says that the machine has no ACLs. Nothing that has to be bound to some
// goes up on it.
var ErrUnguarded = errors.New("the dataplane has no ACLs, and without them no pod is connected: load acl_plugin.so")

// settings of the acl plugin that its API does not reach.
var aclSettings = [...]string{
	// Live flows are judged again, each at its next packet, when the lists they passed
	// change. Else those that an ACL forbids anew live on, and each change of a list ends
	// all flows of its interface, also those that it permits.
	"set acl-plugin reclassify-sessions 1",
	// The table holds 500,000 sessions; with VPP's 600 s a few hundred DNS queries per
	// second fill it.
	"set acl-plugin session timeout udp idle 60",
}

// prepareACLs finds out whether the machine has ACLs, and sets them up as ours need them.
func (p *Program) prepareACLs(ctx context.Context) error {
	if p.unguarded = p.missingACLs(); p.unguarded != nil {
		return nil
	}
	for _, command := range aclSettings {
		if text, err := p.conn.CLI(ctx, command); err != nil {
			return fmt.Errorf("%s: %w %s", command, err, strings.TrimSpace(text))
		}
	}
	if err := p.learnAnswers(ctx); err != nil {
		return err
	}
	return p.countMatches(ctx)
}

// missingACLs is why the machine has no ACLs, or nil.
func (p *Program) missingACLs() error {
	missing := p.conn.Supports(&acl.ACLAddReplace{}, &acl.ACLDel{}, &acl.ACLDump{}, &acl.ACLInterfaceSetACLList{}, &acl.ACLInterfaceListDump{})
	if len(missing) > 0 {
		return fmt.Errorf("%w (it lacks %s)", ErrUnguarded, strings.Join(missing, ", "))
	}
	return nil
}

// countMatches has the machine count what each rule matches. VPP 25.10 answers with the
// reply of another message, acl_del; the one that should come says as little.
func (p *Program) countMatches(ctx context.Context) error {
	enable := &acl.ACLStatsIntfCountersEnable{Enable: true}
	if len(p.conn.Supports(enable)) > 0 {
		return nil // only counters are missing
	}
	for reply, err := range vpp.Dump[acl.ACLDelReply](ctx, p.conn, enable) {
		if err != nil {
			return err
		}
		if reply.Retval != 0 {
			return fmt.Errorf("acl_stats_intf_counters_enable: retval %d", reply.Retval)
		}
	}
	return nil
}

// SeesSCTPPorts says whether the machine's ACLs see ports of SCTP. Our engine's do; those of
// VPP 25.10 do not (acl_fill_5tuple_l4_and_pkt_data in src/plugins/acl/public_inlines.h),
// and of a machine that is not known it is not believed.
func (p *Program) SeesSCTPPorts(ctx context.Context) (bool, error) {
	v, err := vpp.Call[vpe.ShowVersionReply](ctx, p.conn, &vpe.ShowVersion{})
	if err != nil {
		return false, fmt.Errorf("ask the dataplane who it is: %w", err)
	}
	return v.Program == "millrace", nil
}
