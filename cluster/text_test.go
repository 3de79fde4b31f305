package cluster

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/millrace/millrace/internal/memifspec"
	"github.com/millrace/millrace/internal/secret"
)

var equalAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// hiddenSecrets takes those of the Secrets, of which the text form has nothing, for equal.
var hiddenSecrets = cmp.FilterPath(func(p cmp.Path) bool {
	return len(p) > 2 && strings.Contains(p.GoString(), ".Secrets")
}, cmp.Comparer(func(a, b secret.Text) bool { return true }))
var equalPrefixes = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

func sample() Snapshot {
	web := PodKey{"default", "web"}
	id := AttachmentID{"3fa9", "eth0"}
	odd := AttachmentID{"c=1", "net 1"}
	secondary := AttachmentID{"3fa9", "net1"}
	return Snapshot{
		Revision: 7,
		Nodes: map[string]Node{"worker-1": {
			Name:      "worker-1",
			Labels:    map[string]string{"zone": "a", "empty": ""},
			Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")},
			PodCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")},
		}},
		Namespaces: map[string]Namespace{"default": {Name: "default", Labels: map[string]string{"a": "b=c"}}},
		Pods: map[PodKey]Pod{web: {
			Key: web, UID: "1f", Node: "worker-1", HostNetwork: true, Phase: corev1.PodRunning,
			Labels:      map[string]string{"app": "web"},
			Annotations: map[string]string{"millrace.io/memif": `[{"name": "memif0"}]`},
			Addresses:   []netip.Addr{netip.MustParseAddr("10.1.0.5")},
			Ports:       []Port{{"http", 80, corev1.ProtocolTCP}},
			HostPorts: []HostPort{
				{Port: 8080, Container: 80, Protocol: corev1.ProtocolTCP},
				{HostIP: netip.MustParseAddr("10.0.0.1"), Port: 53, Container: 53, Protocol: corev1.ProtocolUDP},
				{HostIP: netip.IPv6Unspecified(), Port: 53, Container: 5353, Protocol: corev1.ProtocolUDP},
			},
		}},
		NetworkPolicies: map[PolicyKey]NetworkPolicy{{"default", "web"}: {
			Key: PolicyKey{"default", "web"}, UID: "2a", Spec: networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Ingress"}},
		}},
		ClusterPolicies: map[string]ClusterPolicy{"deny": {
			Name: "deny", UID: "2b", Spec: policyv1alpha2.ClusterNetworkPolicySpec{Tier: policyv1alpha2.AdminTier, Priority: 3},
		}},
		Services: map[ServiceKey]Service{{"default", "web"}: {
			Key: ServiceKey{"default", "web"}, UID: "3c", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd02::10")},
			ExternalIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, LoadBalancerIPs: []netip.Addr{netip.MustParseAddr("192.0.2.2")},
			SourceRanges:  []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
			Ports:         []ServicePort{{"", corev1.ProtocolTCP, 80, 30080}, {"dns", corev1.ProtocolUDP, 53, 0}},
			InternalLocal: true, ExternalLocal: true, AffinitySeconds: 10800, HealthCheckPort: 30000, TrafficPreference: "PreferClose",
		}},
		EndpointSlices: map[ServiceKey]EndpointSlice{{"default", "web-x7"}: {
			Key: ServiceKey{"default", "web-x7"}, Service: "web", Ports: []Port{{"", 8080, corev1.ProtocolTCP}},
			Endpoints: []Endpoint{
				{Address: netip.MustParseAddr("10.1.0.5"), Node: "worker-1", Ready: true, Serving: true},
				{Address: netip.MustParseAddr("10.1.0.6"), Serving: true, Terminating: true},
			},
		}},
		Secrets: map[SecretKey]Secret{{"default", "keys"}: {
			Key: SecretKey{"default", "keys"}, Data: map[string]secret.Text{"psk": secret.New("hidden away", secret.Salt{}), "a b": {}},
		}},
		Attachments: map[AttachmentID]Attachment{
			id: {
				ID: id, Netns: "/run/netns/a b", Pod: web, PodUID: "1f", Network: "millrace",
				Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("fd01::5")},
				MTU:       1500, Revision: 7,
			},
			secondary: {
				ID: secondary, Netns: "/run/netns/a b", Device: DeviceMemif, Revision: 8,
				Memifs: []Memif{
					{Spec: memifspec.Spec{Name: "net1", Mode: memifspec.IP, RxQueues: 1, TxQueues: 255, RingSize: 2, BufferSize: 65535}},
					{
						Spec: memifspec.Spec{
							Name: "memif0", RxQueues: 4, TxQueues: 4, RingSize: 1024, BufferSize: 2048,
							Secret: memifspec.SecretRef{Name: "keys", Key: "psk"},
						},
						Password:  secret.New("hidden away", secret.Salt{1}),
						Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.6"), netip.MustParseAddr("fd01::6")},
					},
				},
			},
			odd: {ID: odd, Netns: "/proc/1/ns/net\n", Revision: 3},
		},
	}
}

