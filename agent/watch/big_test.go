package watch

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/millrace/millrace/cluster"
)

// big is a simulated API server with so many objects of each kind, made as they are asked
// for, which speaks as a real one does to a Reflector: a stream of all there is in
// protobuf, its end, then silence.
type big struct{ nodes, namespaces, pods, policies, services, perService int }

const podsPerOwner = 10

func managed() []metav1.ManagedFieldsEntry {
	fields := `{"f:metadata":{"f:labels":{".":{},"f:app.kubernetes.io/name":{},"f:app.kubernetes.io/instance":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"app\"}":{".":{},"f:image":{},"f:env":{},"f:resources":{}}}}}`
	return []metav1.ManagedFieldsEntry{
		{Manager: "kube-controller-manager", Operation: "Update", APIVersion: "v1", FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields)},
		{Manager: "kubelet", Operation: "Update", APIVersion: "v1", FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields), Subresource: "status"},
	}
}

func (b big) meta(i int, name, namespace string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: name, Namespace: namespace, UID: types.UID(fmt.Sprintf("%08x-1155-4b42-891a-7a7927c7ae46", i)), ResourceVersion: fmt.Sprint(i + 1),
		CreationTimestamp: metav1.Unix(1700000000, 0), ManagedFields: managed(),
	}
}

func (b big) namespaceOf(i, of int) string {
	return fmt.Sprintf("team-%04d", i*b.namespaces/max(of, 1))
}

func (b big) pod(i int) k8sruntime.Object {
	owner := i / podsPerOwner
	m := b.meta(i, fmt.Sprintf("checkout-service-%05d-5d8f9c7b6-%05x", owner, i), b.namespaceOf(i, b.pods))
	m.Labels = map[string]string{
		"app.kubernetes.io/name": fmt.Sprintf("checkout-service-%05d", owner), "app.kubernetes.io/instance": "production",
		"app.kubernetes.io/component": "backend", "app.kubernetes.io/part-of": fmt.Sprintf("shop-%d", owner%50), "pod-template-hash": fmt.Sprintf("5d8f9c7b6%d", owner),
	}
	m.Annotations = map[string]string{"prometheus.io/scrape": "true", "kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z", "checksum/config": strings.Repeat("0123456789abcdef", 4)}
	container := corev1.Container{
		Name: "app", Image: "registry.example.org/shop/checkout@sha256:" + strings.Repeat("0123456789abcdef", 4),
		Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: "TCP"}, {Name: "metrics", ContainerPort: 9090, Protocol: "TCP"}},
	}
	for e := range 15 {
		container.Env = append(container.Env, corev1.EnvVar{Name: fmt.Sprintf("SETTING_%d", e), Value: "some value of a usual length"})
	}
	status := corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: b.podIP(i), HostIP: "10.0.0.1",
		PodIPs:            []corev1.PodIP{{IP: b.podIP(i)}, {IP: fmt.Sprintf("fd01::%x:%x", i>>16, i&0xffff)}},
		ContainerStatuses: []corev1.ContainerStatus{{Name: "app", Ready: true, Image: container.Image, ImageID: container.Image, ContainerID: "containerd://" + strings.Repeat("0123456789abcdef", 4)}},
	}
	for _, c := range []corev1.PodConditionType{"PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"} {
		status.Conditions = append(status.Conditions, corev1.PodCondition{Type: c, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Unix(1700000000, 0)})
	}
	return &corev1.Pod{ObjectMeta: m, Spec: corev1.PodSpec{NodeName: fmt.Sprintf("ip-10-0-%04d.eu-central-1.compute.internal", i%max(b.nodes, 1)), Containers: []corev1.Container{container, container}}, Status: status}
}

func (b big) podIP(i int) string { return fmt.Sprintf("10.%d.%d.%d", 64+i>>16, i>>8&255, i&255) }

func (b big) node(i int) k8sruntime.Object {
	name := fmt.Sprintf("ip-10-0-%04d.eu-central-1.compute.internal", i)
	m := b.meta(i, name, "")
	m.Labels = map[string]string{"kubernetes.io/hostname": name, "node-role.kubernetes.io/worker": ""}
	for l := range 20 {
		m.Labels[fmt.Sprintf("node.example.org/property-%d", l)] = fmt.Sprint(i % (l + 2))
	}
	return &corev1.Node{ObjectMeta: m, Spec: corev1.NodeSpec{PodCIDRs: []string{fmt.Sprintf("10.%d.%d.0/24", 64+i>>8, i&255)}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: "InternalIP", Address: fmt.Sprintf("10.0.%d.%d", i>>8, i&255)}, {Type: "Hostname", Address: name}}}}
}

func (b big) namespace(i int) k8sruntime.Object {
	name := fmt.Sprintf("team-%04d", i)
	m := b.meta(i, name, "")
	m.Labels = map[string]string{"kubernetes.io/metadata.name": name, "team": name, "stage": "production"}
	return &corev1.Namespace{ObjectMeta: m}
}

