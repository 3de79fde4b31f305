package kubetest

import (
	"strings"
	"testing"
)

// TestIntegrationRestart: what was stored is there after the server died and etcd forgot
// its history.
func TestIntegrationRestart(t *testing.T) {
	c := Start(t)
	const pod = `
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec: {containers: [{name: c, image: none}]}
status: {phase: Running, podIPs: [{ip: 10.1.0.5}]}
`
	c.Apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---" + pod)
	c.Compact()
	c.Kill()
	c.Restart()
	list := c.List("/api/v1/namespaces/shop/pods")
	if len(list) != 1 || !strings.Contains(string(list[0]), `"ip":"10.1.0.5"`) {
		t.Errorf("after a restart there is %s", list)
	}
	c.Delete(pod)
	c.Delete("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}")
	if list := c.List("/api/v1/namespaces?fieldSelector=metadata.name=shop"); len(list) != 0 {
		t.Errorf("a deleted namespace is there: %s", list)
	}
}
