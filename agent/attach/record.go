package attach

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/cluster"
)

// record is one attachment as the journal keeps it.
type record struct {
	cluster.Attachment
	Namespace NamespaceID // of the network namespace it was made in
}

// NamespaceID tells network namespaces apart for good: a path may be used again, and so
// may an inode number.
type NamespaceID struct {
	Boot   string // the kernel's boot id
	Cookie uint64 // the namespace's number in that boot, never used twice
}

func (r record) holds(a netip.Addr) bool { return slices.Contains(r.Addresses, a) }

// A record's file, text of three lines:
//
//	millrace-attachment v1 crc32c:1f2e3d4c      <- of all that follows
//	attachment 3fa9/eth0 netns=/run/netns/a …   <- as package cluster prints it
//	namespace 6f1c…e2 4026                      <- boot id and cookie
//
// The revision in it is the order of the records; revisions begin anew with each process.
const (
	recordMagic   = "millrace-attachment v"
	recordVersion = 1
	recordMax     = 64 << 10 // bytes; a reader takes no more
)

// errNewer is a file that a later release wrote; it must not be taken for damage.
var errNewer = errors.New("written by a newer release of millrace; install that release, or drain the node and empty the directory")

func encode(r record) []byte {
	body := fmt.Sprintf("%s\nnamespace %s %d\n", r.Attachment, strconv.Quote(r.Namespace.Boot), r.Namespace.Cookie)
	return sealed(body)
}

// sealed puts the head with the checksum before a body.
func sealed(body string) []byte {
	return fmt.Appendf(nil, "%s%d crc32c:%08x\n%s", recordMagic, recordVersion, checksum(body), body)
}

func decode(data []byte) (record, error) {
	if len(data) > recordMax {
		return record{}, fmt.Errorf("%d bytes: longer than any record", len(data))
	}
	head, body, _ := strings.Cut(string(data), "\n")
	rest, ok := strings.CutPrefix(head, recordMagic)
	if !ok {
		return record{}, fmt.Errorf("does not begin with %q", recordMagic)
	}
	number, sum, _ := strings.Cut(rest, " crc32c:")
	v, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return record{}, fmt.Errorf("format version %q: not a number", number)
	}
	if v > recordVersion {
		return record{}, fmt.Errorf("format version %d: %w", v, errNewer)
	}
	if v < recordVersion {
		return record{}, fmt.Errorf("format version %d: there is none below %d", v, recordVersion)
	}
	if want := fmt.Sprintf("%08x", checksum(body)); sum != want {
		return record{}, fmt.Errorf("checksum %q, want %s: torn or altered", sum, want)
	}
	return decodeBody(body)
}

func decodeBody(body string) (record, error) {
	lines := strings.Split(body, "\n")
	if len(lines) != 3 || lines[2] != "" {
		return record{}, fmt.Errorf("%d lines: want an attachment and a namespace", len(lines)-1)
	}
	a, err := cluster.ParseAttachment(lines[0])
	if err != nil {
		return record{}, err
	}
	rest, ok := strings.CutPrefix(lines[1], "namespace ")
	if !ok {
		return record{}, fmt.Errorf("line %q: want namespace", lines[1])
	}
	quoted, err := strconv.QuotedPrefix(rest)
	if err != nil {
		return record{}, fmt.Errorf("line %q: want a quoted boot id", lines[1])
	}
	boot, err := strconv.Unquote(quoted)
	if err != nil {
		return record{}, fmt.Errorf("line %q: boot id: %w", lines[1], err)
	}
	cookie, err := strconv.ParseUint(strings.TrimPrefix(rest[len(quoted):], " "), 10, 64)
	if err != nil {
		return record{}, fmt.Errorf("line %q: cookie: %w", lines[1], err)
	}
	return record{Attachment: a, Namespace: NamespaceID{Boot: boot, Cookie: cookie}}, nil
}

func checksum(body string) uint32 {
	return crc32.Checksum([]byte(body), crc32.MakeTable(crc32.Castagnoli))
}

// fileName is where an attachment's record lies. Runtimes' container IDs are 64 digits; a
// longer one than a file name may hold is cut and told apart by its hash.
func fileName(id cluster.AttachmentID) string {
	if name := id.ContainerID + "@" + id.IfName; len(name) <= 200 {
		return name
	}
	sum := sha256.Sum256([]byte(id.ContainerID))
	return id.ContainerID[:min(len(id.ContainerID), 100)] + "~" + hex.EncodeToString(sum[:16]) + "@" + id.IfName
}
