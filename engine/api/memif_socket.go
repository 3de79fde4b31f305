package api

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/memif"

	memifport "github.com/millrace/millrace/engine/port/memif"
	"github.com/millrace/millrace/engine/vnet"
	library "github.com/millrace/millrace/memif"
)

// defaultMemifSocket is the name, in the runtime directory, of the socket with id 0.
const defaultMemifSocket = "memif.sock"

// memifSocket is one registered socket. Its role is that of the interfaces on it.
type memifSocket struct {
	id       uint32
	filename string // as the dump shows it
	role     library.Role
	ids      map[uint32]bool   // of its interfaces
	port     *memifport.Socket // nil while there is none
}

// enter readies the socket for one more interface.
func (m *memifSocket) enter(role library.Role) error {
	if m.port != nil {
		return nil
	}
	address, netns, err := memifAddress(m.filename)
	if err != nil {
		return err
	}
	m.role = role
	m.port = memifport.NewSocket(library.SocketConfig{Role: role, Address: address, Netns: netns})
	return nil
}

// leave forgets the role with the last interface.
func (m *memifSocket) leave() {
	if len(m.ids) == 0 {
		m.port = nil
	}
}

func newMemifs(runtimeDir string) *memifs {
	return &memifs{
		sockets: map[uint32]*memifSocket{0: {filename: filepath.Join(runtimeDir, defaultMemifSocket), ids: map[uint32]bool{}}},
		devices: map[uint32]*memifDevice{},
	}
}

func (s *Server) memifSocketFilenameAddDel(_ *session, q *memif.MemifSocketFilenameAddDel, _ *memif.MemifSocketFilenameAddDelReply) error {
	s.memifs.mu.Lock()
	defer s.memifs.mu.Unlock()
	return s.editMemifSocket(q.IsAdd, q.SocketID, q.SocketFilename[:min(len(q.SocketFilename), 107)])
}

// memifSocketFilenameAddDelV2 chooses a free id for ~0.
func (s *Server) memifSocketFilenameAddDelV2(_ *session, q *memif.MemifSocketFilenameAddDelV2, r *memif.MemifSocketFilenameAddDelV2Reply) error {
	s.memifs.mu.Lock()
	defer s.memifs.mu.Unlock()
	r.SocketID = q.SocketID
	for q.IsAdd && r.SocketID == vnet.NoIndex || q.SocketID == vnet.NoIndex && s.memifs.sockets[r.SocketID] != nil {
		r.SocketID = rand.Uint32()
	}
	name, _, _ := strings.Cut(q.SocketFilename, "\x00")
	return s.editMemifSocket(q.IsAdd, r.SocketID, name)
}

// editMemifSocket registers a socket or takes it off. Nothing is opened yet.
func (s *Server) editMemifSocket(add bool, id uint32, name string) error {
	known := s.memifs.sockets[id]
	switch {
	case id == 0 || id == vnet.NoIndex:
		return api.INVALID_ARGUMENT
	case !add && known == nil:
		return api.INVALID_ARGUMENT
	case !add && len(known.ids) > 0:
		return api.UNEXPECTED_INTF_STATE
	case !add:
		delete(s.memifs.sockets, id)
		return nil
	case name == "":
		return api.INVALID_ARGUMENT
	}
	name, err := s.memifFilename(name)
	switch {
	case err != nil:
		return &deviceError{api.SYSCALL_ERROR_1, err}
	case known == nil:
		s.memifs.sockets[id] = &memifSocket{id: id, filename: name, ids: map[uint32]bool{}}
	case known.filename != name:
		return api.ENTRY_ALREADY_EXISTS
	}
	return nil
}

// memifFilename puts a relative name into the runtime directory, as VPP does, and makes
// the directories that it names.
func (s *Server) memifFilename(name string) (string, error) {
	for _, prefix := range []string{"/", "abstract:", "unix:", "tcp:"} {
		if strings.HasPrefix(name, prefix) {
			return name, nil
		}
	}
	name = s.runtimeDir + "/" + name
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return "", fmt.Errorf("make directory of memif socket: %w", err)
	}
	return name, nil
}

// memifAddress reads the name of a socket in VPP's grammar (clib_socket_init):
//
//	/path  unix:/path  abstract:NAME[,netns_name=NAME|/path][,netns_pid=N]
//
// of the characters A-Z a-z 0-9 _ / - and the dot. The address is one of package memif,
// netns the path of a network namespace or "".
func memifAddress(name string) (address, netns string, err error) {
	rest, abstract := strings.CutPrefix(name, "abstract:")
	if !abstract {
		rest = strings.TrimPrefix(name, "unix:")
	}
	address, rest = socketWord(rest)
	for abstract && netns == "" && strings.HasPrefix(rest, ",") {
		if netns, rest, err = socketNetns(rest[1:]); err != nil {
			return "", "", fmt.Errorf("read memif socket %q: %w", name, err)
		}
	}
	switch {
	case rest != "":
		return "", "", fmt.Errorf("read memif socket %q: unknown input %q; want /path or abstract:NAME[,netns_name=NAME][,netns_pid=N]", name, rest)
	case address == "":
		return "", "", fmt.Errorf("read memif socket %q: no name", name)
	case abstract:
		address = "@" + address
	}
	return address, netns, nil
}

func socketNetns(option string) (netns, rest string, err error) {
	if value, ok := strings.CutPrefix(option, "netns_name="); ok {
		netns, rest = socketWord(value)
		if netns == "" {
			return "", "", fmt.Errorf("netns_name is empty")
		}
		if netns[0] != '/' {
			netns = "/var/run/netns/" + netns
		}
		return netns, rest, nil
	}
	value, ok := strings.CutPrefix(option, "netns_pid=")
	digits := len(value) - len(strings.TrimLeft(value, "0123456789"))
	pid, err := strconv.ParseUint(value[:digits], 10, 32)
	if !ok || err != nil {
		return "", "", fmt.Errorf("unknown input %q; want netns_name=NAME or netns_pid=N", option)
	}
	return fmt.Sprintf("/proc/%d/ns/net", pid), value[digits:], nil
}

// socketWord cuts text behind the characters that VPP allows in a name.
func socketWord(text string) (word, rest string) {
	n := strings.IndexFunc(text, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_/-.", r))
	})
	if n < 0 {
		n = len(text)
	}
	return text[:n], text[n:]
}

func (s *Server) memifSocketFilenameDump(_ *session, _ *memif.MemifSocketFilenameDump, send func(*memif.MemifSocketFilenameDetails)) {
	s.memifs.mu.Lock()
	defer s.memifs.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(s.memifs.sockets)) {
		name := s.memifs.sockets[id].filename
		send(&memif.MemifSocketFilenameDetails{SocketID: id, SocketFilename: name[:min(len(name), 107)]})
	}
}
