package oracle

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/millrace/millrace/cluster"
)

// selects says whether a selector matches labels; a selector that does not parse is an
// error.
func selects(selector *metav1.LabelSelector, set map[string]string) (bool, error) {
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return false, err
	}
	return s.Matches(labels.Set(set)), nil
}

// podIn says whether a pod matches a selector of namespaces and one of pods; nil selectors
// match all.
func (w World) podIn(p cluster.Pod, namespaces, pods *metav1.LabelSelector) (bool, error) {
	in, err := true, error(nil)
	if namespaces != nil {
		if in, err = selects(namespaces, w.namespaceLabels(p.Key.Namespace)); err != nil {
			return false, fmt.Errorf("selector of namespaces: %w", err)
		}
	}
	if pods != nil {
		fits, err := selects(pods, p.Labels)
		if err != nil {
			return false, fmt.Errorf("selector of pods: %w", err)
		}
		in = in && fits
	}
	return in, nil
}

// anyPodIn is podIn for whoever of a party is a pod. Selectors are judged also where
// nobody is.
func (w World) anyPodIn(p party, namespaces, pods *metav1.LabelSelector) (bool, error) {
	if _, err := w.podIn(cluster.Pod{}, namespaces, pods); err != nil {
		return false, err
	}
	for _, pod := range p.pods {
		if in, err := w.podIn(pod, namespaces, pods); in || err != nil {
			return in, err
		}
	}
	return false, nil
}

// inCIDR says whether an address lies in a block. Bits behind the prefix do not count.
func inCIDR(text string, a netip.Addr) (bool, error) {
	p, err := parseCIDR(text)
	return err == nil && p.Contains(a), err
}

func parseCIDR(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, err
	}
	if p.Addr().Is4In6() {
		return p, fmt.Errorf("%s is an IPv4 block in IPv6 form", text)
	}
	return p.Masked(), nil
}

// number is the IP protocol number of one that policies may name.
func number(p corev1.Protocol) (uint8, error) {
	switch p {
	case corev1.ProtocolTCP:
		return TCP, nil
	case corev1.ProtocolUDP:
		return UDP, nil
	case corev1.ProtocolSCTP:
		return SCTP, nil
	}
	return 0, fmt.Errorf("protocol %q: want TCP, UDP or SCTP", p)
}

func checkPort(n int32) error {
	if n < 1 || n > 65535 {
		return fmt.Errorf("port %d: want 1 to 65535", n)
	}
	return nil
}

// namedPort says whether the flow's destination has a port of that name which is the one
// that the flow goes to. Pods on the host's network are no destination that has names.
func (w World) namedPort(s side, f Flow, name string, fits func(corev1.Protocol) bool) bool {
	pods := s.peer.pods
	if s.direction == Ingress {
		pods = []cluster.Pod{s.pod}
	}
	for _, pod := range pods {
		for _, port := range pod.Ports {
			protocol, err := number(port.Protocol)
			if err == nil && port.Name == name && fits(port.Protocol) && protocol == f.Protocol && port.Number == f.Port {
				return true
			}
		}
	}
	return false
}
