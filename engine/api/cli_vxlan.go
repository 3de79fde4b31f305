package api

import (
	"fmt"
	"strings"
)

// showVXLAN is in VPP's words, without what only its graph has.
func (s *Server) showVXLAN([]string) (string, error) {
	list := s.plane.VXLANs()
	if len(list) == 0 {
		return "No vxlan tunnels configured...\n", nil
	}
	var out strings.Builder
	for _, v := range list {
		n := s.instanceOf(v)
		fmt.Fprintf(&out, "instance %d src %s dst %s src_port %d dst_port %d vni %d table %d sw-if-idx %d decap-next-index %d\n",
			n, v.Src, v.Dst, v.SrcPort, v.DstPort, v.VNI, v.Table, v.Index, s.decapIndex(v))
	}
	return out.String(), nil
}
