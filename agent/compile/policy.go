package compile

import (
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/policy"
)

// guard binds every interface to a pod to the ACLs of the pod's policies, kernel device
// and memifs alike, also where no policy is about it: there are sessions then when the
// first one comes. An attachment whose pod the facts do not tell of is bound like any other,
// as closed as its policies might want it; one that names no pod has no policies.
func (c *compilation) guard(s cluster.Snapshot, changed cluster.Changes, served []cluster.Attachment, policies *policy.Compiler) {
	var pods []cluster.PodKey
	for _, a := range served {
		pods = append(pods, a.Pod)
	}
	c.result.Policy = policies.Update(s, changed, pods)
	for _, a := range c.result.Policy.ACLs {
		c.result.State.Put(a) // many rules, well-formed by their making
	}
	for _, a := range served {
		lists := c.result.Policy.Lists[a.Pod]
		for _, name := range interfaces(a) {
			b := dataplane.ACLBinding{Interface: name, Input: lists.Input, Output: lists.Output}
			c.put(b)
			c.result.Owners[b.Key()] = a.ID
		}
	}
}

// interfaces names those of an attachment.
func interfaces(a cluster.Attachment) []string {
	var names []string
	if a.Device == cluster.DeviceKernel {
		names = append(names, PodInterface(a))
	}
	for _, m := range a.Memifs {
		names = append(names, PodMemif(a, m))
	}
	return names
}