func (b big) policy(i int) k8sruntime.Object {
	labels := func(n int) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/name": fmt.Sprintf("checkout-service-%05d", n)}}
	}
	tcp, port := corev1.ProtocolTCP, intstr.FromInt32(8080)
	return &networkingv1.NetworkPolicy{ObjectMeta: b.meta(i, fmt.Sprintf("allow-%05d", i), b.namespaceOf(i, b.policies)), Spec: networkingv1.NetworkPolicySpec{
		PodSelector: *labels(i), PolicyTypes: []networkingv1.PolicyType{"Ingress", "Egress"},
		Ingress: []networkingv1.NetworkPolicyIngressRule{{
			From:  []networkingv1.NetworkPolicyPeer{{PodSelector: labels(i + 1), NamespaceSelector: &metav1.LabelSelector{}}, {IPBlock: &networkingv1.IPBlock{CIDR: "192.0.2.0/24"}}},
			Ports: []networkingv1.NetworkPolicyPort{{Protocol: &tcp, Port: &port}},
		}},
		Egress: []networkingv1.NetworkPolicyEgressRule{{To: []networkingv1.NetworkPolicyPeer{{PodSelector: labels(i + 2)}}, Ports: []networkingv1.NetworkPolicyPort{{Protocol: &tcp, Port: &port}}}},
	}}
}

func (b big) service(i int) k8sruntime.Object {
	return &corev1.Service{ObjectMeta: b.meta(i, fmt.Sprintf("checkout-service-%05d", i), b.namespaceOf(i, b.services)), Spec: corev1.ServiceSpec{
		ClusterIP: fmt.Sprintf("10.96.%d.%d", i>>8, i&255), ClusterIPs: []string{fmt.Sprintf("10.96.%d.%d", i>>8, i&255)},
		Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: "TCP"}, {Name: "metrics", Port: 9090, Protocol: "TCP"}},
	}}
}

func (b big) slice(i int) k8sruntime.Object {
	m := b.meta(i, fmt.Sprintf("checkout-service-%05d-x7k2p", i), b.namespaceOf(i, b.services))
	m.Labels = map[string]string{discoveryv1.LabelServiceName: fmt.Sprintf("checkout-service-%05d", i)}
	name, tcp, port := "http", corev1.ProtocolTCP, int32(8080)
	s := &discoveryv1.EndpointSlice{ObjectMeta: m, AddressType: "IPv4", Ports: []discoveryv1.EndpointPort{{Name: &name, Protocol: &tcp, Port: &port}}}
	for e := range b.perService {
		node := fmt.Sprintf("ip-10-0-%04d.eu-central-1.compute.internal", (i+e)%max(b.nodes, 1))
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{b.podIP(i*b.perService + e)}, NodeName: &node})
	}
	return s
}

// ServeHTTP streams the kind that a path ends with.
func (b big) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kinds := map[string]struct {
		n     int
		make  func(int) k8sruntime.Object
		group schema.GroupVersion
	}{
		"nodes": {b.nodes, b.node, corev1.SchemeGroupVersion}, "namespaces": {b.namespaces, b.namespace, corev1.SchemeGroupVersion},
		"pods": {b.pods, b.pod, corev1.SchemeGroupVersion}, "services": {b.services, b.service, corev1.SchemeGroupVersion},
		"networkpolicies": {b.policies, b.policy, networkingv1.SchemeGroupVersion}, "endpointslices": {b.services, b.slice, discoveryv1.SchemeGroupVersion},
	}
	kind, ok := kinds[filepath.Base(r.URL.Path)]
	if !ok || r.URL.Query().Get("sendInitialEvents") != "true" {
		http.NotFound(w, r)
		return
	}
	scheme := k8sruntime.NewScheme()
	for _, add := range []func(*k8sruntime.Scheme) error{corev1.AddToScheme, networkingv1.AddToScheme, discoveryv1.AddToScheme} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	codecs := serializer.NewCodecFactory(scheme)
	info, _ := k8sruntime.SerializerInfoForMediaType(codecs.SupportedMediaTypes(), k8sruntime.ContentTypeProtobuf)
	encoder := codecs.EncoderForVersion(info.Serializer, kind.group)
	frames := info.StreamSerializer.NewFrameWriter(w)
	send := func(event string, o k8sruntime.Object) bool {
		text, err := k8sruntime.Encode(encoder, o)
		if err != nil {
			panic(err)
		}
		return info.StreamSerializer.Encode(&metav1.WatchEvent{Type: event, Object: k8sruntime.RawExtension{Raw: text}}, frames) == nil
	}
	w.Header().Set("Content-Type", k8sruntime.ContentTypeProtobuf+";stream=watch")
	for i := range kind.n {
		if !send("ADDED", kind.make(i)) {
			return
		}
	}
	end := kind.make(0)
	end.(metav1.Object).SetResourceVersion("10000000")
	end.(metav1.Object).SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	send("BOOKMARK", end)
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

