package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/millrace/millrace/internal/textline"
)

// String is one line per fact, sorted by kind and name, headed by the revision. Equal
// Snapshots print equal texts. What a secret holds is not in it.
func (s Snapshot) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "revision %d\n", s.Revision)
	for _, name := range slices.Sorted(maps.Keys(s.Nodes)) {
		fmt.Fprintln(&b, s.Nodes[name])
	}
	for _, name := range slices.Sorted(maps.Keys(s.Namespaces)) {
		fmt.Fprintln(&b, s.Namespaces[name])
	}
	for _, key := range slices.SortedFunc(maps.Keys(s.Pods), PodKey.Compare) {
		fmt.Fprintln(&b, s.Pods[key])
	}
	for _, key := range slices.SortedFunc(maps.Keys(s.NetworkPolicies), PolicyKey.Compare) {
		fmt.Fprintln(&b, s.NetworkPolicies[key])
	}
	for _, name := range slices.Sorted(maps.Keys(s.ClusterPolicies)) {
		fmt.Fprintln(&b, s.ClusterPolicies[name])
	}
	for _, key := range slices.SortedFunc(maps.Keys(s.Services), ServiceKey.Compare) {
		fmt.Fprintln(&b, s.Services[key])
	}
	for _, key := range slices.SortedFunc(maps.Keys(s.EndpointSlices), ServiceKey.Compare) {
		fmt.Fprintln(&b, s.EndpointSlices[key])
	}
	for _, key := range slices.SortedFunc(maps.Keys(s.Secrets), SecretKey.Compare) {
		fmt.Fprintln(&b, s.Secrets[key])
	}
	for _, id := range slices.SortedFunc(maps.Keys(s.Attachments), AttachmentID.Compare) {
		fmt.Fprintln(&b, s.Attachments[id])
	}
	return b.String()
}

// Compare orders by namespace, then name.
func (k PodKey) Compare(o PodKey) int {
	return cmp.Or(strings.Compare(k.Namespace, o.Namespace), strings.Compare(k.Name, o.Name))
}

// Compare orders by namespace, then name.
func (k SecretKey) Compare(o SecretKey) int {
	return cmp.Or(strings.Compare(k.Namespace, o.Namespace), strings.Compare(k.Name, o.Name))
}

// Compare orders by container, then interface.
func (id AttachmentID) Compare(o AttachmentID) int {
	return cmp.Or(strings.Compare(id.ContainerID, o.ContainerID), strings.Compare(id.IfName, o.IfName))
}

// String is one line, for example
//
//	node worker-1 address=10.0.0.1 address=fd00::1 podcidr=10.1.0.0/24 label=zone=a
func (n Node) String() string {
	l := textline.New("node", n.Name)
	textline.AddAll(&l, "address", n.Addresses)
	textline.AddAll(&l, "podcidr", n.PodCIDRs)
	addMap(&l, "label", n.Labels)
	return l.String()
}

func (n Namespace) String() string {
	l := textline.New("namespace", n.Name)
	addMap(&l, "label", n.Labels)
	return l.String()
}

// String is one line, for example
//
//	pod default/web uid=1f node=worker-1 phase=Running address=10.1.0.5 port=http:80/TCP label=app=web
func (p Pod) String() string {
	l := textline.New("pod", p.Key.String())
	l.Add("uid", p.UID)
	l.Add("node", p.Node)
	if p.HostNetwork {
		l.Add("hostnetwork", "true")
	}
	l.Add("phase", string(p.Phase))
	textline.AddAll(&l, "address", p.Addresses)
	textline.AddAll(&l, "port", p.Ports)
	textline.AddAll(&l, "hostport", p.HostPorts)
	addMap(&l, "label", p.Labels)
	addMap(&l, "annotation", p.Annotations)
	return l.String()
}

func (p Port) String() string { return fmt.Sprintf("%s:%d/%s", p.Name, p.Number, p.Protocol) }

func parsePort(s string) (Port, error) {
	name, rest, named := strings.Cut(s, ":")
	number, protocol, ok := strings.Cut(rest, "/")
	n, err := strconv.ParseUint(number, 10, 16)
	if !named || !ok || err != nil {
		return Port{}, fmt.Errorf("parse port %q: want name:number/protocol", s)
	}
	return Port{name, uint16(n), corev1.Protocol(protocol)}, nil
}

// String is port:container/protocol, with the address before it when there is one.
func (p HostPort) String() string {
	at := strconv.Itoa(int(p.Port))
	if p.HostIP.IsValid() {
		at = netip.AddrPortFrom(p.HostIP, p.Port).String()
	}
	return fmt.Sprintf("%s:%d/%s", at, p.Container, p.Protocol)
}

func parseHostPort(s string) (p HostPort, err error) {
	text, protocol, ok := strings.Cut(s, "/")
	i := strings.LastIndexByte(text, ':')
	if !ok || i < 0 {
		return p, fmt.Errorf("parse host port %q: want port:container/protocol, or address:port:container/protocol", s)
	}
	p.Protocol = corev1.Protocol(protocol)
	if p.Container, err = parseSmall[uint16](text[i+1:]); err != nil {
		return p, fmt.Errorf("parse host port %q: %w", s, err)
	}
	if !strings.Contains(text[:i], ":") {
		p.Port, err = parseSmall[uint16](text[:i])
		return p, err
	}
	at, err := netip.ParseAddrPort(text[:i])
	p.HostIP, p.Port = at.Addr(), at.Port()
	return p, err
}

