package cluster

// Ref names one Kubernetes object in the words of its API, so that its author can be told
// something about it.
type Ref struct {
	APIVersion, Kind string
	Namespace, Name  string
	UID              string
}

// String is kind namespace/name, without the namespace for objects of the whole cluster.
func (r Ref) String() string {
	if r.Namespace == "" {
		return r.Kind + " " + r.Name
	}
	return r.Kind + " " + r.Namespace + "/" + r.Name
}

// Ref names the policy's object.
func (p NetworkPolicy) Ref() Ref {
	return Ref{"networking.k8s.io/v1", "NetworkPolicy", p.Key.Namespace, p.Key.Name, p.UID}
}

// Ref names the policy's object.
func (p ClusterPolicy) Ref() Ref {
	return Ref{"policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", "", p.Name, p.UID}
}

// Ref names the service's object.
func (s Service) Ref() Ref { return Ref{"v1", "Service", s.Key.Namespace, s.Key.Name, s.UID} }

// Ref names the pod's object.
func (p Pod) Ref() Ref { return Ref{"v1", "Pod", p.Key.Namespace, p.Key.Name, p.UID} }