func TestSnapshotText(t *testing.T) {
	want := sample()
	text := want.String()
	got, err := ParseSnapshot(text)
	if err != nil {
		t.Fatalf("parse:\n%s\n%v", text, err)
	}
	if diff := cmp.Diff(want, got, equalAddrs, equalPrefixes, hiddenSecrets); diff != "" {
		t.Errorf("text changed the snapshot (-want +got):\n%s\n%s", diff, text)
	}
	if again := got.String(); again != text {
		t.Errorf("printed again:\n%s\nfirst:\n%s", again, text)
	}
	const golden = `revision 7
node worker-1 address=10.0.0.1 address=fd00::1 podcidr=10.1.0.0/24 label=empty= label=zone=a
namespace default label=a=b=c
pod default/web uid=1f node=worker-1 hostnetwork=true phase=Running address=10.1.0.5 port=http:80/TCP hostport=8080:80/TCP hostport=10.0.0.1:53:53/UDP hostport=[::]:53:5353/UDP label=app=web annotation="millrace.io/memif=[{\"name\": \"memif0\"}]"
networkpolicy default/web uid=2a spec="{\"podSelector\":{},\"policyTypes\":[\"Ingress\"]}"
clusternetworkpolicy deny uid=2b spec="{\"tier\":\"Admin\",\"priority\":3,\"subject\":{}}"
service default/web uid=3c clusterip=10.96.0.10 clusterip=fd02::10 externalip=192.0.2.1 loadbalancerip=192.0.2.2 source=198.51.100.0/24 port=:80/TCP/30080 port=dns:53/UDP internal-local=true external-local=true affinity=10800 healthcheck=30000 prefer=PreferClose
endpointslice default/web-x7 service=web port=:8080/TCP endpoint="10.1.0.5 node=worker-1 ready=true serving=true" endpoint="10.1.0.6 serving=true terminating=true"
secret default/keys key="a b" key=psk
attachment 3fa9/eth0 pod=default/web uid=1f netns="/run/netns/a b" network=millrace address=10.1.0.5 address=fd01::5 mtu=1500 revision=7
attachment 3fa9/net1 netns="/run/netns/a b" device=memif memif="net1 mode=ip rx-queues=1 tx-queues=255 ring=2 buffer=65535" memif="memif0 mode=ethernet rx-queues=4 tx-queues=4 ring=1024 buffer=2048 secret=keys/psk password=fb8a243bcd3a address=10.1.0.6 address=fd01::6" revision=8
attachment "c=1/net 1" netns="/proc/1/ns/net\n" revision=3
`
	if text != golden {
		t.Errorf("text form is\n%s\nwant\n%s", text, golden)
	}
}

func TestAttachmentText(t *testing.T) {
	for id, a := range sample().Attachments {
		got, err := ParseAttachment(a.String())
		if err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		if diff := cmp.Diff(a, got, equalAddrs); diff != "" {
			t.Errorf("%s: %s", id, diff)
		}
	}
}

func TestParseErrors(t *testing.T) {
	tests := []struct{ text, want string }{
		{"pod web", `line 1: parse pod "web"`},
		{"\n# a comment\nnode a colour=red", "line 3: a: field colour: unknown here"},
		{"node a podcidr=1.2.3.4", "field podcidr"},
		{"node a\nnode a", "line 2: a stands twice"},
		{"ingress a/b", `no kind of fact is called "ingress"`},
		{"service a", `parse name "a"`},
		{"service a/b port=x:80/TCP/70000", `parse port "x:80/TCP/70000": 70000 is too large`},
		{"endpointslice a/b endpoint=x", "field endpoint: ParseAddr"},
		{"endpointslice a/b endpoint=\"10.0.0.1 red=true\"", "field endpoint: field red"},
		{"attachment abc", "want containerID/ifName"},
		{"attachment a/b/c", "want containerID/ifName"},
		{"attachment a/b mtu=-1", "field mtu"},
		{"attachment a/b mtu=1 mtu=2", "field mtu: unknown here, or given twice"},
		{"revision x", "invalid syntax"},
		{"pod a/b port=80/TCP", `parse port "80/TCP"`},
		{"pod a/b label=x", "field label"},
		{`node "a`, "unfinished quote"},
		{"node a b", "3 words"},
		{"secret a", `parse secret "a"`},
		{"secret a/b psk=x", "field psk"},
		{"attachment a/b device=kernel", "field device"},
		{"attachment a/b memif=\"\"", "field memif: want a name"},
		{"attachment a/b memif=\"m mode=punt\"", "field memif: field mode"},
		{"attachment a/b memif=\"m rx-queues=256\"", "field memif: field rx-queues"},
		{"attachment a/b memif=\"m password=hidden\"", "field memif: field password"},
	}
	for _, tt := range tests {
		_, err := ParseSnapshot(tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ParseSnapshot(%q) = %v, want an error with %q", tt.text, err, tt.want)
		}
	}
}

func TestWithAttachmentsKeepsTheNewest(t *testing.T) {
	id := AttachmentID{"a", "eth0"}
	s := sample().WithAttachments(9, []Attachment{{ID: id, Revision: 9}, {ID: id, Revision: 8}})
	if got := s.Attachments[id].Revision; got != 9 || len(s.Attachments) != 1 || s.Revision != 9 {
		t.Errorf("revision %d of %d attachments in snapshot %d, want 9 of 1 in 9", got, len(s.Attachments), s.Revision)
	}
}

func FuzzParseSnapshot(f *testing.F) {
	f.Add(sample().String())
	f.Add(`attachment "\u00ff/eth0" revision=1`)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSnapshot(text)
		if err != nil {
			return
		}
		again, err := ParseSnapshot(s.String())
		if err != nil {
			t.Fatalf("cannot read what was printed: %v\n%s", err, s)
		}
		if s.String() != again.String() {
			t.Fatalf("text is not stable:\n%s\n%s", s, again)
		}
	})
}
