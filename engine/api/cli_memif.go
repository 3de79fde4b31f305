package api

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	library "github.com/millrace/millrace/memif"
)

// showMemif is in VPP's words as far as both have the thing.
func (s *Server) showMemif(args []string) (string, error) {
	s.memifs.mu.Lock()
	defer s.memifs.mu.Unlock()
	indexes := slices.Sorted(maps.Keys(s.memifs.devices))
	if len(args) > 0 {
		list, err := s.interfacesNamed(args)
		if err != nil {
			return "", err
		}
		indexes = nil
		for _, i := range list {
			if s.memifs.devices[i.Index] == nil {
				return "", cliError(i.Name + " is no memif interface")
			}
			indexes = append(indexes, i.Index)
		}
	}
	var out strings.Builder
	fmt.Fprintf(&out, "sockets\n  %-3s %-11s %s\n", "id", "listener", "filename")
	for _, id := range slices.Sorted(maps.Keys(s.memifs.sockets)) {
		m, listener := s.memifs.sockets[id], "no"
		if m.role == library.Server && len(m.ids) > 0 {
			listener = fmt.Sprintf("yes (%d)", len(m.ids))
		}
		fmt.Fprintf(&out, "  %-3d %-11s %s\n", id, listener, m.filename)
	}
	out.WriteByte('\n')
	for _, index := range indexes {
		i, err := s.plane.Interface(index)
		if err != nil {
			continue
		}
		fmt.Fprintf(&out, "interface %s\n", i.Name)
		writeMemif(&out, s.memifs.devices[index], i.AdminUp)
	}
	return out.String(), nil
}

func writeMemif(out *strings.Builder, d *memifDevice, admin bool) {
	st, c := d.port.Status(), d.port.Config()
	if st.Up {
		fmt.Fprintf(out, "  remote-name %q\n  remote-interface %q\n", st.PeerName, st.PeerIfName)
	}
	fmt.Fprintf(out, "  socket-id %d id %d mode %s\n  flags", d.socket.id, d.id, c.Mode)
	for _, f := range []struct {
		on   bool
		name string
	}{{admin, "admin-up"}, {d.socket.role == library.Client, "slave"}, {st.Up, "connected"}, {d.zeroCopy, "zero-copy"}} {
		if f.on {
			out.WriteString(" " + f.name)
		}
	}
	fmt.Fprintf(out, "\n  links %d", st.Links)
	if st.Up {
		fmt.Fprintf(out, " rx-rings %d tx-rings %d ring-size %d num-regions %d", st.RxRings, st.TxRings, st.RingSize, st.Regions)
	}
	out.WriteByte('\n')
	if st.Err != nil {
		fmt.Fprintf(out, "  last-error %q\n", st.Err.Error())
	}
}
