package attach

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/cni"
	"github.com/millrace/millrace/internal/memifspec"
)

func emptyPool(t *testing.T) *pool {
	t.Helper()
	j, err := load(newModel(-1), "model", "boot")
	if err != nil {
		t.Fatal(err)
	}
	return newPool(j)
}

func ranges(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func container(n int) cluster.AttachmentID {
	return cluster.AttachmentID{ContainerID: fmt.Sprintf("c%d", n), IfName: "eth0"}
}

// give allocates and stores, as an ADD does.
func (p *pool) give(t *testing.T, n int, ranges []netip.Prefix) ([]netip.Addr, error) {
	t.Helper()
	sets, err := p.take(container(n), ranges, 1)
	if err != nil {
		return nil, err
	}
	got := sets[0]
	defer p.drop(container(n))
	r := numbered(n)
	r.ID, r.Addresses = container(n), got
	if _, err := p.journal.put(r); err != nil {
		t.Fatal(err)
	}
	return got, nil
}

func TestPoolFirstAddresses(t *testing.T) {
	for _, tt := range []struct {
		ranges []netip.Prefix
		want   string
	}{
		{ranges("10.1.0.0/24"), "[10.1.0.2]"},
		{ranges("fd00::/64"), "[fd00::2]"},
		{ranges("10.1.0.0/24", "fd00::/64"), "[10.1.0.2 fd00::2]"},
		{ranges("fd00::/64", "10.1.0.0/24"), "[fd00::2 10.1.0.2]"},
		{ranges("10.1.0.77/24"), "[10.1.0.2]"}, // host bits do not matter
		{ranges("10.1.0.0/30", "fd00::/126", "10.2.0.0/24"), "[10.1.0.2 fd00::2]"},
	} {
		got, err := emptyPool(t).give(t, 1, tt.ranges)
		if err != nil || fmt.Sprint(got) != tt.want {
			t.Errorf("%v: %v, %v; want %s", tt.ranges, got, err, tt.want)
		}
	}
}

func TestPoolUsesEverythingOnce(t *testing.T) {
	for _, tt := range []struct {
		ranges []netip.Prefix
		each   int // addresses per attachment
		pods   int // that fit
		full   string
	}{
		{ranges("10.1.0.0/28"), 1, 13, "10.1.0.0/28 (13 of 13 in use)"},
		{ranges("fd00::/124"), 1, 14, "fd00::/124 (14 of 14 in use)"},
		{ranges("10.1.0.0/29", "10.2.0.0/30"), 1, 6, "10.1.0.0/29 (5 of 5 in use), 10.2.0.0/30 (1 of 1 in use)"},
		{ranges("10.1.0.0/24", "fd00::/125"), 2, 6, "fd00::/125 (6 of 6 in use)"},
	} {
		p := emptyPool(t)
		seen := map[netip.Addr]bool{}
		for n := range tt.pods {
			got, err := p.give(t, n, tt.ranges)
			if err != nil || len(got) != tt.each {
				t.Fatalf("%v: pod %d: %v, %v", tt.ranges, n, got, err)
			}
			for _, a := range got {
				if seen[a] {
					t.Errorf("%v: %s given twice", tt.ranges, a)
				}
				seen[a] = true
				if !slices.ContainsFunc(tt.ranges, func(r netip.Prefix) bool { return r.Contains(a) && a != r.Addr() && a != r.Addr().Next() }) {
					t.Errorf("%v: gave %s, which is kept back or outside", tt.ranges, a)
				}
			}
		}
		_, err := p.give(t, tt.pods, tt.ranges)
		var e *types.Error
		if !errors.As(err, &e) || e.Code != cni.CodeExhausted || !strings.Contains(e.Msg, tt.full) {
			t.Errorf("%v: %v, want exhaustion of %s", tt.ranges, err, tt.full)
		}
		if len(p.holds) > 0 {
			t.Errorf("%v: a refused allocation holds %v", tt.ranges, p.holds)
		}
	}
}

func TestPoolBadRanges(t *testing.T) {
	for text, bad := range map[string][]netip.Prefix{
		"10.1.0.0/31": ranges("10.1.0.0/31"),
		"fd00::/128":  ranges("fd00::/128"),
		"overlap":     ranges("10.1.0.0/16", "10.1.2.0/24"),
		"no pod":      nil,
	} {
		if _, err := emptyPool(t).take(container(1), bad, 1); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v: %v, want an error with %q", bad, err, text)
		}
	}
}

