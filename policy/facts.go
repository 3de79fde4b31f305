package policy

import (
	"crypto/sha256"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/millrace/millrace/cluster"
)

// namespace is what policies need to know of one: its labels, and the pods in it by class.
type namespace struct {
	name     string
	known    bool // there is an object of it; else it is only heard of
	labels   labels.Set
	changed  uint64 // the round of the last change of its labels or policies
	classes  map[classKey]*class
	sets     []*podSet     // that can mean pods of it
	policies []*heldPolicy // by name
}

// heldPolicy is a NetworkPolicy that is read once a pod of its namespace is here.
type heldPolicy struct {
	fact cluster.NetworkPolicy
	read *networkPolicy
}

// class is the pods of a namespace that have the same labels. No selector tells them
// apart, so that selectors are asked once for all of them.
type class struct {
	namespace *namespace
	key       classKey
	labels    labels.Set
	pods      []*pod    // in any order
	sets      []*podSet // that hold these pods
}

// classKey is a hash of labels.
type classKey [16]byte

// pod is what policies need to know of one. A cluster has many: it is small.
type pod struct {
	uid         string
	class       *class
	at          int32 // where it stands in class.pods
	hostNetwork bool
	addresses   []netip.Addr   // by which others know it; none on the host's network or once completed
	ports       []cluster.Port // the named ones
	changed     uint64         // the round of the last change
}

// attached is what attachments say of a pod. A pod may have a second life under its name,
// which the CNI door may hear of before the API server tells.
type attached struct {
	uid        string // of the latest life; empty if nobody said
	addresses  []netip.Addr
	interfaces int // of all lives
}

// interfaces is how many a pod has, to each of which its lists are applied.
func (f *facts) interfaces(key cluster.PodKey) int { return max(1, f.attached[key].interfaces) }

// sameLife says whether facts are about the pod that has the interface.
func (a attached) sameLife(uid string) bool { return a.uid == uid || a.uid == "" || uid == "" }

// facts are the cluster as policies see it, and the sets that follow from it.
type facts struct {
	round      uint64
	namespaces map[string]*namespace
	pods       map[cluster.PodKey]*pod
	nodes      map[string]cluster.Node
	attached   map[cluster.PodKey]attached // the pods of this node, as the CNI door knows them
	heard      map[string]bool             // namespaces that may have lost their last object
	sets       map[setKey]*podSet
	named      map[portName]*namedSet
	nodeSets   map[string]*nodeSet
	work       Work

	keys []string // both for use in classOf
	text []byte
}

// Work counts what an Update had to look at. It does not grow with the cluster, but with
// what changed and with what the node's own pods are concerned by.
type Work struct {
	Pods    int // facts of pods taken in
	Matches int // selectors asked about the labels of pods or namespaces
	Terms   int // rules whose peers were worked out
	ACLs    int // ACLs rendered
}

func newFacts() facts {
	return facts{
		namespaces: map[string]*namespace{}, pods: map[cluster.PodKey]*pod{}, nodes: map[string]cluster.Node{}, attached: map[cluster.PodKey]attached{}, heard: map[string]bool{},
		sets: map[setKey]*podSet{}, named: map[portName]*namedSet{}, nodeSets: map[string]*nodeSet{},
	}
}

// take brings the facts to those of a snapshot.
func (f *facts) take(s cluster.Snapshot, changed cluster.Changes) {
	f.round++
	f.work = Work{}
	for name := range changed.Namespaces {
		f.takeNamespace(s, name)
	}
	pods := maps.Clone(changed.Pods)
	f.takeAttachments(s, &pods)
	for key := range pods {
		f.takePod(s, key)
	}
	if len(changed.Nodes) > 0 {
		f.takeNodes(s, changed.Nodes)
	}
}

// space returns a namespace, and makes it if it is only now heard of.
func (f *facts) space(name string) *namespace {
	n := f.namespaces[name]
	if n == nil {
		n = &namespace{name: name, labels: labels.Set{corev1.LabelMetadataName: name}, changed: f.round, classes: map[classKey]*class{}}
		f.namespaces[name] = n
		f.enterSpace(n)
	}
	return n
}

func (f *facts) takeNamespace(s cluster.Snapshot, name string) {
	object, known := s.Namespaces[name]
	set := labels.Set{}
	maps.Copy(set, object.Labels)
	set[corev1.LabelMetadataName] = name
	n := f.space(name)
	f.heard[name] = f.heard[name] || !known
	if n.known == known && maps.Equal(n.labels, set) {
		return
	}
	n.known, n.labels, n.changed = known, set, f.round
	f.leaveSpace(n)
	f.enterSpace(n)
}

// takeAttachments finds the pods whose attachments changed.
func (f *facts) takeAttachments(s cluster.Snapshot, changed *cluster.Set[cluster.PodKey]) {
	now := attachedPods(s.Attachments)
	delete(now, cluster.PodKey{}) // no pod
	for key, a := range now {
		if was := f.attached[key]; was.uid != a.uid || !slices.Equal(was.addresses, a.addresses) {
			changed.Add(key)
		}
	}
	for key := range f.attached {
		if _, ok := now[key]; !ok {
			changed.Add(key)
		}
	}
	f.attached = now
}

