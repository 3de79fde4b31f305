// Package kubetest starts a real Kubernetes API server, with etcd behind it, for tests:
// with RBAC on, over TLS, on loopback, and able to die and come back.
//
// It ends what it started, also when the test process is killed. There is nothing else of
// a cluster: no kubelet, no scheduler, no controller. It never touches a kubeconfig or a
// cluster of the user's.
package kubetest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Cluster is an API server and its etcd.
type Cluster struct {
	t      testing.TB
	dir    string
	bin    string
	port   int // of the API server
	etcd   int // of etcd's clients
	client *http.Client
	server *process
}

// Start starts both and waits until the API server is ready. It skips the test where they
// are not built.
func Start(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{t: t, dir: t.TempDir(), bin: binaries(t)}
	c.port, c.etcd = freePort(t), freePort(t)
	if err := c.credentials(); err != nil {
		t.Fatal(err)
	}
	peer := freePort(t)
	etcd := c.run("etcd", "--data-dir", filepath.Join(c.dir, "etcd"), "--unsafe-no-fsync", "--logger=zap", "--log-level=error",
		"--listen-client-urls", local(c.etcd), "--advertise-client-urls", local(c.etcd),
		"--listen-peer-urls", local(peer), "--initial-advertise-peer-urls", local(peer), "--initial-cluster", "default="+local(peer))
	t.Cleanup(etcd.kill)
	c.Restart()
	t.Cleanup(c.Kill)
	return c
}

// binaries is where scripts/kube.sh leaves them.
func binaries(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("needs kube-apiserver and etcd: %v", err)
	}
	dir := filepath.Join(cache, "millrace", "kube", "current")
	for _, name := range []string{"kube-apiserver", "etcd"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Skipf("needs %s: scripts/kube.sh builds it, once, in some minutes", filepath.Join(dir, name))
		}
	}
	return dir
}

func local(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }

// freePort is one that was free a moment ago.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Kill ends the API server without warning; etcd stays. It does nothing when it is dead.
func (c *Cluster) Kill() {
	if c.server != nil {
		c.server.kill()
		c.server = nil
	}
}

// Restart starts the API server, on the same port and the same etcd, unless it runs, and
// waits until it is ready.
func (c *Cluster) Restart() {
	c.t.Helper()
	if c.server != nil {
		return
	}
	c.server = c.run("kube-apiserver",
		"--etcd-servers", local(c.etcd), "--bind-address=127.0.0.1", "--secure-port", fmt.Sprint(c.port),
		"--tls-cert-file", c.file("server.crt"), "--tls-private-key-file", c.file("server.key"),
		// Nobody reaches it here; it only has to be one that is not loopback.
		"--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=10.96.0.0/16,fd96::/112", "--authorization-mode=RBAC", "--token-auth-file", c.file("tokens.csv"),
		"--service-account-issuer=https://kubetest", "--service-account-signing-key-file", c.file("server.key"), "--service-account-key-file", c.file("server.key"),
		// No controller makes the service accounts that pods would have to have.
		"--disable-admission-plugins=ServiceAccount", "--profiling=false", "--v=0")
	c.waitReady()
}

func (c *Cluster) waitReady() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	last := ""
	for ; ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		status, body, err := c.request(ctx, http.MethodGet, "/readyz?verbose", "", nil)
		if err == nil && status == http.StatusOK {
			return
		}
		last = fmt.Sprint(status, " ", string(body), err)
		select {
		case <-c.server.ended:
			c.t.Fatalf("kube-apiserver ended: %v\n%s", c.server.err, c.server.tail())
		default:
		}
	}
	c.t.Fatalf("kube-apiserver is not ready: %s\n%s", last, c.server.tail())
}

// run starts one of the binaries; what it prints goes to a file.
func (c *Cluster) run(name string, args ...string) *process {
	c.t.Helper()
	output, err := os.OpenFile(c.file(name+".log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	p, err := start(exec.Command(filepath.Join(c.bin, name), args...), output)
	if err != nil {
		c.t.Fatalf("start %s: %v", name, err)
	}
	return p
}

func (c *Cluster) file(name string) string { return filepath.Join(c.dir, name) }

// Compact makes etcd forget all revisions before the present one.
func (c *Cluster) Compact() {
	c.t.Helper()
	ask := func(path, body string) string {
		reply, err := http.Post(local(c.etcd)+path, "application/json", strings.NewReader(body))
		if err != nil {
			c.t.Fatal(err)
		}
		defer reply.Body.Close()
		text, err := io.ReadAll(reply.Body)
		if err != nil || reply.StatusCode != http.StatusOK {
			c.t.Fatalf("etcd %s: %s %s %v", path, reply.Status, text, err)
		}
		return string(text)
	}
	// The reply's header holds the revision as a decimal string.
	text := ask("/v3/kv/range", `{"key":"AA=="}`)
	_, rest, _ := strings.Cut(text, `"revision":"`)
	revision, _, ok := strings.Cut(rest, `"`)
	if !ok {
		c.t.Fatalf("etcd names no revision: %s", text)
	}
	ask("/v3/kv/compaction", fmt.Sprintf(`{"revision":"%s","physical":true}`, revision))
}
