package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const shop = "testdata/policy/shop.yaml"

// testPolicies runs policy test on the manifests of testdata.
func testPolicies(t *testing.T, manifests, flows string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs strings.Builder
	err = policyTest([]string{"-f", manifests, "--flows", flows}, &out, &errs)
	return out.String(), errs.String(), err
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPolicyTest(t *testing.T) {
	out, notes, err := testPolicies(t, "testdata/policy", "testdata/policy/flows.yaml")
	if err != nil || out != "10 flows are as expected\n" {
		t.Errorf("%v\n%s", err, out)
	}
	if want := "passed over: testdata/policy/shop.yaml: document 3: Deployment web\n"; notes != want {
		t.Errorf("notes %q, want %q", notes, want)
	}
}

// TestPolicyTestMismatch: each flow that is not as expected is one line with what decided.
func TestPolicyTestMismatch(t *testing.T) {
	file := writeFile(t, "flows.yaml", `
- {from: shop/job, to: shop/db, port: 5432, expect: allow}
- {from: shop/web, to: shop/db, port: 5432, expect: deny}
- {from: shop/job, to: 169.254.169.254, port: 80, expect: allow}
- {from: shop/web, to: shop/job, port: 80, expect: allow}
`)
	out, _, err := testPolicies(t, shop, file)
	if want := "3 of 4 flows are not as expected"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v does not say %q", err, want)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	want := []string{
		"[0] shop/job to shop/db (10.1.2.3 to 10.1.0.1 port 5432/TCP): want allow, got deny: ingress of pod shop/db, NetworkPolicy shop/db: it isolates the pod, and no rule of it matches; ",
		"[1] shop/web to shop/db (10.1.1.2 to 10.1.0.1 port 5432/TCP): want deny, got allow: ingress of pod shop/db, NetworkPolicy shop/db ingress[0]: the rule matches; allow by acl policy/shop/db/ingress/0",
		"[1] shop/web to shop/db (fd00:0:0:1::2 to fd00::1 port 5432/TCP): want deny, got allow: ",
		"[2] shop/job to 169.254.169.254 (10.1.2.3 to 169.254.169.254 port 80/TCP): want allow, got deny: egress of pod shop/job, ClusterNetworkPolicy metadata-server egress[0]: the rule matches; deny by acl ",
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), out)
	}
	for i := range want {
		if !strings.HasPrefix(lines[i], file+want[i]) {
			t.Errorf("line %d:\n%s\ndoes not begin with\n%s%s", i, lines[i], file, want[i])
		}
	}
}

// TestPolicyTestStrictly: what cannot be judged is named by file, index and field.
func TestPolicyTestStrictly(t *testing.T) {
	for _, tt := range []struct{ flows, want string }{
		{"[{from: shop/nobody, to: shop/db, port: 1, expect: deny}]", "flows.yaml[0]: from: there is no pod shop/nobody"},
		{"[{from: shop/db, to: 'fd00::9', port: 1, expect: deny}, {from: shop/job, to: 'fd00::9', port: 1, expect: deny}]", "flows.yaml[1]: to: fd00::9 has no address of a family that shop/job has"},
		{"[{from: shop/db, to: shop/web, expect: deny}]", "flows.yaml[0]: port: is missing"},
	} {
		_, _, err := testPolicies(t, shop, writeFile(t, "flows.yaml", tt.flows))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v does not say %q", tt.flows, err, tt.want)
		}
	}
	broken := writeFile(t, "broken.yaml", `
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: a}, spec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/40}}]}]}}
`)
	var out, notes strings.Builder
	err := policyTest([]string{"-f", broken, "--flows", writeFile(t, "flows.yaml", "[]")}, &out, &notes)
	if err == nil || !strings.HasPrefix(out.String(), "broken: NetworkPolicy a/p: it allows nothing to its pods: ingress rule 0: ipBlock: ") {
		t.Errorf("%v\n%s", err, &out)
	}
}

// TestPolicyTestMany: 100,000 flows are no matter of minutes: nothing here is quadratic in
// them. The time itself is not asserted.
func TestPolicyTestMany(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 100,000 flows")
	}
	var b strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&b, "- {from: shop/job, to: shop/web, port: %d, protocol: UDP, expect: allow}\n", i%60000+1)
	}
	out, _, err := testPolicies(t, shop, writeFile(t, "flows.yaml", b.String()))
	if err != nil || out != "100000 flows are as expected\n" {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestPolicyExplainFacts: from a directory alone there are two readings.
func TestPolicyExplainFacts(t *testing.T) {
	explain := func(args ...string) (string, error) {
		var out, notes strings.Builder
		err := policyExplain(t.Context(), append([]string{"--config", writeConfig(t, ""), "--facts", "testdata/policy/shop.yaml"}, args...), &out, &notes)
		return out.String(), err
	}
	out, err := explain("--from", "shop/job", "--to", "shop/db", "--port", "5432/tcp")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"10.1.2.3 to 10.1.0.1 port 5432/TCP: DENIED\n", "policies   deny   NetworkPolicy shop/db: it isolates the pod, and no rule of it matches (tier NetworkPolicy)\n",
		"compiled   deny   the end of the lists of pod/shop/db/eth0/",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	if out, err = explain("--from", "shop/web", "--to", "shop/db", "--port", "5432", "--output", "json"); err != nil || !strings.Contains(out, `"disagreements": []`) || strings.Count(out, `"allowed": true,`) < 4 {
		t.Errorf("%v\n%s", err, out)
	}
	for _, tt := range []struct{ from, to, port, want string }{
		{"shop", "shop/db", "80", `flag --from: "shop": want namespace/pod or an IP address`},
		{"shop/web", "shop/nobody", "80", "flag --to: there is no pod shop/nobody"},
		{"shop/web", "shop/db", "tcp/80", `flag --port: "tcp/80"`},
	} {
		if _, err := explain("--from", tt.from, "--to", tt.to, "--port", tt.port); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: error %v does not say %q", tt, err, tt.want)
		}
	}
}
