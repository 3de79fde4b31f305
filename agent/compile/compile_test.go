package compile

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/textline"
)

var update = flag.Bool("update", false, "rewrite the state and problems of each scenario")

// options reads the comment of a scenario: lines of prose, and one line "options key=value".
func options(t *testing.T, comment []byte) Options {
	t.Helper()
	o := Defaults()
	for line := range strings.Lines(string(comment)) {
		l, err := textline.Parse(strings.TrimSpace(line))
		if err != nil || len(l.Words) == 0 || l.Words[0] != "options" {
			continue
		}
		for _, f := range l.Fields {
			switch f.Key {
			case "device":
				o.Device = map[string]Device{"tun": DeviceTun, "veth": DeviceVeth}[f.Value]
			case "mtu":
				_, err = fmt.Sscan(f.Value, &o.MTU)
			case "podcidr":
				o.PodCIDRs = append(o.PodCIDRs, netip.MustParsePrefix(f.Value))
			case "services":
				o.Services = f.Value == "true"
			case "memif-dma":
				o.MemifDMA = f.Value == "true"
			case "host":
				o.HostName = f.Value
			case "encapsulation":
				o.Encapsulation = map[string]Encapsulation{"Always": EncapsulateAlways, "Never": EncapsulateNever}[f.Value]
			case "host-kernel":
				o.Host.Touch = f.Value == "true"
			case "masquerade":
				o.Host.Masquerade = f.Value == "true"
			case "non-masquerade":
				o.Host.NonMasquerade = append(o.Host.NonMasquerade, netip.MustParsePrefix(f.Value))
			case "uplink":
				o.Uplinks = append(o.Uplinks, uplink(f.Value))
			case "nexthop":
				parts := strings.Split(f.Value, ",")
				hop := dataplane.NextHop{Uplink: "uplink:" + parts[0], Link: parts[0], Addr: netip.MustParseAddr(parts[1])}
				if o.NextHops == nil {
					o.NextHops = map[dataplane.NextHop]dataplane.MAC{}
				}
				o.NextHops[hop], err = dataplane.ParseMAC(parts[2])
			default:
				err = fmt.Errorf("unknown option %s", f.Key)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return o
}

// uplink reads name,mtu,mode and then addresses with the lengths of their subnets.
func uplink(text string) dataplane.Uplink {
	parts := strings.Split(text, ",")
	u := dataplane.Uplink{Name: parts[0], Mode: map[string]dataplane.UplinkMode{"own": dataplane.UplinkOwn, "share": dataplane.UplinkShare}[parts[2]]}
	fmt.Sscan(parts[1], &u.MTU)
	if u.Mode == dataplane.UplinkShare {
		u.Link = u.Name
	}
	u.HostLink = u.Mode == dataplane.UplinkOwn
	for _, a := range parts[3:] {
		p := netip.MustParsePrefix(a)
		u.Addresses, u.Subnets = append(u.Addresses, p.Addr()), append(u.Subnets, p.Masked())
	}
	return u
}

// TestScenarios compiles each testdata/*.txtar: its snapshot section must give its state
// and problems sections.
func TestScenarios(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			o := options(t, archive.Comment)
			snapshot, err := cluster.ParseSnapshot(section(archive, "snapshot"))
			if err != nil {
				t.Fatal(err)
			}
			result, err := Compile(snapshot, "worker-1", o)
			state, problems := result.State.String(), problemText(result)
			if err != nil {
				problems = err.Error() + "\n"
			} else if _, err := dataplane.NewState(slices.Collect(result.State.All())...); err != nil {
				t.Errorf("the state is wrong in itself: %v", err)
			}
			if *update {
				setSection(archive, "state", state)
				setSection(archive, "problems", problems)
				if ports := portText(result); ports != "" {
					setSection(archive, "node-ports", ports)
				}
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(section(archive, "state"), state); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(section(archive, "problems"), problems); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(section(archive, "node-ports"), portText(result)); diff != "" {
				t.Errorf("node-ports (-want +got):\n%s", diff)
			}
			checkOwners(t, snapshot, result)
		})
	}
}

// checkOwners wants each attachment either to own objects or to have a problem.
func checkOwners(t *testing.T, s cluster.Snapshot, r Result) {
	t.Helper()
	owned := map[cluster.AttachmentID]int{}
	for key, id := range r.Owners {
		if _, ok := r.State.Object(key); !ok {
			t.Errorf("%s owns %s, which is not in the state", id, key)
		}
		owned[id]++
	}
	for id := range s.Attachments {
		if (owned[id] > 0) == (r.Problems[id] != nil) && len(r.Owners)+len(r.Problems) > 0 {
			t.Errorf("%s owns %d objects and has the problem %v", id, owned[id], r.Problems[id])
		}
	}
}

func problemText(r Result) string {
	var b strings.Builder
	for _, id := range slices.SortedFunc(maps.Keys(r.Problems), cluster.AttachmentID.Compare) {
		fmt.Fprintln(&b, r.Problems[id])
	}
	for _, p := range r.Services {
		fmt.Fprintf(&b, "%s: %s: %v\n", p.About, p.Reason, p.Err)
	}
	for _, p := range r.Policy.Problems {
		fmt.Fprintf(&b, "%s: %s: %v\n", p.Object, p.Reason, p.Err)
	}
	return b.String()
}

func portText(r Result) string {
	var b strings.Builder
	for _, p := range r.NodePorts {
		fmt.Fprintf(&b, "%d %s to %s\n", p.Protocol, p.At, p.To)
	}
	return b.String()
}

func section(a *txtar.Archive, name string) string {
	for _, f := range a.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

func setSection(a *txtar.Archive, name, text string) {
	for i := range a.Files {
		if a.Files[i].Name == name {
			a.Files[i].Data = []byte(text)
			return
		}
	}
	a.Files = append(a.Files, txtar.File{Name: name, Data: []byte(text)})
}

// TestRoadsDoNotMatter adds and removes attachments in different orders, in one go and
// twice; the wish depends only on what is there in the end.
func TestRoadsDoNotMatter(t *testing.T) {
	var all []cluster.Attachment
	for i := range 20 {
		all = append(all, cluster.Attachment{
			ID:        cluster.AttachmentID{ContainerID: fmt.Sprintf("c%02d", i/2), IfName: fmt.Sprintf("eth%d", i%2)},
			Netns:     fmt.Sprintf("/run/netns/%d", i/2),
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, 0, byte(i%18) + 2})},
			Revision:  uint64(i + 1),
		})
	}
	base := cluster.Snapshot{Nodes: map[string]cluster.Node{"n": {Name: "n", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}}}}
	compile := func(list []cluster.Attachment) dataplane.State {
		r, err := Compile(base.WithAttachments(99, list), "n", Defaults())
		if err != nil {
			t.Fatal(err)
		}
		return r.State
	}
	want := compile(all)
	reversed := slices.Clone(all)
	slices.Reverse(reversed)
	for name, list := range map[string][]cluster.Attachment{"reversed": reversed, "twice": append(slices.Clone(all), reversed...)} {
		if got := compile(list); !got.Equal(want) {
			t.Errorf("%s:\n%s", name, cmp.Diff(want.String(), got.String()))
		}
	}
	// One pod more or less touches only its own objects.
	for i := range all {
		less := compile(slices.Delete(slices.Clone(all), i, i+1))
		for _, step := range dataplane.Diff(want, less) {
			if step.Verb == dataplane.Delete && strings.HasPrefix(step.Object.Key().Name, "node/") {
				t.Errorf("without %s: %s", all[i].ID, step)
			}
		}
	}
}

