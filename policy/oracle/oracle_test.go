package oracle_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/agent/watch"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/policy/oracle"
)

// town is the cluster that the tables below put policies into.
const town = `
{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {zone: a}}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}, {type: InternalIP, address: "2001:db8::1"}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2, labels: {zone: b}}, status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: blue}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: lab, labels: {team: red}}}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: db, labels: {app: db}}
spec:
  nodeName: n1
  containers:
  - {name: c, ports: [{name: sql, containerPort: 5432}, {name: dns, containerPort: 53, protocol: UDP}]}
status: {phase: Running, podIPs: [{ip: 10.1.0.1}, {ip: "fd00::1"}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: web, labels: {app: web}}
spec:
  nodeName: n2
  containers: [{name: c, ports: [{name: sql, containerPort: 3306}]}]
status: {phase: Running, podIPs: [{ip: 10.1.0.2}, {ip: "fd00::2"}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: lab, name: probe, labels: {app: web}}
spec: {nodeName: n1, containers: []}
status: {phase: Running, podIPs: [{ip: 10.1.0.3}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: lab, name: done, labels: {app: web}}
spec: {nodeName: n1, containers: []}
status: {phase: Succeeded, podIPs: [{ip: 10.1.0.4}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: lab, name: host, labels: {app: web}}
spec: {nodeName: n2, hostNetwork: true, containers: [{name: c, ports: [{name: sql, containerPort: 7000}]}]}
status: {phase: Running, podIPs: [{ip: 192.0.2.2}]}
`

// facts reads town and more objects.
func facts(t *testing.T, more string) cluster.Snapshot {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "facts.yaml"), []byte(town+"---\n"+more), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := watch.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d.Snapshot()
}

// flow reads "from to port/protocol", or "from to icmp/type"; names stand for addresses.
func flow(t *testing.T, text string) oracle.Flow {
	t.Helper()
	names := map[string]string{
		"db": "10.1.0.1", "db6": "fd00::1", "web": "10.1.0.2", "web6": "fd00::2", "probe": "10.1.0.3", "done": "10.1.0.4",
		"n1": "192.0.2.1", "n1-6": "2001:db8::1", "n2": "192.0.2.2", "out": "198.51.100.7", "out6": "2001:db8:f::7",
	}
	words := strings.Fields(text)
	if len(words) != 3 {
		t.Fatalf("flow %q: want three words", text)
	}
	what, protocol, _ := strings.Cut(words[2], "/")
	f := oracle.Flow{From: netip.MustParseAddr(names[words[0]]), To: netip.MustParseAddr(names[words[1]])}
	switch what {
	case "icmp":
		f.Protocol = oracle.ICMP
		if f.From.Is6() {
			f.Protocol = oracle.ICMPv6
		}
		n, err := strconv.ParseUint(protocol, 10, 8)
		if err != nil {
			t.Fatal(err)
		}
		f.Type = uint8(n)
		return f
	case "gre":
		f.Protocol = 47
		return f
	}
	f.Protocol = map[string]uint8{"tcp": oracle.TCP, "udp": oracle.UDP, "sctp": oracle.SCTP}[protocol]
	n, err := strconv.ParseUint(what, 10, 16)
	if err != nil || f.Protocol == 0 {
		t.Fatalf("flow %q: %v", text, err)
	}
	f.Port = uint16(n)
	return f
}

// brief is a verdict as the tables write it: what was decided, in which direction and tier,
// by which policy and rule.
func brief(v oracle.Verdict) string {
	d := v.Deciding()
	word := "deny"
	if v.Allowed {
		word = "allow"
	}
	text := fmt.Sprintf("%s %s %s", word, d.Direction, d.Tier)
	if d.Policy != "" {
		_, name, _ := strings.Cut(d.Policy, " ")
		text += fmt.Sprintf(" %s %d", name, d.Rule)
	}
	return text
}

type table []struct {
	name, objects string
	flows         string // a flow, then "=", then the brief verdict; one a line
}

