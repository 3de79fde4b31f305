package stats

import (
	"strings"
	"testing"

	"go.fd.io/govpp/adapter"

	"github.com/millrace/millrace/engine/vnet"
)

// TestRuleCounters: each list has its counters under its index, one more than rules; other
// rules begin at 0, also in memory that was used before.
func TestRuleCounters(t *testing.T) {
	s, path := serve(t, Config{Threads: 3, Interfaces: 16, Routes: 1024, Errors: testErrors})
	client := dial(t, path)
	matches := func() map[string]adapter.Stat {
		t.Helper()
		entries, err := client.DumpStats("^/acl/")
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]adapter.Stat{}
		for _, e := range entries {
			all[string(e.Name)] = e.Data
		}
		return all
	}
	allot := func(list uint32, n int) [][]vnet.Combined {
		t.Helper()
		rows, err := s.AllotRules(list, n)
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	zero, one := allot(0, 3), allot(1, 0)
	zero[1][2] = vnet.Combined{Packets: 7, Bytes: 700}
	one[0][0] = vnet.Combined{Packets: 1, Bytes: 1}
	got := matches()
	if len(got) != 2 {
		t.Fatalf("entries: %v", got)
	}
	rows := got["/acl/0/matches"].(adapter.CombinedCounterStat)
	if len(rows) != len(zero) || len(rows[0]) != 4 || rows[1][2].Packets() != 7 || rows[1][2].Bytes() != 700 {
		t.Errorf("list 0: %v", rows)
	}
	for range 5 {
		again := allot(0, 3)
		s.ReclaimRules()
		rows = matches()["/acl/0/matches"].(adapter.CombinedCounterStat)
		if len(rows[1]) != 4 || rows[1][2].Packets() != 0 {
			t.Errorf("replaced: %v", rows)
		}
		again[1][2] = vnet.Combined{Packets: 9}
	}
	used := s.s.next
	for n := range 100 {
		allot(0, n%3)
		s.ReclaimRules()
	}
	if s.s.next != used {
		t.Errorf("%d bytes of %d replaced lists are not used again", s.s.next-used, 100)
	}
}

// TestRuleCountersAreFull: too many rules are refused and leave what was there.
func TestRuleCountersAreFull(t *testing.T) {
	s, _ := serve(t, Config{Threads: 2, Interfaces: 16, Routes: 1024, Errors: testErrors})
	if _, err := s.AllotRules(0, 10); err != nil {
		t.Fatal(err)
	}
	before := s.s.next
	if _, err := s.AllotRules(0, 1<<30); err == nil || !strings.Contains(err.Error(), "count matches of 1073741824 acl rules") {
		t.Errorf("too many rules: %v", err)
	}
	if _, err := s.AllotRules(1, 1<<30); err == nil {
		t.Error("too many rules for a new list are taken")
	}
	if s.s.next != before || len(s.rules.lists) != 1 || len(s.rules.old) != 0 {
		t.Errorf("the refused left traces: %d bytes, %d lists, %d old", s.s.next-before, len(s.rules.lists), len(s.rules.old))
	}
}
