package cluster

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/millrace/millrace/internal/textline"
)

// PolicyKey names a NetworkPolicy.
type PolicyKey struct{ Namespace, Name string }

// NetworkPolicy is a NetworkPolicy of networking.k8s.io/v1 as it was written: whoever
// judges it finds what is wrong with it.
type NetworkPolicy struct {
	Key  PolicyKey
	UID  string
	Spec networkingv1.NetworkPolicySpec
}

// ClusterPolicy is a ClusterNetworkPolicy of policy.networking.k8s.io/v1alpha2, of the
// Admin or the Baseline tier, as it was written.
type ClusterPolicy struct {
	Name string
	UID  string
	Spec policyv1alpha2.ClusterNetworkPolicySpec
}

func (k PolicyKey) String() string { return k.Namespace + "/" + k.Name }

// ParsePolicyKey reads namespace/name.
func ParsePolicyKey(s string) (PolicyKey, error) {
	key, err := ParsePodKey(s)
	if err != nil {
		return PolicyKey{}, fmt.Errorf("parse policy %q: want namespace/name", s)
	}
	return PolicyKey(key), nil
}

// Compare orders by namespace, then name.
func (k PolicyKey) Compare(o PolicyKey) int {
	return cmp.Or(strings.Compare(k.Namespace, o.Namespace), strings.Compare(k.Name, o.Name))
}

// String is one line; the spec stands there as JSON.
func (p NetworkPolicy) String() string {
	l := textline.New("networkpolicy", p.Key.String())
	l.Add("uid", p.UID)
	l.Add("spec", asJSON(p.Spec))
	return l.String()
}

func (p ClusterPolicy) String() string {
	l := textline.New("clusternetworkpolicy", p.Name)
	l.Add("uid", p.UID)
	l.Add("spec", asJSON(p.Spec))
	return l.String()
}

// asJSON prints what came as JSON. Such a value can always be printed so again; if ever
// not, the text says why and differs from every other.
func asJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func readNetworkPolicy(key PolicyKey, r *textline.Reader) (NetworkPolicy, error) {
	p := NetworkPolicy{Key: key, UID: r.String("uid"), Spec: textline.One(r, "spec", fromJSON[networkingv1.NetworkPolicySpec])}
	return p, r.Done()
}

func readClusterPolicy(name string, r *textline.Reader) (ClusterPolicy, error) {
	p := ClusterPolicy{Name: name, UID: r.String("uid"), Spec: textline.One(r, "spec", fromJSON[policyv1alpha2.ClusterNetworkPolicySpec])}
	return p, r.Done()
}

func fromJSON[T any](text string) (v T, err error) {
	err = json.Unmarshal([]byte(text), &v)
	return v, err
}