func TestNamesAreUniqueAndFit(t *testing.T) {
	seen := map[string]string{}
	long := strings.Repeat("n", 63)
	for _, pod := range []cluster.PodKey{{}, {Namespace: "a", Name: "b"}, {Namespace: long, Name: long}, {Namespace: long, Name: "é"}} {
		for _, container := range []string{"c1", "c2", strings.Repeat("c", 64)} {
			for _, ifName := range []string{"eth0", "eth1", "weird=@*#", "0123456789abcde"} {
				a := cluster.Attachment{ID: cluster.AttachmentID{ContainerID: container + pod.Name, IfName: ifName}, Pod: pod}
				name := PodInterface(a)
				if err := dataplane.Check(dataplane.Up{Interface: name}); err != nil {
					t.Errorf("%s: %v", a, err)
				}
				if other, taken := seen[name]; taken {
					t.Errorf("%s and %s are both called %s", a, other, name)
				}
				seen[name] = a.String()
			}
		}
	}
}

func TestMACsAreLocalUnicast(t *testing.T) {
	seen := map[dataplane.MAC]bool{}
	for i := range 200 {
		m := mac(fmt.Sprint(i))
		if m[0]&3 != 2 || seen[m] {
			t.Errorf("%s: multicast, global or twice", m)
		}
		seen[m] = true
	}
	if a, b := mac("x"), mac("x"); !bytes.Equal(a[:], b[:]) {
		t.Errorf("%s then %s", a, b)
	}
}
