package policy

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// setKey is the meaning of a podSelector as text: equal keys select the same pods.
type setKey struct {
	namespace        string // the only one, if not empty
	namespaces, pods string // selectors in the canonical form of their package
}

// podSelector says which pods are meant, out of one namespace or of those that a selector
// matches.
type podSelector struct {
	key        setKey
	namespaces labels.Selector // nil where one namespace is named
	pods       labels.Selector
}

func (s podSelector) String() string {
	return fmt.Sprintf("pods(%q %q %q)", s.key.namespace, s.key.namespaces, s.key.pods)
}

// podsOf reads the selectors of a peer or subject. A nil selector of namespaces means the
// namespace that is given, a nil one of pods all pods.
func podsOf(namespace string, namespaces, pods *metav1.LabelSelector) (podSelector, error) {
	s := podSelector{pods: labels.Everything()}
	var err error
	if pods != nil {
		if s.pods, err = metav1.LabelSelectorAsSelector(pods); err != nil {
			return podSelector{}, fmt.Errorf("podSelector: %w", err)
		}
	}
	s.key.pods = s.pods.String()
	if namespaces == nil {
		s.key.namespace = namespace
		return s, nil
	}
	if s.namespaces, err = metav1.LabelSelectorAsSelector(namespaces); err != nil {
		return podSelector{}, fmt.Errorf("namespaceSelector: %w", err)
	}
	s.key.namespaces = s.namespaces.String()
	return s, nil
}

// inNamespace says whether pods of a namespace can be meant.
func (s podSelector) inNamespace(n *namespace) bool {
	if s.namespaces == nil {
		return s.key.namespace == n.name
	}
	return s.namespaces.Matches(n.labels)
}

// matches says whether the pods of a class are meant.
func (s podSelector) matches(c *class) bool {
	return s.inNamespace(c.namespace) && s.pods.Matches(c.labels)
}
