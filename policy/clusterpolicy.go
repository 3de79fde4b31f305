package policy

import (
	"errors"
	"fmt"

	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"k8s.io/apimachinery/pkg/labels"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
)

// clusterPolicy is a ClusterNetworkPolicy, read and checked. It is never changed.
type clusterPolicy struct {
	id       uint64 // never used twice
	object   Object
	baseline bool // of that tier; else Admin
	priority int32
	subject  podSelector
	rules    [2][]*rule // by Direction, in order
	err      error      // what is wrong with it; rules are closed by then
}

// readClusterPolicy checks all of a policy. A broken rule is closed as the API says: one
// that accepts matches nothing, any other denies everything. Where the subject is broken,
// it is every pod, and then, or where the tier is not known, everything is denied in the
// directions that have rules.
func readClusterPolicy(p cluster.ClusterPolicy) *clusterPolicy {
	c := &clusterPolicy{object: Object{Kind: KindClusterNetworkPolicy, Name: p.Name, UID: p.UID}, priority: p.Spec.Priority}
	var errs []error
	subject, subjectErr := readSubject(p.Spec.Subject)
	errs = append(errs, subjectErr)
	c.subject = subject
	var tierErr error
	switch p.Spec.Tier {
	case policyv1alpha2.AdminTier:
	case policyv1alpha2.BaselineTier:
		c.baseline = true
	default:
		tierErr = fmt.Errorf("spec.tier: %q is none; want Admin or Baseline", p.Spec.Tier)
	}
	errs = append(errs, tierErr)
	for d, rules := range [...][]clusterRule{Ingress: ingressRules(p.Spec), Egress: egressRules(p.Spec)} {
		for i, r := range rules {
			read, err := r.read(Direction(d), i)
			errs = append(errs, err)
			if read != nil {
				c.rules[d] = append(c.rules[d], read)
			}
		}
		if len(rules) > 0 && (subjectErr != nil || tierErr != nil) {
			c.rules[d] = []*rule{closed(Direction(d), -1, "")}
		}
	}
	c.err = errors.Join(errs...)
	return c
}

func readSubject(s policyv1alpha2.ClusterNetworkPolicySubject) (podSelector, error) {
	var who podSelector
	var err error
	switch {
	case (s.Namespaces == nil) == (s.Pods == nil):
		err = errors.New("spec.subject: want either namespaces or pods")
	case s.Namespaces != nil:
		if who, err = podsOf("", s.Namespaces, nil); err != nil {
			err = fmt.Errorf("spec.subject.namespaces: %w", err)
		}
	default:
		if who, err = podsOf("", &s.Pods.NamespaceSelector, &s.Pods.PodSelector); err != nil {
			err = fmt.Errorf("spec.subject.pods.%w", err)
		}
	}
	if err != nil {
		return podSelector{namespaces: labels.Everything(), pods: labels.Everything()}, err
	}
	return who, nil
}

// clusterRule is a rule of either direction; peers of ingress have fewer fields.
type clusterRule struct {
	path, peersField string
	name             string
	action           policyv1alpha2.ClusterNetworkPolicyRuleAction
	peers            []policyv1alpha2.ClusterNetworkPolicyEgressPeer
	protocols        []policyv1alpha2.ClusterNetworkPolicyProtocol
}

func ingressRules(spec policyv1alpha2.ClusterNetworkPolicySpec) (list []clusterRule) {
	for i, r := range spec.Ingress {
		c := clusterRule{path: fmt.Sprintf("spec.ingress[%d]", i), peersField: "from", name: r.Name, action: r.Action, protocols: r.Protocols}
		for _, p := range r.From {
			c.peers = append(c.peers, policyv1alpha2.ClusterNetworkPolicyEgressPeer{Namespaces: p.Namespaces, Pods: p.Pods})
		}
		list = append(list, c)
	}
	return list
}

func egressRules(spec policyv1alpha2.ClusterNetworkPolicySpec) (list []clusterRule) {
	for i, r := range spec.Egress {
		list = append(list, clusterRule{fmt.Sprintf("spec.egress[%d]", i), "to", r.Name, r.Action, r.To, r.Protocols})
	}
	return list
}