func attachedPods(all map[cluster.AttachmentID]cluster.Attachment) map[cluster.PodKey]attached {
	latest := make(map[cluster.PodKey]cluster.Attachment, len(all))
	for _, a := range all {
		if was, ok := latest[a.Pod]; !ok || was.Revision < a.Revision || was.Revision == a.Revision && was.ID.Compare(a.ID) < 0 {
			latest[a.Pod] = a
		}
	}
	pods := make(map[cluster.PodKey]attached, len(latest))
	for _, a := range all {
		p := pods[a.Pod]
		p.uid = latest[a.Pod].PodUID
		if p.interfaces += len(a.Memifs); a.Device == cluster.DeviceKernel {
			p.interfaces++
		}
		if a.PodUID == p.uid {
			p.addresses = slices.AppendSeq(p.addresses, a.AllAddresses())
			slices.SortFunc(p.addresses, netip.Addr.Compare)
		}
		pods[a.Pod] = p
	}
	return pods
}

func (f *facts) takePod(s cluster.Snapshot, key cluster.PodKey) {
	f.work.Pods++
	fact, ok := s.Pods[key]
	p := f.pods[key]
	if p != nil {
		f.leaveNamed(p)
	}
	if !ok {
		if p != nil {
			f.leaveClass(p)
			delete(f.pods, key)
		}
		return
	}
	if p == nil {
		p = &pod{}
		f.pods[key] = p
	}
	f.place(p, fact)
	p.uid, p.hostNetwork, p.ports, p.changed = fact.UID, fact.HostNetwork, fact.Ports, f.round
	f.enterNamed(p)
}

// place gives a pod its class and its addresses, and both to the sets they belong to.
func (f *facts) place(p *pod, fact cluster.Pod) {
	list := peerAddresses(fact, f.attached[fact.Key])
	key := f.classOf(fact.Labels)
	if p.class != nil && p.class.key == key {
		if !slices.Equal(list, p.addresses) {
			for _, set := range p.class.sets {
				set.replace(p.addresses, list, f.round)
			}
		}
		p.addresses = list
		return
	}
	if p.class != nil {
		f.leaveClass(p)
	}
	n := f.space(fact.Key.Namespace)
	c := n.classes[key]
	if c == nil {
		c = &class{namespace: n, key: key, labels: fact.Labels}
		n.classes[key] = c
		f.enterSets(c)
	}
	p.class, p.addresses, p.at = c, list, int32(len(c.pods))
	c.pods = append(c.pods, p)
	for _, set := range c.sets {
		set.replace(nil, list, f.round)
	}
}

func (f *facts) leaveClass(p *pod) {
	c := p.class
	last := len(c.pods) - 1
	c.pods[p.at] = c.pods[last]
	c.pods[p.at].at = p.at
	c.pods = slices.Delete(c.pods, last, last+1)
	for _, set := range c.sets {
		set.replace(p.addresses, nil, f.round)
	}
	if len(c.pods) == 0 {
		f.leaveSets(c)
		delete(c.namespace.classes, c.key)
		f.heard[c.namespace.name] = true
	}
	p.class = nil
}

// peerAddresses are those that a pod's status tells and those that it was given here.
func peerAddresses(p cluster.Pod, a attached) []netip.Addr {
	if p.HostNetwork || p.Phase == corev1.PodSucceeded || p.Phase == corev1.PodFailed {
		return nil
	}
	if len(a.addresses) == 0 && len(p.Addresses) == 1 && p.Addresses[0].IsValid() {
		return p.Addresses
	}
	list := slices.Clone(p.Addresses)
	if a.sameLife(p.UID) {
		list = append(list, a.addresses...)
	}
	list = slices.DeleteFunc(list, func(a netip.Addr) bool { return !a.IsValid() })
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

func (f *facts) classOf(set map[string]string) classKey {
	f.keys, f.text = f.keys[:0], f.text[:0]
	for key := range set {
		f.keys = append(f.keys, key)
	}
	slices.Sort(f.keys)
	for _, key := range f.keys {
		f.text = strconv.AppendInt(f.text, int64(len(key)), 10)
		f.text = append(append(append(f.text, '.'), key...), set[key]...)
		f.text = append(f.text, 0)
	}
	sum := sha256.Sum256(f.text)
	return classKey(sum[:len(classKey{})])
}

func (f *facts) takeNodes(s cluster.Snapshot, changed cluster.Set[string]) {
	for name := range changed {
		if n, ok := s.Nodes[name]; ok {
			f.nodes[name] = n
		} else {
			delete(f.nodes, name)
		}
	}
	for _, set := range f.nodeSets {
		f.fillNodes(set)
	}
}
