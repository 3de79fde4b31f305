package scenario

import (
	"fmt"

	"github.com/millrace/millrace/benchmarks"
)

// rounds counts how often all subjects were measured next to each other, by the distance of
// the cores throughout: near, far, or mixed.
type rounds map[string]int

// most is the count of the kind of rounds that there are more of.
func (n rounds) most() int { return max(n["near"], n["far"]) }

// settle checks that there are enough rounds of one kind, and takes those of the other kind
// out of the comparison when they are too few. ending is what the names of the measurements
// end in, before the distance.
func (n rounds) settle(r *benchmarks.Result, title, ending string, want int) {
	r.Checks = append(r.Checks, benchmarks.Check{Subject: "machine", Name: title + ": rounds of one kind", OK: n.most() >= want,
		Detail: fmt.Sprintf("%d of %d, after %d with near, %d with far and %d with mixed cores", n.most(), want, n["near"], n["far"], n["mixed"])})
	for _, distance := range []string{"near", "far"} {
		if got := n[distance]; got < want && n.most() >= want {
			r.SetAside(ending+"-"+distance, fmt.Sprintf("%d rounds with %s cores are too few", got, distance))
		}
	}
}
