package kubetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// request speaks as admin. Bodies are JSON or YAML, as the content type says.
func (c *Cluster) request(ctx context.Context, method, path, contentType string, body []byte) (status int, reply []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("https://127.0.0.1:%d%s", c.port, path), bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Authorization", "Bearer "+adminToken)
	r.Header.Set("Content-Type", contentType)
	answer, err := c.client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	reply, err = io.ReadAll(answer.Body)
	return answer.StatusCode, reply, err
}

// must is request for what has to succeed.
func (c *Cluster) must(method, path, contentType string, body []byte) []byte {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	status, reply, err := c.request(ctx, method, path, contentType, body)
	if err != nil || status < 200 || status > 299 {
		c.t.Fatalf("%s %s: %d %s %v\n%s", method, path, status, reply, err, body)
	}
	return reply
}

// head is what says where an object lives.
type head struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Status     map[string]any `json:"status"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
}

// path is the object's own, for the kinds that tests make.
func (h head) path() string {
	prefix := "/apis/" + h.APIVersion
	if h.APIVersion == "v1" {
		prefix = "/api/v1"
	}
	plural := strings.ToLower(h.Kind) + "s"
	if name, ok := strings.CutSuffix(plural, "ys"); ok {
		plural = name + "ies"
	}
	switch h.Kind {
	case "Node", "Namespace", "ClusterRole", "ClusterRoleBinding", "ClusterNetworkPolicy", "CustomResourceDefinition":
	default:
		namespace := h.Metadata.Namespace
		if namespace == "" {
			namespace = "default"
		}
		prefix += "/namespaces/" + namespace
	}
	return prefix + "/" + plural + "/" + h.Metadata.Name
}

// Apply makes or changes every object of a YAML text, their status included, as kubectl
// apply --server-side does.
func (c *Cluster) Apply(text string) {
	c.t.Helper()
	const query = "?fieldManager=kubetest&force=true"
	for h, document := range c.documents(text) {
		c.must(http.MethodPatch, h.path()+query, "application/apply-patch+yaml", document)
		if h.Status != nil {
			c.must(http.MethodPatch, h.path()+"/status"+query, "application/apply-patch+yaml", document)
		}
	}
}

// ApplyFile applies what stands in a file.
func (c *Cluster) ApplyFile(path string) {
	c.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	c.Apply(string(text))
}

// InstallPolicyAPI installs the ClusterNetworkPolicy kind, as the module of its types
// brings it, and waits until it is served.
func (c *Cluster) InstallPolicyAPI() {
	c.t.Helper()
	const module = "sigs.k8s.io/network-policy-api"
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		c.t.Fatalf("find module %s: %v", module, err)
	}
	c.ApplyFile(filepath.Join(strings.TrimSpace(string(dir)), "config/crd/standard/policy.networking.k8s.io_clusternetworkpolicies.yaml"))
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		status, reply, err := c.request(context.Background(), http.MethodGet, "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies", "", nil)
		if err == nil && status == http.StatusOK {
			return
		}
		if time.Now().After(end) {
			c.t.Fatalf("ClusterNetworkPolicy is not served: %d %s %v", status, reply, err)
		}
	}
}

// Delete removes every object of a YAML text at once, whatever it would wait for.
func (c *Cluster) Delete(text string) {
	c.t.Helper()
	for h := range c.documents(text) {
		c.must(http.MethodDelete, h.path(), "application/json", []byte(`{"gracePeriodSeconds":0}`))
		if h.Kind == "Namespace" { // there is no controller that would empty it
			c.must(http.MethodPut, h.path()+"/finalize", "application/json",
				fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":%q},"spec":{"finalizers":[]}}`, h.Metadata.Name))
		}
	}
}

// List returns the names of the objects below a path such as /api/v1/pods, as the answer's
// JSON items.
func (c *Cluster) List(path string) []json.RawMessage {
	c.t.Helper()
	var list struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(c.must(http.MethodGet, path, "", nil), &list); err != nil {
		c.t.Fatal(err)
	}
	return list.Items
}

func (c *Cluster) documents(text string) func(yield func(head, []byte) bool) {
	return func(yield func(head, []byte) bool) {
		for document := range strings.SplitSeq(text, "\n---") {
			var h head
			if err := yaml.Unmarshal([]byte(document), &h); err != nil {
				c.t.Fatalf("%v in\n%s", err, document)
			}
			if h.Kind != "" && !yield(h, []byte(document)) {
				return
			}
		}
	}
}

// token asks for a token of a service account that exists.
func (c *Cluster) token(namespace, account string) string {
	c.t.Helper()
	reply := c.must(http.MethodPost, fmt.Sprintf("/api/v1/namespaces/%s/serviceaccounts/%s/token", namespace, account), "application/json",
		[]byte(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"expirationSeconds":86400}}`))
	var token struct {
		Status struct {
			Token string `json:"token"`
		} `json:"status"`
	}
	if err := json.Unmarshal(reply, &token); err != nil || token.Status.Token == "" {
		c.t.Fatalf("no token in %s: %v", reply, err)
	}
	return token.Status.Token
}

// Account writes what a pod of a service account finds mounted, token and authority, into a
// directory, and returns the server's URL.
func (c *Cluster) Account(dir, namespace, account string) (server string) {
	c.t.Helper()
	authority, err := os.ReadFile(c.file("server.crt"))
	if err != nil {
		c.t.Fatal(err)
	}
	for name, text := range map[string]string{"token": c.token(namespace, account), "ca.crt": string(authority)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	return fmt.Sprintf("https://127.0.0.1:%d", c.port)
}

// Kubeconfig writes a kubeconfig for a service account that exists and returns its path.
// The server is reached on port; 0 is its own.
func (c *Cluster) Kubeconfig(namespace, account string, port int) string {
	c.t.Helper()
	token := c.token(namespace, account)
	if port == 0 {
		port = c.port
	}
	path := c.file(fmt.Sprintf("kubeconfig-%s-%d", account, port))
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: it
contexts: [{name: it, context: {cluster: it, user: it}}]
clusters: [{name: it, cluster: {server: "https://127.0.0.1:%d", certificate-authority: %s}}]
users: [{name: it, user: {token: %s}}]
`, port, c.file("server.crt"), token)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}
