package watch

import "testing"

// TestKinds: objects as people write them, and what is kept of each.
func TestKinds(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"a policy of only what it selects isolates ingress", `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: web, uid: u}
spec: {podSelector: {}}`,
			`networkpolicy web/deny uid=u spec="{\"podSelector\":{},\"policyTypes\":[\"Ingress\"]}"`},
		{"egress rules mean egress, and ports mean TCP", `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: out}
spec: {podSelector: {}, egress: [{ports: [{port: 53}, {port: dns, protocol: UDP}]}]}`,
			`networkpolicy default/out spec="{\"podSelector\":{},\"egress\":[{\"ports\":[{\"protocol\":\"TCP\",\"port\":53},{\"protocol\":\"UDP\",\"port\":\"dns\"}]}],\"policyTypes\":[\"Ingress\",\"Egress\"]}"`},
		{"types that are given stay", `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: out}
spec: {podSelector: {}, policyTypes: [Egress]}`,
			`networkpolicy default/out spec="{\"podSelector\":{},\"policyTypes\":[\"Egress\"]}"`},
		{"a cluster policy stays as it is", `
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: deny}
spec: {tier: Admin, priority: 7, subject: {namespaces: {}}, ingress: [{name: all, action: Deny, from: [{namespaces: {}}]}]}`,
			`clusternetworkpolicy deny spec="{\"tier\":\"Admin\",\"priority\":7,\"subject\":{\"namespaces\":{}},\"ingress\":[{\"name\":\"all\",\"action\":\"Deny\",\"from\":[{\"namespaces\":{}}]}]}"`},
		{"a service with everything", `
apiVersion: v1
kind: Service
metadata: {name: web, uid: s}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10, "fd02::10"]
  externalIPs: [192.0.2.1]
  ports: [{name: http, port: 80, nodePort: 30080, targetPort: www}, {name: dns, port: 53, protocol: UDP}]
  internalTrafficPolicy: Local
  externalTrafficPolicy: Local
  healthCheckNodePort: 30000
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 30}}
  loadBalancerSourceRanges: [198.51.100.0/24]
  trafficDistribution: PreferSameNode
status: {loadBalancer: {ingress: [{ip: 192.0.2.2}, {ip: 192.0.2.3, ipMode: Proxy}, {hostname: lb.example.org}]}}`,
			`service default/web uid=s clusterip=10.96.0.10 clusterip=fd02::10 externalip=192.0.2.1 loadbalancerip=192.0.2.2 source=198.51.100.0/24 port=http:80/TCP/30080 port=dns:53/UDP internal-local=true external-local=true affinity=30 healthcheck=30000 prefer=PreferSameNode`},
		{"affinity has a default", `
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.10, sessionAffinity: ClientIP}`,
			`service default/web clusterip=10.96.0.10 affinity=10800`},
		{"headless", "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: None}}", ""},
		{"a name outside", "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {type: ExternalName, externalName: example.org}}", ""},
		{"of another proxy", "{apiVersion: v1, kind: Service, metadata: {name: web, labels: {service.kubernetes.io/service-proxy-name: other}}, spec: {clusterIP: 10.96.0.10}}", ""},
		{"a slice", `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-x, namespace: ns, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: any, protocol: UDP}]
endpoints:
- {addresses: [10.1.0.5, 10.1.0.99], nodeName: a}
- {addresses: [10.1.0.6], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.1.0.7], conditions: {ready: false}}`,
			`endpointslice ns/web-x service=web port=http:8080/TCP endpoint="10.1.0.5 node=a ready=true serving=true" endpoint="10.1.0.6 serving=true terminating=true" endpoint=10.1.0.7`},
		{"a slice of names", "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s, labels: {kubernetes.io/service-name: web}}, addressType: FQDN, endpoints: [{addresses: [example.org]}]}", ""},
		{"a slice of nothing", "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s}, addressType: IPv4}", ""},
		{"ports of the node", `
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
  - ports: [{name: http, containerPort: 80, hostPort: 8080}, {containerPort: 53, hostPort: 53, protocol: UDP, hostIP: 192.0.2.1}, {containerPort: 9}]
  initContainers:
  - {restartPolicy: Always, ports: [{containerPort: 81, hostPort: 8081, hostIP: "::"}]}
  - ports: [{containerPort: 82, hostPort: 8082}]`,
			`pod default/p port=http:80/TCP hostport=8080:80/TCP hostport=192.0.2.1:53:53/UDP hostport=[::]:8081:81/TCP`},
		{"ports of a pod in the node's network", "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {hostNetwork: true, containers: [{ports: [{containerPort: 80, hostPort: 80}]}]}}", "pod default/p hostnetwork=true"},
		{"a mirror of a static pod", "{apiVersion: v1, kind: Pod, metadata: {name: p, uid: m, annotations: {kubernetes.io/config.mirror: s}}}", "pod default/p uid=s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFacts()
			if err := f.decode("f", []byte(tt.text)); err != nil {
				t.Fatal(err)
			}
			want := "revision 0\n"
			if tt.want != "" {
				want += tt.want + "\n"
			}
			if got := f.snapshot.String(); got != want {
				t.Errorf("facts are\n%s\nwant\n%s", got, want)
			}
		})
	}
}
