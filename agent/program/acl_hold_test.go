package program

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/dataplane"
)

// TestHoldBefore: the ACL stands first in the list opposite to what narrows, and in no
// empty one, which lets everything pass.
func TestHoldBefore(t *testing.T) {
	h := hold{index: 9}
	for _, tt := range []struct {
		in, out               turn
		input, output         []uint32
		wantInput, wantOutput []uint32
	}{
		{narrows, stays, []uint32{1}, []uint32{2, 3}, []uint32{1}, []uint32{9, 2, 3}},
		{widens, narrows, []uint32{1}, []uint32{2}, []uint32{9, 1}, []uint32{2}},
		{narrows, narrows, []uint32{1}, []uint32{2}, []uint32{9, 1}, []uint32{9, 2}},
		{narrows, stays, []uint32{1}, nil, []uint32{1}, nil},
		{widens, widens, []uint32{1}, []uint32{2}, []uint32{1}, []uint32{2}},
	} {
		input, output := h.before(relist{in: tt.in, out: tt.out}, tt.input, tt.output)
		if diff := cmp.Diff([][]uint32{tt.wantInput, tt.wantOutput}, [][]uint32{input, output}); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", tt, diff)
		}
	}
}

// TestMayRevive: an ACL is only replaced in place where no answer can be under way.
func TestMayRevive(t *testing.T) {
	two := wanted(t, "acl a rule=permit+reflect,10.0.0.0/8,0.0.0.0/0 rule=permit+reflect,172.16.0.0/12,0.0.0.0/0")
	one := wanted(t, "acl a rule=permit+reflect,10.0.0.0/8,0.0.0.0/0")
	acl := func(s dataplane.State) dataplane.Object {
		for o := range s.All() {
			return o
		}
		return nil
	}
	for _, tt := range []struct {
		name    string
		vpp     bool
		was, to dataplane.Object
		output  []string
		want    bool
	}{
		{"narrower", true, acl(two), acl(one), []string{"b"}, true},
		{"wider", true, acl(one), acl(two), []string{"b"}, false},
		{"nothing filters the other direction", true, acl(two), acl(one), nil, false},
		{"the engine tells answers itself", false, acl(two), acl(one), []string{"b"}, false},
	} {
		p := &Program{spreads: tt.vpp, bound: map[string]dataplane.ACLBinding{"i": {Interface: "i", Input: []string{"a"}, Output: tt.output}}}
		if got := p.mayRevive(dataplane.Step{Verb: dataplane.Update, Object: tt.to, Was: tt.was}); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}