// kubeconfigFor writes a kubeconfig for a server without authentication.
func kubeconfigFor(t testing.TB, url string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\ncurrent-context: it\ncontexts: [{name: it, context: {cluster: it}}]\nclusters: [{name: it, cluster: {server: \"" + url + "\"}}]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// synced runs an API on a server and returns when it knows everything.
func synced(t testing.TB, url string) *API {
	t.Helper()
	a, err := NewAPI(APIConfig{Kubeconfig: kubeconfigFor(t, url), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	runAPI(t, a)
	if err := a.WaitSynced(t.Context()); err != nil {
		t.Fatal(err)
	}
	return a
}

// heap is what is in use after a collection, in bytes.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestBytesPerObject holds what one object of each kind costs below a bound: the objects of
// the simulated cluster are like those of real ones, and what is kept of them is little.
func TestBytesPerObject(t *testing.T) {
	tests := []struct {
		name  string
		big   big
		n     int64
		bound int64 // bytes
	}{
		{"pods", big{pods: 20000, namespaces: 100, nodes: 200}, 20000, 700},
		{"policies", big{policies: 5000, namespaces: 100}, 5000, 3000},
		{"nodes", big{nodes: 2000}, 2000, 3500},
		{"endpoints", big{services: 500, perService: 50, namespaces: 10, nodes: 100}, 500 * 50, 150},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(tt.big)
			t.Cleanup(server.Close)
			before := heap()
			a := synced(t, server.URL)
			each := (heap() - before) / tt.n
			t.Logf("%d bytes of heap for each of %d %s", each, tt.n, tt.name)
			if each > tt.bound {
				t.Errorf("%d bytes for each of %d %s, want at most %d", each, tt.n, tt.name, tt.bound)
			}
			s := a.Snapshot()
			if len(s.Pods) != tt.big.pods || len(s.NetworkPolicies) != tt.big.policies || len(s.Nodes) != tt.big.nodes || len(s.EndpointSlices) != tt.big.services {
				t.Errorf("%d pods, %d policies, %d nodes, %d slices came", len(s.Pods), len(s.NetworkPolicies), len(s.Nodes), len(s.EndpointSlices))
			}
		})
	}
}

// bigServer says that this process is the simulated server of another one's benchmark, so
// that its memory is not that one's.
const bigServer = "MILLRACE_WATCH_BIG_SERVER"

// theBigCluster is one of the largest that Kubernetes means to support.
var theBigCluster = big{nodes: 5000, namespaces: 1000, pods: 150_000, policies: 10_000, services: 5000, perService: 30}

func TestMain(m *testing.M) {
	if os.Getenv(bigServer) != "" {
		server := httptest.NewServer(theBigCluster)
		fmt.Println(server.URL)
		_, _ = io.Copy(io.Discard, os.Stdin) // the parent's end of the pipe ends this process
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// BenchmarkBigCluster knows all of a big cluster: what that takes of memory, and what one
// changed pod costs then.
func BenchmarkBigCluster(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(50)) // as the agent has it
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), bigServer+"=1")
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := child.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := child.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { stdin.Close(); child.Wait() })
	url, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	before, begin := heap(), time.Now()
	a := synced(b, strings.TrimSpace(url))
	took := time.Since(begin)
	held := heap() - before
	peak := resident(b, "VmHWM:")
	debug.FreeOSMemory()
	rest := resident(b, "VmRSS:")
	var seen cluster.Snapshot // the loop still has the one before
	n := 0
	for b.Loop() {
		n++
		pod := theBigCluster.pod(n % theBigCluster.pods).(*corev1.Pod)
		pod.Labels["version"] = fmt.Sprint(n)
		if err := a.pods.Update(pod); err != nil {
			b.Fatal(err)
		}
		a.publish()
		if n%2 == 0 {
			seen = a.Snapshot()
		}
	}
	b.ReportMetric(took.Seconds(), "s-to-know")
	b.ReportMetric(float64(held)/1e6, "MB-heap")
	b.ReportMetric(peak, "MB-RSS-peak")
	b.ReportMetric(rest, "MB-RSS")
	b.ReportMetric(resident(b, "VmHWM:"), "MB-RSS-peak-changing")
	if len(seen.Pods) != theBigCluster.pods && n > 1 {
		b.Fatalf("%d pods", len(seen.Pods))
	}
}

// resident reads a line of this process's status, in MB.
func resident(b *testing.B, line string) float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), line)
	var kb float64
	if _, err := fmt.Sscanf(rest, "%f kB", &kb); err != nil {
		b.Fatal(err)
	}
	return kb * 1024 / 1e6
}
