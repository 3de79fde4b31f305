// Package explain owns the answer to "is this connection allowed, and why?", in three
// readings: that of the policies, that of the ACLs compiled from them, and that of the ACLs
// a dataplane has. Where they disagree, something is wrong, and it says so.
//
// It works on values: facts, States and counters that somebody else fetched. It never asks
// an API server or a machine.
package explain

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/millrace/millrace/agent/compile"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/policy"
	"github.com/millrace/millrace/policy/oracle"
	"github.com/millrace/millrace/policy/verdict"
)

// Cluster answers for a whole cluster: each pod's interface is judged by the ACLs that its
// own node has for it. It compiles a node when it is first asked for; it is not safe for
// concurrent use.
type Cluster struct {
	snapshot cluster.Snapshot
	world    oracle.World
	owners   map[netip.Addr]cluster.Pod // live pods with interfaces, by address
	nodes    map[string]verdict.Tables
	closed   []string         // policies that fail closed in a State that is used
	tooLarge map[string]error // policies that do not fit into a node's bounds, by their text
}

// NewCluster reads facts. Attachments in them are those of the node local, whose interfaces
// are as they say; on all other nodes each pod has one interface with the addresses of its
// status. local may be empty.
func NewCluster(s cluster.Snapshot, local string) *Cluster {
	c := &Cluster{snapshot: s, world: oracle.New(s), owners: map[netip.Addr]cluster.Pod{}, nodes: map[string]verdict.Tables{}, tooLarge: map[string]error{}}
	given := map[cluster.PodKey][]netip.Addr{}
	for _, a := range s.Attachments {
		given[a.Pod] = slices.AppendSeq(given[a.Pod], a.AllAddresses())
	}
	for key, p := range s.Pods {
		if !hasInterface(p) {
			continue
		}
		for _, a := range slices.Concat(p.Addresses, given[key]) {
			c.owners[a] = p
		}
	}
	if local == "" {
		c.snapshot.Attachments = nil
	}
	return c
}

func completed(p cluster.Pod) bool { return p.Phase == "Succeeded" || p.Phase == "Failed" }

func hasInterface(p cluster.Pod) bool { return !p.HostNetwork && !completed(p) }

// Compiled is the verdict of the ACLs compiled from the policies. The error is about facts
// that a node cannot have.
func (c *Cluster) Compiled(f oracle.Flow) (verdict.Verdict, error) {
	v := verdict.Verdict{Allowed: true, Input: verdict.Decision{Allowed: true, Rule: -1}, Output: verdict.Decision{Allowed: true, Rule: -1}}
	if f.From == f.To {
		return v, nil // it never leaves the pod
	}
	p := packet(f)
	if pod, ok := c.owners[f.From]; ok {
		t, err := c.tables(pod.Node)
		if err != nil {
			return v, err
		}
		v.Input = t.Judge(p).Input
	}
	if pod, ok := c.owners[f.To]; ok {
		t, err := c.tables(pod.Node)
		if err != nil {
			return v, err
		}
		v.Output = t.Judge(p).Output
	}
	v.Allowed = v.Input.Allowed && v.Output.Allowed
	return v, nil
}

// packet is the first one of a connection.
func packet(f oracle.Flow) verdict.Packet {
	p := verdict.Packet{Src: f.From, Dst: f.To, Protocol: f.Protocol, SrcPort: 32768, DstPort: f.Port}
	if f.Protocol == oracle.ICMP || f.Protocol == oracle.ICMPv6 {
		p.SrcPort, p.DstPort = uint16(f.Type), 0
	}
	return p
}

// tables are the ACLs of a node; the empty name is where pods without a node are.
func (c *Cluster) tables(node string) (verdict.Tables, error) {
	if t, ok := c.nodes[node]; ok {
		return t, nil
	}
	s := c.snapshot
	s.Nodes = maps.Clone(s.Nodes)
	if n, ok := s.Nodes[node]; ok {
		n.PodCIDRs = nil // a CNI of another kind may give pods the address that is a node's own here
		s.Nodes[node] = n
	}
	s = s.WithAttachments(s.Revision, c.attachments(node))
	r, err := compile.Compile(s, node, compile.Defaults())
	if err != nil {
		return verdict.Tables{}, err
	}
	for _, id := range slices.SortedFunc(maps.Keys(r.Problems), cluster.AttachmentID.Compare) {
		return verdict.Tables{}, fmt.Errorf("pod %s: %w", s.Attachments[id].Pod, r.Problems[id])
	}
	for _, p := range r.Policy.Problems {
		if p.Reason == policy.PolicyTooLarge {
			c.tooLarge[p.Object.String()] = fmt.Errorf("%s: it fails closed on node %q: %w", p.Object, node, p.Err)
		}
	}
	t := verdict.New(r.State)
	c.nodes[node] = t
	return t, nil
}

// attachments are those of a node's pods.
func (c *Cluster) attachments(node string) (list []cluster.Attachment) {
	has := map[cluster.PodKey]bool{}
	for _, a := range c.snapshot.Attachments {
		if c.snapshot.Pods[a.Pod].Node == node {
			list = append(list, a)
			has[a.Pod] = true
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(c.snapshot.Pods), cluster.PodKey.Compare) {
		if p := c.snapshot.Pods[key]; hasInterface(p) && p.Node == node && len(p.Addresses) > 0 && !has[key] {
			list = append(list, cluster.Attachment{
				ID: cluster.AttachmentID{ContainerID: key.Namespace + "." + key.Name, IfName: "eth0"}, Netns: "/var/run/netns/" + key.Namespace + "." + key.Name,
				Pod: key, PodUID: p.UID, Network: "millrace", Addresses: p.Addresses, Revision: uint64(len(list) + 1),
			})
		}
	}
	return list
}

// Broken says which policies fail closed: those that are wrong in themselves, and those
// that are too large for the nodes that were asked for.
func (c *Cluster) Broken() []error {
	list := c.world.Broken()
	for _, name := range slices.Sorted(maps.Keys(c.tooLarge)) {
		list = append(list, c.tooLarge[name])
	}
	return list
}

// Use has a node judged by a State that its agent made, rather than by one compiled here.
// closed are the policies that fail closed in it: they explain disagreements.
func (c *Cluster) Use(node string, want dataplane.State, closed []string) {
	c.nodes[node] = verdict.New(want)
	c.closed = closed
}
