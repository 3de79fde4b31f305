package watch

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	documents "k8s.io/apimachinery/pkg/util/yaml"
	kjson "sigs.k8s.io/json"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
	"sigs.k8s.io/yaml"

	"github.com/millrace/millrace/cluster"
)

// facts gathers a Snapshot from documents and remembers where each object stood.
type facts struct {
	snapshot cluster.Snapshot
	where    map[string]string // kind and name to file and document
	// unknown judges an object of a kind that means nothing here; nil = it is an error.
	unknown func(place, version, kind string) error
}

func newFacts() *facts {
	return &facts{
		snapshot: cluster.Snapshot{
			Nodes: map[string]cluster.Node{}, Namespaces: map[string]cluster.Namespace{}, Pods: map[cluster.PodKey]cluster.Pod{},
			NetworkPolicies: map[cluster.PolicyKey]cluster.NetworkPolicy{}, ClusterPolicies: map[string]cluster.ClusterPolicy{},
			Services: map[cluster.ServiceKey]cluster.Service{}, EndpointSlices: map[cluster.ServiceKey]cluster.EndpointSlice{},
			Secrets: map[cluster.SecretKey]cluster.Secret{},
		},
		where: map[string]string{},
	}
}

// decode adds every document of a file.
func (f *facts) decode(file string, data []byte) error {
	r := documents.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for n := 1; ; n++ {
		document, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		place := fmt.Sprintf("%s: document %d", file, n)
		if err != nil {
			return fmt.Errorf("%s: %w", place, err)
		}
		text, err := yaml.YAMLToJSONStrict(document)
		if err != nil {
			return fmt.Errorf("%s: %w", place, err)
		}
		if string(bytes.TrimSpace(text)) == "null" {
			continue // a comment, or nothing
		}
		if err := f.object(place, text); err != nil {
			return err
		}
	}
}

// object adds one object, or each item of a List.
func (f *facts) object(place string, text []byte) error {
	var head struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        metav1.ObjectMeta `json:"metadata"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(text, &head); err != nil {
		return fmt.Errorf("%s: %w", place, err)
	}
	if head.APIVersion == "v1" && head.Kind == "List" {
		return f.list(place, text)
	}
	place = fmt.Sprintf("%s: %s %s", place, orMissing(head.Kind, "kind"), orMissing(head.Metadata.Name, "metadata.name"))
	if err := f.known(place, head.APIVersion, head.Kind, text); err != nil {
		return fmt.Errorf("%s: %w", place, err)
	}
	return nil
}

// known adds one object of a kind that means something here.
func (f *facts) known(place, version, kind string, text []byte) error {
	switch version + " " + kind {
	case "v1 Node":
		return add(f, place, text, f.node)
	case "v1 Namespace":
		return add(f, place, text, f.namespace)
	case "v1 Pod":
		return add(f, place, text, f.pod)
	case "v1 Service":
		return add(f, place, text, f.service)
	case "v1 Secret":
		return add(f, place, text, f.secret)
	case "discovery.k8s.io/v1 EndpointSlice":
		return add(f, place, text, f.endpointSlice)
	case "networking.k8s.io/v1 NetworkPolicy":
		return add(f, place, text, f.networkPolicy)
	case policyv1alpha2.GroupVersion.String() + " ClusterNetworkPolicy":
		return add(f, place, text, f.clusterPolicy)
	}
	if f.unknown != nil {
		return f.unknown(place, version, kind)
	}
	return errUnknown(version, kind)
}

func errUnknown(version, kind string) error {
	return fmt.Errorf("apiVersion %q with kind %q is not known here: want v1 with Node, Namespace, Pod, Service, Secret or List, "+
		"networking.k8s.io/v1 with NetworkPolicy, %s with ClusterNetworkPolicy, or discovery.k8s.io/v1 with EndpointSlice",
		version, kind, policyv1alpha2.GroupVersion)
}

func orMissing(s, what string) string {
	if s == "" {
		return "(no " + what + ")"
	}
	return s
}

func (f *facts) list(place string, text []byte) error {
	var list struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        metav1.ListMeta        `json:"metadata"`
		Items           []runtime.RawExtension `json:"items"`
	}
	if err := strict(text, &list); err != nil {
		return fmt.Errorf("%s: List: %w", place, err)
	}
	for i, item := range list.Items {
		if err := f.object(fmt.Sprintf("%s: item %d", place, i+1), item.Raw); err != nil {
			return err
		}
	}
	return nil
}

// add decodes text as a T, hands it to put, and refuses a second object of one name.
func add[T any](f *facts, place string, text []byte, put func(*T) (key string, err error)) error {
	object := new(T)
	if err := strict(text, object); err != nil {
		return err
	}
	key, err := put(object)
	if err != nil {
		return err
	}
	if first, twice := f.where[key]; twice {
		return fmt.Errorf("%s stands twice, first in %s", key, first)
	}
	f.where[key] = place
	return nil
}

// strict decodes JSON; a field that the type does not have, or that stands twice, is an
// error with its path.
func strict[T any](text []byte, into *T) error {
	unknown, err := kjson.UnmarshalStrict(text, into)
	return errors.Join(append([]error{err}, unknown...)...)
}

func (f *facts) node(o *corev1.Node) (string, error) {
	n, err := Node(o)
	f.snapshot.Nodes[n.Name] = n
	return "Node " + n.Name, err
}

func (f *facts) namespace(o *corev1.Namespace) (string, error) {
	n, err := Namespace(o)
	f.snapshot.Namespaces[n.Name] = n
	return "Namespace " + n.Name, err
}

func (f *facts) pod(o *corev1.Pod) (string, error) {
	p, err := Pod(o)
	f.snapshot.Pods[p.Key] = p
	return "Pod " + p.Key.String(), err
}

func (f *facts) secret(o *corev1.Secret) (string, error) {
	s, err := Secret(o)
	f.snapshot.Secrets[s.Key] = s
	return "Secret " + s.Key.String(), err
}

func (f *facts) networkPolicy(o *networkingv1.NetworkPolicy) (string, error) {
	p, err := NetworkPolicy(o)
	f.snapshot.NetworkPolicies[p.Key] = p
	return "NetworkPolicy " + p.Key.String(), err
}

func (f *facts) clusterPolicy(o *policyv1alpha2.ClusterNetworkPolicy) (string, error) {
	p, err := ClusterPolicy(o)
	f.snapshot.ClusterPolicies[p.Name] = p
	return "ClusterNetworkPolicy " + p.Name, err
}

func (f *facts) service(o *corev1.Service) (string, error) {
	s, err := Service(o)
	key := "Service " + s.Key.String()
	if errors.Is(err, errNotOurs) {
		return key, nil
	}
	f.snapshot.Services[s.Key] = s
	return key, err
}

func (f *facts) endpointSlice(o *discoveryv1.EndpointSlice) (string, error) {
	s, err := EndpointSlice(o)
	key := "EndpointSlice " + s.Key.String()
	if errors.Is(err, errNotOurs) {
		return key, nil
	}
	f.snapshot.EndpointSlices[s.Key] = s
	return key, err
}
