package hugepage_test

import (
	"testing"

	"github.com/millrace/millrace/engine/hugepage"
)

// Every length around the borders is written whole: advice must not change the memory.
func TestAdviceLeavesMemoryAlone(t *testing.T) {
	const page = hugepage.Size / 4
	for _, n := range []int{0, 1, page - 1, page, page + 1, 2*page - 1, 3 * page} {
		s := make([]uint32, n)
		for i := range s {
			s[i] = uint32(i)
		}
		s = hugepage.Advise(s)
		if len(s) != n {
			t.Fatalf("%d words became %d", n, len(s))
		}
		for i, v := range s {
			if v != uint32(i) {
				t.Fatalf("word %d of %d became %d", i, n, v)
			}
		}
	}
}