// read returns the rule, nil if it matches nothing, and what is wrong with it.
func (c clusterRule) read(d Direction, index int) (*rule, error) {
	r := &rule{direction: d, index: index, name: c.name}
	read := ruleReader{}
	switch c.action {
	case policyv1alpha2.ClusterNetworkPolicyRuleActionAccept:
		r.action = accept
	case policyv1alpha2.ClusterNetworkPolicyRuleActionDeny:
		r.action = deny
	case policyv1alpha2.ClusterNetworkPolicyRuleActionPass:
		r.action = pass
	default:
		read.fail("%s.action: %q is none; want Accept, Deny or Pass", c.path, c.action)
	}
	if len(c.peers) == 0 {
		read.fail("%s.%s: it has no peers", c.path, c.peersField)
	}
	nameless := false
	for i, p := range c.peers {
		read.clusterPeer(r, fmt.Sprintf("%s.%s[%d]", c.path, c.peersField, i), p)
		nameless = nameless || p.Nodes != nil || len(p.Networks) > 0 || len(p.DomainNames) > 0
	}
	if len(c.protocols) == 0 {
		r.spans = everything()
	}
	for i, p := range c.protocols {
		path := fmt.Sprintf("%s.protocols[%d]", c.path, i)
		read.clusterProtocol(r, path, p)
		if p.DestinationNamedPort != "" && nameless {
			read.fail("%s.destinationNamedPort: it stands beside peers that have no named ports", path)
		}
	}
	if err := errors.Join(read.errs...); err != nil {
		if c.action == policyv1alpha2.ClusterNetworkPolicyRuleActionAccept {
			return nil, err
		}
		return closed(d, index, c.name), err
	}
	r.finish()
	return r, nil
}

func (read *ruleReader) clusterPeer(r *rule, path string, p policyv1alpha2.ClusterNetworkPolicyEgressPeer) {
	fields := 0
	for _, set := range [...]bool{p.Namespaces != nil, p.Pods != nil, p.Nodes != nil, len(p.Networks) > 0, len(p.DomainNames) > 0} {
		if set {
			fields++
		}
	}
	switch {
	case fields != 1:
		read.fail("%s: it has %d of its fields; want one", path, fields)
	case len(p.DomainNames) > 0:
		read.fail("%s.domainNames: not supported", path)
	case p.Namespaces != nil:
		read.clusterPods(r, path+".namespaces: ", p.Namespaces, nil)
	case p.Pods != nil:
		read.clusterPods(r, path+".pods.", &p.Pods.NamespaceSelector, &p.Pods.PodSelector)
	case p.Nodes != nil:
		nodes, err := metav1.LabelSelectorAsSelector(p.Nodes)
		if err != nil {
			read.fail("%s.nodes: %w", path, err)
			return
		}
		r.who.nodes = append(r.who.nodes, nodeSelector{nodes.String(), nodes})
	default:
		for i, text := range p.Networks {
			block, err := parseCIDR(string(text))
			if err != nil {
				read.fail("%s.networks[%d]: %w", path, i, err)
				continue
			}
			r.who.blocks = append(r.who.blocks, block)
		}
	}
}

func (read *ruleReader) clusterPods(r *rule, path string, namespaces, pods *metav1.LabelSelector) {
	who, err := podsOf("", namespaces, pods)
	if err != nil {
		read.fail("%s%w", path, err)
		return
	}
	r.who.pods = append(r.who.pods, who)
}

func (read *ruleReader) clusterProtocol(r *rule, path string, p policyv1alpha2.ClusterNetworkPolicyProtocol) {
	fields := 0
	var protocol uint8
	var port *policyv1alpha2.Port
	if p.TCP != nil {
		fields, protocol, port = fields+1, tcp, p.TCP.DestinationPort
	}
	if p.UDP != nil {
		fields, protocol, port = fields+1, udp, p.UDP.DestinationPort
	}
	if p.SCTP != nil {
		fields, protocol, port = fields+1, sctp, p.SCTP.DestinationPort
	}
	if p.DestinationNamedPort != "" {
		fields++
	}
	switch {
	case fields != 1:
		read.fail("%s: it has %d of its fields; want one", path, fields)
	case p.DestinationNamedPort != "":
		r.names = append(r.names, portName{p.DestinationNamedPort, 0})
	case port == nil:
		r.spans = append(r.spans, span{protocol, dataplane.AnyPorts()})
	case (port.Number == 0) == (port.Range == nil):
		read.fail("%s.destinationPort: want either number or range", path)
	default:
		first, last := port.Number, port.Number
		if port.Range != nil {
			first, last = port.Range.Start, port.Range.End
		}
		ports, err := portRange(first, last)
		if err != nil {
			read.fail("%s.destinationPort: %w", path, err)
			return
		}
		r.spans = append(r.spans, span{protocol, ports})
	}
}
