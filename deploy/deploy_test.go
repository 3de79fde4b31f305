package deploy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/millrace/millrace/internal/kubetest"
	"github.com/millrace/millrace/internal/nodeconfig"
)

// manifests are the files that generate.sh renders, by name.
func manifests(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	names, err := filepath.Glob("base/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if filepath.Base(name) == "kustomization.yaml" {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	if len(files) == 0 {
		t.Fatal("no manifests: scripts/generate.sh renders them")
	}
	return files
}

// object is an empty one of a kind that we use.
func object(kind string) any {
	switch kind {
	case "Namespace":
		return &corev1.Namespace{}
	case "ServiceAccount":
		return &corev1.ServiceAccount{}
	case "ConfigMap":
		return &corev1.ConfigMap{}
	case "ClusterRole":
		return &rbacv1.ClusterRole{}
	case "ClusterRoleBinding":
		return &rbacv1.ClusterRoleBinding{}
	case "Role":
		return &rbacv1.Role{}
	case "RoleBinding":
		return &rbacv1.RoleBinding{}
	case "DaemonSet":
		return &appsv1.DaemonSet{}
	}
	return nil
}

// decoded are all objects of a text, decoded strictly.
func decoded(t *testing.T, text string) []any {
	t.Helper()
	var all []any
	for document := range strings.SplitSeq("\n"+text, "\n---") {
		var head metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(document), &head); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		if head.Kind == "" || head.Kind == "PodMonitor" { // the operator's own kind
			continue
		}
		o := object(head.Kind)
		if o == nil {
			t.Errorf("kind %s: add it to this test", head.Kind)
			continue
		}
		if err := yaml.UnmarshalStrict([]byte(document), o); err != nil {
			t.Errorf("%s: %v", head.Kind, err)
		}
		all = append(all, o)
	}
	return all
}

// TestManifests: every object is one of Kubernetes' types without a field too many, every
// volume that is mounted is there, every NodeConfig is valid.
func TestManifests(t *testing.T) {
	for name, text := range manifests(t) {
		t.Run(name, func(t *testing.T) {
			for _, o := range decoded(t, text) {
				switch o := o.(type) {
				case *appsv1.DaemonSet:
					checkPods(t, o.Spec.Template.Spec)
				case *corev1.ConfigMap:
					checkConfigs(t, o)
				}
			}
		})
	}
}

func checkPods(t *testing.T, pod corev1.PodSpec) {
	volumes := map[string]bool{}
	for _, v := range pod.Volumes {
		volumes[v.Name] = true
	}
	used := map[string]bool{}
	for _, c := range pod.Containers {
		for _, m := range c.VolumeMounts {
			used[m.Name] = true
			if !volumes[m.Name] {
				t.Errorf("container %s mounts %s, which is no volume", c.Name, m.Name)
			}
		}
		if c.SecurityContext == nil || c.SecurityContext.Privileged == nil && c.SecurityContext.Capabilities == nil {
			t.Errorf("container %s says nothing of its privileges", c.Name)
		}
	}
	for v := range volumes {
		if !used[v] {
			t.Errorf("volume %s is not mounted", v)
		}
	}
	for _, toleration := range pod.Tolerations {
		if toleration.Operator == corev1.TolerationOpExists && toleration.Key == "" && toleration.Effect == "" {
			return
		}
	}
	t.Error("the pods do not tolerate all taints")
}

func checkConfigs(t *testing.T, m *corev1.ConfigMap) {
	for key, text := range m.Data {
		if !strings.HasSuffix(key, ".yaml") {
			continue
		}
		c, err := nodeconfig.Decode([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", key, err)
			continue
		}
		c.Complete("node")
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// TestIntegrationManifestsApply: a real API server takes everything that people apply.
func TestIntegrationManifestsApply(t *testing.T) {
	api := kubetest.Start(t)
	for _, dir := range []string{"base"} {
		names, err := filepath.Glob(dir + "/*.yaml")
		if err != nil {
			t.Fatal(err)
		}
		// rbac.yaml holds the namespace.
		api.ApplyFile(dir + "/rbac.yaml")
		for _, name := range names {
			if filepath.Base(name) != "kustomization.yaml" {
				api.ApplyFile(name)
			}
		}
	}
}
