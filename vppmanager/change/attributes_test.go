package change

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestAcceptable: of what the kernel tells of a link on another one, what it would refuse
// as a wish is left out or corrected, and the rest stays.
func TestAcceptable(t *testing.T) {
	id := attr{unix.IFLA_VLAN_ID, []byte{7, 0}}
	mode := attr{unix.IFLA_MACVLAN_MODE, u32(4)}
	for _, tt := range []struct {
		kind       string
		tells, get []attr
	}{
		{"vlan", []attr{id, {unix.IFLA_VLAN_FLAGS, append(u32(3), u32(^uint32(0))...)}}, []attr{id, {unix.IFLA_VLAN_FLAGS, append(u32(3), u32(3)...)}}},
		{"vlan", []attr{id, {unix.IFLA_VLAN_FLAGS, append(u32(0), u32(^uint32(0))...)}}, []attr{id, {unix.IFLA_VLAN_FLAGS, append(u32(0), u32(1)...)}}},
		{"macvlan", []attr{mode, {6, u32(9)}, {8, u32(9)}}, []attr{mode}},
		{"vxlan", []attr{{6, u32(9)}}, []attr{{6, u32(9)}}},
	} {
		m := message{attrs: []attr{{unix.IFLA_INFO_KIND, cstring(tt.kind)}, {unix.IFLA_INFO_DATA, appendAttrs(nil, tt.tells...)}}}
		if err := m.acceptable(); err != nil {
			t.Fatal(err)
		}
		got, err := parseAttrs(m.find(unix.IFLA_INFO_DATA))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.get, got, cmp.AllowUnexported(attr{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.kind, diff)
		}
	}
}