func addMap(l *textline.Line, key string, m map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		l.Add(key, k+"="+m[k])
	}
}

func readMap(r *textline.Reader, key string) map[string]string {
	var m map[string]string
	for _, pair := range r.Strings(key) {
		k, v, ok := strings.Cut(pair, "=")
		if !ok {
			r.Fail(fmt.Errorf("field %s: %q: want name=value", key, pair))
		}
		if m == nil {
			m = map[string]string{}
		}
		m[k] = v
	}
	return m
}

// ParseSnapshot reads the text form back. Empty lines and # comments are allowed; a fact
// that stands twice is an error.
func ParseSnapshot(text string) (Snapshot, error) {
	s := Snapshot{
		Nodes: map[string]Node{}, Namespaces: map[string]Namespace{},
		Pods: map[PodKey]Pod{}, NetworkPolicies: map[PolicyKey]NetworkPolicy{}, ClusterPolicies: map[string]ClusterPolicy{},
		Services: map[ServiceKey]Service{}, EndpointSlices: map[ServiceKey]EndpointSlice{},
		Secrets: map[SecretKey]Secret{}, Attachments: map[AttachmentID]Attachment{},
	}
	err := textline.Each(text, func(l textline.Line) error {
		if len(l.Words) != 2 {
			return fmt.Errorf("%d words: want a kind and a name, then fields", len(l.Words))
		}
		return s.read(l)
	})
	if err != nil {
		return Snapshot{}, fmt.Errorf("parse snapshot: %w", err)
	}
	return s, nil
}

func (s *Snapshot) read(l textline.Line) error {
	switch kind, name := l.Words[0], l.Words[1]; kind {
	case "revision":
		n, err := parseUint64(name)
		s.Revision = n
		return err
	case "node":
		return put(s.Nodes, name, func() (Node, error) { return readNode(name, textline.Read(l)) })
	case "namespace":
		r := textline.Read(l)
		n := Namespace{Name: name, Labels: readMap(r, "label")}
		return put(s.Namespaces, name, func() (Namespace, error) { return n, r.Done() })
	case "pod":
		key, err := ParsePodKey(name)
		if err != nil {
			return err
		}
		return put(s.Pods, key, func() (Pod, error) { return readPod(key, textline.Read(l)) })
	case "networkpolicy":
		key, err := ParsePolicyKey(name)
		if err != nil {
			return err
		}
		return put(s.NetworkPolicies, key, func() (NetworkPolicy, error) { return readNetworkPolicy(key, textline.Read(l)) })
	case "clusternetworkpolicy":
		return put(s.ClusterPolicies, name, func() (ClusterPolicy, error) { return readClusterPolicy(name, textline.Read(l)) })
	case "service":
		key, err := ParseServiceKey(name)
		if err != nil {
			return err
		}
		return put(s.Services, key, func() (Service, error) { return readService(key, textline.Read(l)) })
	case "endpointslice":
		key, err := ParseServiceKey(name)
		if err != nil {
			return err
		}
		return put(s.EndpointSlices, key, func() (EndpointSlice, error) { return readEndpointSlice(key, textline.Read(l)) })
	case "secret":
		key, err := parseSecretKey(name)
		if err != nil {
			return err
		}
		return put(s.Secrets, key, func() (Secret, error) { return readSecret(key, textline.Read(l)) })
	case "attachment":
		id, err := ParseAttachmentID(name)
		if err != nil {
			return err
		}
		return put(s.Attachments, id, func() (Attachment, error) { return readAttachment(l) })
	default:
		return fmt.Errorf("no kind of fact is called %q", kind)
	}
}

func put[K comparable, V any](m map[K]V, key K, read func() (V, error)) error {
	v, err := read()
	if err != nil {
		return fmt.Errorf("%v: %w", key, err)
	}
	if _, twice := m[key]; twice {
		return fmt.Errorf("%v stands twice", key)
	}
	m[key] = v
	return nil
}

func readNode(name string, r *textline.Reader) (Node, error) {
	n := Node{
		Name:      name,
		Addresses: textline.All(r, "address", netip.ParseAddr),
		PodCIDRs:  textline.All(r, "podcidr", netip.ParsePrefix),
		Labels:    readMap(r, "label"),
	}
	return n, r.Done()
}

func readPod(key PodKey, r *textline.Reader) (Pod, error) {
	p := Pod{
		Key:         key,
		UID:         r.String("uid"),
		Node:        r.String("node"),
		HostNetwork: textline.One(r, "hostnetwork", strconv.ParseBool),
		Phase:       corev1.PodPhase(r.String("phase")),
		Addresses:   textline.All(r, "address", netip.ParseAddr),
		Ports:       textline.All(r, "port", parsePort),
		HostPorts:   textline.All(r, "hostport", parseHostPort),
		Labels:      readMap(r, "label"),
		Annotations: readMap(r, "annotation"),
	}
	return p, r.Done()
}
