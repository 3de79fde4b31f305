package vpp

import (
	"context"
	"fmt"

	"go.fd.io/govpp/adapter"
)

// ACLMatches returns by acl_index what each rule has matched, summed over all threads:
// /acl/<n>/matches in the segment. Packets of a known session match no rule. A machine
// that counts no matches has none.
func (s *Stats) ACLMatches(ctx context.Context) (map[uint32][]Count, error) {
	entries, err := s.Entries(ctx, "^/acl/[0-9]+/matches$")
	if err != nil {
		return nil, err
	}
	matches := map[uint32][]Count{}
	for _, e := range entries {
		var index uint32
		rows, ok := e.Data.(adapter.CombinedCounterStat)
		if _, err := fmt.Sscanf(string(e.Name), "/acl/%d/matches", &index); err != nil || !ok {
			continue
		}
		var sums []Count
		for _, row := range rows {
			for i, c := range row {
				if i == len(sums) {
					sums = append(sums, Count{})
				}
				sums[i].Packets += c.Packets()
				sums[i].Bytes += c.Bytes()
			}
		}
		matches[index] = sums
	}
	return matches, nil
}