// TestPoolGivesSetsOrNothing: an attachment's memifs have addresses of their own, which
// nobody else gets, and it has all of them or none.
func TestPoolGivesSetsOrNothing(t *testing.T) {
	p, all := emptyPool(t), ranges("10.1.0.0/29", "fd00::/64")
	sets, err := p.take(container(1), all, 3)
	if want := "[[10.1.0.2 fd00::2] [10.1.0.3 fd00::3] [10.1.0.4 fd00::4]]"; err != nil || fmt.Sprint(sets) != want {
		t.Fatalf("three sets: %v, %v, want %s", sets, err, want)
	}
	r := numbered(1)
	r.ID, r.Addresses = container(1), sets[0]
	r.Memifs = []cluster.Memif{{Spec: memifspec.Spec{Name: "a"}, Addresses: sets[1]}, {Spec: memifspec.Spec{Name: "b"}, Addresses: sets[2]}}
	if _, err := p.journal.put(r); err != nil {
		t.Fatal(err)
	}
	p.drop(container(1))
	if sets, err := p.take(container(2), all, 3); err == nil {
		t.Fatalf("of two addresses that are left, three sets were given: %v", sets)
	}
	if len(p.holds) != 0 {
		t.Errorf("what was not given is held: %v", p.holds)
	}
	if sets, err = p.take(container(2), all, 2); err != nil || sets[0][0] == sets[1][0] {
		t.Errorf("two sets: %v, %v", sets, err)
	}
}

// TestPoolRests: an address is not given again before the others had their turn, also
// when the process began anew in between.
func TestPoolRests(t *testing.T) {
	p := emptyPool(t)
	all := ranges("10.1.0.0/29")
	for n := range 2 {
		if _, err := p.give(t, n, all); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.journal.remove(container(0)); err != nil {
		t.Fatal(err)
	}
	p = newPool(p.journal)
	got, err := p.give(t, 2, all)
	if err != nil || fmt.Sprint(got) != "[10.1.0.4]" {
		t.Errorf("got %v, %v; want 10.1.0.4, which never was used", got, err)
	}
}

// TestPoolWalk is a random life of a node beside a plain set of who has what.
func TestPoolWalk(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	p := emptyPool(t)
	all := ranges("10.1.0.0/27", "fd00::/123")
	owned := map[int][]netip.Addr{} // attachments and removals not applied yet
	leaving := map[int]uint64{}
	for range 3000 {
		n := r.IntN(40)
		switch _, busy := owned[n]; {
		case r.IntN(20) == 0:
			revision, _ := p.journal.all()
			p.applied(revision)
			for id := range leaving {
				delete(leaving, id)
				delete(owned, id)
			}
		case !busy:
			got, err := p.give(t, n, all)
			if (err == nil) != (len(owned) < 29) {
				t.Fatalf("%d of 29 in use and take = %v, %v", len(owned), got, err)
			}
			if err != nil {
				continue
			}
			for id, others := range owned {
				if slices.ContainsFunc(got, func(a netip.Addr) bool { return slices.Contains(others, a) }) {
					t.Fatalf("pods %d and %d both have one of %v", id, n, got)
				}
			}
			owned[n] = got
		case leaving[n] == 0:
			p.hold(container(n), owned[n])
			revision, err := p.journal.remove(container(n))
			if err != nil {
				t.Fatal(err)
			}
			p.leave(container(n), revision)
			leaving[n] = revision
		}
	}
}