func (tt table) run(t *testing.T) {
	for _, tt := range tt {
		t.Run(tt.name, func(t *testing.T) {
			s := facts(t, tt.objects)
			var want, got []string
			for line := range strings.Lines(strings.TrimSpace(tt.flows)) {
				text, verdict, _ := strings.Cut(strings.TrimSpace(line), " = ")
				want = append(want, text+" = "+verdict)
				got = append(got, text+" = "+brief(oracle.Judge(s, flow(t, text))))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// np is a NetworkPolicy in namespace shop.
func np(name, spec string) string {
	return fmt.Sprintf("---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: shop, name: %s}, spec: %s}\n", name, spec)
}

// cnp is a ClusterNetworkPolicy about the pods of namespace shop.
func cnp(name, tier string, priority int, rest string) string {
	return fmt.Sprintf(`---
{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {name: %s}, spec: {tier: %s, priority: %d,
 subject: {namespaces: {matchLabels: {kubernetes.io/metadata.name: shop}}}, %s}}
`, name, tier, priority, rest)
}

func TestNetworkPolicy(t *testing.T) {
	table{
		{"no policy", "", `
			web db 80/tcp = allow ingress default
			out db icmp/8 = allow ingress default
			db out 53/udp = allow egress default
			n2 out 53/udp = allow egress none`},
		{"default deny", np("deny", "{podSelector: {}, policyTypes: [Ingress]}"), `
			web db 80/tcp = deny ingress NetworkPolicy shop/deny -1
			db web 80/tcp = deny ingress NetworkPolicy shop/deny -1
			web probe 80/tcp = allow ingress default
			n1 db 80/tcp = allow ingress always
			n1-6 db6 80/tcp = allow ingress always
			n2 db 80/tcp = deny ingress NetworkPolicy shop/deny -1
			out db icmp/8 = deny ingress NetworkPolicy shop/deny -1
			out db icmp/3 = allow ingress always
			out6 db6 icmp/2 = allow ingress always
			out6 db6 icmp/135 = allow ingress always
			out6 db6 icmp/128 = deny ingress NetworkPolicy shop/deny -1
			db db 80/tcp = allow ingress always
			db out 80/tcp = allow egress default`},
		{"types by what is there", np("p", "{podSelector: {matchLabels: {app: db}}, egress: [{ports: [{port: 53, protocol: UDP}]}]}"), `
			db out 53/udp = allow egress NetworkPolicy shop/p 0
			db out 53/tcp = deny egress NetworkPolicy shop/p -1
			db n1 53/tcp = deny egress NetworkPolicy shop/p -1
			out db 53/udp = deny ingress NetworkPolicy shop/p -1`},
		{"union", np("a", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}") + np("b", "{podSelector: {}, ingress: [{ports: [{port: 90}]}, {ports: [{port: 81, endPort: 85}]}]}"), `
			web db 80/tcp = allow ingress NetworkPolicy shop/a 0
			web db 90/tcp = allow ingress NetworkPolicy shop/b 0
			web db 85/tcp = allow ingress NetworkPolicy shop/b 1
			web db 86/tcp = deny ingress NetworkPolicy shop/a -1
			web db 85/udp = deny ingress NetworkPolicy shop/a -1
			web db icmp/8 = deny ingress NetworkPolicy shop/a -1`},
		{"no ports, all protocols", np("a", "{podSelector: {}, ingress: [{}]}"), `
			web db gre = allow ingress NetworkPolicy shop/a 0
			web db 9/sctp = allow ingress NetworkPolicy shop/a 0
			web db icmp/8 = allow ingress NetworkPolicy shop/a 0`},
		{"protocol alone", np("a", "{podSelector: {}, ingress: [{ports: [{protocol: SCTP}]}]}"), `
			web db 9/sctp = allow ingress NetworkPolicy shop/a 0
			web db 9/tcp = deny ingress NetworkPolicy shop/a -1
			web db gre = deny ingress NetworkPolicy shop/a -1`},
		{"pods of the own namespace", np("a", "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}"), `
			web db 80/tcp = allow ingress NetworkPolicy shop/a 0
			web6 db6 80/tcp = allow ingress NetworkPolicy shop/a 0
			probe db 80/tcp = deny ingress NetworkPolicy shop/a -1
			done db 80/tcp = deny ingress NetworkPolicy shop/a -1
			n2 db 80/tcp = deny ingress NetworkPolicy shop/a -1`},
		{"pods everywhere", np("a", "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}"), `
			probe db 80/tcp = allow ingress NetworkPolicy shop/a 0
			done db 80/tcp = deny ingress NetworkPolicy shop/a -1
			n2 db 80/tcp = deny ingress NetworkPolicy shop/a -1
			out db 80/tcp = deny ingress NetworkPolicy shop/a -1`},
		{"both selectors", np("a", "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [blue]}]}, podSelector: {matchExpressions: [{key: app, operator: Exists}]}}]}]}"), `
			probe db 80/tcp = allow ingress NetworkPolicy shop/a 0
			web db 80/tcp = deny ingress NetworkPolicy shop/a -1`},
		{"name of the namespace", np("a", "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: lab}}}]}]}"), `
			probe db 80/tcp = allow ingress NetworkPolicy shop/a 0
			web db 80/tcp = deny ingress NetworkPolicy shop/a -1`},
		{"blocks", np("a", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.1.0.0/16, except: [10.1.0.3/32]}}, {ipBlock: {cidr: '2001:db8:f::/48'}}]}]}"), `
			web db 80/tcp = allow ingress NetworkPolicy shop/a 0
			probe db 80/tcp = deny ingress NetworkPolicy shop/a -1
			done db 80/tcp = allow ingress NetworkPolicy shop/a 0
			web6 db6 80/tcp = deny ingress NetworkPolicy shop/a -1
			out6 db6 80/tcp = allow ingress NetworkPolicy shop/a 0`},
		{"named ports in", np("a", "{podSelector: {}, ingress: [{ports: [{port: sql}, {port: dns, protocol: UDP}]}]}"), `
			probe db 5432/tcp = allow ingress NetworkPolicy shop/a 0
			probe db 3306/tcp = deny ingress NetworkPolicy shop/a -1
			probe db 53/udp = allow ingress NetworkPolicy shop/a 0
			probe db 53/tcp = deny ingress NetworkPolicy shop/a -1
			probe web 3306/tcp = allow ingress NetworkPolicy shop/a 0`},
		{"named ports out", np("a", "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: sql}]}]}"), `
			web db 5432/tcp = allow egress NetworkPolicy shop/a 0
			db web 5432/tcp = deny egress NetworkPolicy shop/a -1
			db web 3306/tcp = allow egress NetworkPolicy shop/a 0
			db n2 7000/tcp = deny egress NetworkPolicy shop/a -1
			db out 5432/tcp = deny egress NetworkPolicy shop/a -1`},
	}.run(t)
}

func TestClusterPolicy(t *testing.T) {
	all := "[{namespaces: {}}]"
	table{
		{"admin before network policy", cnp("a", "Admin", 1, "ingress: [{action: Accept, from: "+all+", protocols: [{tcp: {destinationPort: {number: 80}}}]}, {action: Deny, from: "+all+"}]") +
			np("open", "{podSelector: {}, ingress: [{}]}"), `
			web db 80/tcp = allow ingress Admin a 0
			web db 81/tcp = deny ingress Admin a 1
			out db 81/tcp = allow ingress NetworkPolicy shop/open 0
			n1 db 81/tcp = allow ingress always
			n2 db 81/tcp = allow ingress NetworkPolicy shop/open 0`},
		{"pass", cnp("a", "Admin", 1, "ingress: [{action: Pass, from: "+all+", protocols: [{tcp: {destinationPort: {range: {start: 80, end: 82}}}}]}]") +
			cnp("b", "Admin", 2, "ingress: [{action: Deny, from: "+all+"}]") + cnp("c", "Baseline", 9, "ingress: [{action: Deny, from: "+all+"}]") +
			np("db", "{podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: 80}]}]}"), `
			web db 80/tcp = allow ingress NetworkPolicy shop/db 0
			web db 81/tcp = deny ingress NetworkPolicy shop/db -1
			web db 83/tcp = deny ingress Admin b 0
			db web 82/tcp = deny ingress Baseline c 0
			out web 82/tcp = allow ingress default`},
		{"baseline passes to the default", cnp("a", "Baseline", 1, "ingress: [{action: Pass, from: "+all+"}, {action: Deny, from: "+all+"}]"), `
			web db 80/tcp = allow ingress default`},
		{"equal priorities by name", cnp("b", "Admin", 1, "ingress: [{action: Deny, from: "+all+"}]") + cnp("a", "Admin", 1, "ingress: [{action: Accept, from: "+all+"}]"), `
			web db 80/tcp = allow ingress Admin a 0`},
		{"egress peers", cnp("a", "Admin", 1, "egress: [{action: Accept, to: [{nodes: {matchLabels: {zone: b}}}]}, {action: Accept, to: [{networks: [198.51.100.0/24, 10.1.0.3/32]}]}, {action: Deny, to: [{networks: [0.0.0.0/0]}]}]"), `
			db n2 80/tcp = allow egress Admin a 0
			db n1 80/tcp = deny egress Admin a 2
			db out 80/tcp = allow egress Admin a 1
			db probe 80/tcp = allow egress Admin a 1
			db web 80/tcp = deny egress Admin a 2
			db6 web6 80/tcp = allow ingress default`},
		{"named port of any protocol", cnp("a", "Admin", 1, "ingress: [{action: Deny, from: "+all+", protocols: [{destinationNamedPort: dns}, {destinationNamedPort: sql}]}]"), `
			web db 53/udp = deny ingress Admin a 0
			web db 53/tcp = allow ingress default
			web db 5432/tcp = deny ingress Admin a 0`},
		{"pods as subject and peer", strings.Replace(cnp("a", "Admin", 1, "ingress: [{action: Deny, from: [{pods: {namespaceSelector: {matchLabels: {team: red}}, podSelector: {}}}]}]"),
			"namespaces: {matchLabels: {kubernetes.io/metadata.name: shop}}", "pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: db}}}", 1), `
			probe db 80/tcp = deny ingress Admin a 0
			probe web 80/tcp = allow ingress default
			web db 80/tcp = allow ingress default`},
	}.run(t)
}

func TestBroken(t *testing.T) {
	var tables table
	for _, spec := range []string{
		"{podSelector: {}, ingress: [{ports: [{port: 80}]}, {from: [{}]}]}",
		"{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.1.0.0/33}}]}, {}]}",
		"{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.1.0.0/16, except: [10.2.0.0/24]}}]}, {}]}",
		"{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.1.0.0/16, except: [10.0.0.0/8]}}]}, {}]}",
		"{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: '::ffff:10.1.0.0/112'}}]}, {}]}",
		"{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.1.0.0/16}, podSelector: {}}]}, {}]}",
		"{podSelector: {}, ingress: [{ports: [{port: 0}]}, {}]}",
		"{podSelector: {}, ingress: [{ports: [{port: 65536}]}, {}]}",
		"{podSelector: {}, ingress: [{ports: [{port: 80, endPort: 79}]}, {}]}",
		"{podSelector: {}, ingress: [{ports: [{port: 80, endPort: 65536}]}, {}]}",
		"{podSelector: {}, ingress: [{ports: [{port: sql, endPort: 90}]}, {}]}",
		"{podSelector: {}, ingress: [{ports: [{endPort: 90}]}, {}]}",
		"{podSelector: {}, ingress: [{ports: [{port: 80, protocol: ICMP}]}, {}]}",
		"{podSelector: {}, ingress: [{from: [{podSelector: {matchExpressions: [{key: a, operator: Like}]}}]}, {}]}",
		"{podSelector: {matchExpressions: [{key: app, operator: In}]}, ingress: [{}]}",
		"{podSelector: {}, policyTypes: [Ingress], egress: [{ports: [{port: 0}]}], ingress: [{}]}",
	} {
		tables = append(tables, table{{spec, np("bad", spec) + np("good", "{podSelector: {}, ingress: [{ports: [{port: 90}]}]}"), `
			web db 80/tcp = deny ingress NetworkPolicy shop/bad -1
			web db 90/tcp = allow ingress NetworkPolicy shop/good 0
			web probe 80/tcp = allow ingress default`}}...)
	}
	for _, peer := range []string{
		"{}", "{namespaces: {}, pods: {namespaceSelector: {}, podSelector: {}}}", "{namespaces: {matchExpressions: [{key: a, operator: Like}]}}",
	} {
		tables = append(tables, table{{peer, cnp("a", "Admin", 1, "ingress: [{action: Accept, from: [{namespaces: {}}, "+peer+"]}, {action: Pass, from: [{namespaces: {}}], protocols: [{tcp: {}}]}, {action: Deny, from: ["+peer+"]}]"), `
			web db 80/tcp = allow ingress default
			web db 80/udp = deny ingress Admin a 2
			out db 80/udp = deny ingress Admin a 2`}}...)
	}
	for _, protocol := range []string{
		"{}", "{tcp: {}, udp: {}}", "{tcp: {destinationPort: {}}}", "{tcp: {destinationPort: {number: 70000}}}", "{udp: {destinationPort: {number: 80, range: {start: 1, end: 2}}}}",
		"{sctp: {destinationPort: {range: {start: 3, end: 2}}}}", "{tcp: {destinationPort: {range: {start: 0, end: 2}}}}", "{tcp: {}, destinationNamedPort: x}",
	} {
		tables = append(tables, table{{protocol, cnp("a", "Admin", 1, "ingress: [{action: Accept, from: [{namespaces: {}}], protocols: [{tcp: {}}, "+protocol+"]}, {action: Pass, from: [{namespaces: {}}], protocols: ["+protocol+"]}]"), `
			web db 80/tcp = deny ingress Admin a 1`}}...)
	}
	tables = append(tables, table{
		{"policyTypes", np("bad", "{podSelector: {}, policyTypes: [Sideways], ingress: [{}]}"), `
			out db 80/tcp = deny ingress NetworkPolicy shop/bad -1
			db out 80/tcp = deny egress NetworkPolicy shop/bad -1`},
		{"action", cnp("a", "Baseline", 1, "ingress: [{action: Maybe, from: [{namespaces: {}}]}]"), `
			out db 80/tcp = deny ingress Baseline a 0`},
		{"no peers", cnp("a", "Baseline", 1, "egress: [{action: Deny, to: []}]"), `
			db out 80/tcp = deny egress Baseline a 0
			out db 80/tcp = allow ingress default`},
		{"domain names", cnp("a", "Baseline", 1, "egress: [{action: Accept, to: [{domainNames: [example.org]}]}, {action: Deny, to: [{networks: [0.0.0.0/0]}]}]"), `
			db out 80/tcp = deny egress Baseline a 1`},
		{"named port of a node", cnp("a", "Baseline", 1, "egress: [{action: Deny, to: [{nodes: {}}], protocols: [{destinationNamedPort: sql}]}]"), `
			db web 80/tcp = deny egress Baseline a 0`},
		{"network", cnp("a", "Baseline", 1, "egress: [{action: Deny, to: [{networks: [10.1.0.300/32]}]}]"), `
			db web 80/tcp = deny egress Baseline a 0`},
		{"subject", strings.Replace(cnp("a", "Baseline", 1, "ingress: [{action: Accept, from: [{namespaces: {}}]}]"), "{matchLabels: {kubernetes.io/metadata.name: shop}}", "{matchExpressions: [{key: a, operator: in}]}", 1), `
			db probe 80/tcp = deny ingress Baseline a -1
			n1 probe 80/tcp = allow ingress always
			probe out 80/tcp = allow egress default`},
		{"tier", cnp("a", "Top", 1000, "ingress: [{action: Accept, from: [{namespaces: {}}]}]"), `
			db web 80/tcp = deny ingress Admin a -1
			db probe 80/tcp = allow ingress default`},
	}...)
	tables.run(t)
}

// TestReason: a person reads what is wrong with a broken policy.
func TestReason(t *testing.T) {
	s := facts(t, np("bad", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.1.0.0/33}}]}]}"))
	v := oracle.Judge(s, flow(t, "web db 80/tcp"))
	if want := "ingress rule 0: ipBlock:"; v.Allowed || !strings.Contains(v.Deciding().Reason, want) {
		t.Errorf("reason %q does not say %q", v.Deciding().Reason, want)
	}
}
