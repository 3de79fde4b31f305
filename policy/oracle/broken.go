package oracle

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/millrace/millrace/cluster"
)

// Broken says what is wrong with policies, one error for each that is broken, in the order
// of their names.
func (w World) Broken() (list []error) {
	for _, key := range slices.SortedFunc(maps.Keys(w.snapshot.NetworkPolicies), cluster.PolicyKey.Compare) {
		if err := w.checkPolicy(w.snapshot.NetworkPolicies[key]); err != nil {
			list = append(list, fmt.Errorf("NetworkPolicy %s: it allows nothing to its pods: %w", key, err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.snapshot.ClusterPolicies)) {
		if err := w.checkClusterPolicy(w.snapshot.ClusterPolicies[name]); err != nil {
			list = append(list, fmt.Errorf("ClusterNetworkPolicy %s: it fails closed: %w", name, err))
		}
	}
	return list
}

func (w World) checkClusterPolicy(p cluster.ClusterPolicy) error {
	_, unknown := tierOf(p)
	_, subject := w.isSubject(p.Spec.Subject, cluster.Pod{})
	if err := cmp.Or(subject, unknown); err != nil {
		return err
	}
	var errs []error
	for _, d := range [...]Direction{Ingress, Egress} {
		for i, r := range clusterRulesOf(p.Spec, d) {
			if err := w.checkRule(r, d); err != nil {
				errs = append(errs, fmt.Errorf("%s rule %d: %w", d, i, err))
			}
		}
	}
	return errors.Join(errs...)
}
