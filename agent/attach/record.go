package attach

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/internal/secret"
	"github.com/millrace/millrace/internal/textline"
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

// A record's file, text of three lines and one more for each secret:
//
//	millrace-attachment v2 crc32c:1f2e3d4c      <- of all that follows
//	attachment 3fa9/eth0 netns=/run/netns/a …   <- as package cluster prints it
//	namespace 6f1c…e2 4026                      <- boot id and cookie
//	secret memif0 salt=00ff… text="open sesame" <- in clear: the file is root's alone
//
// The revision in it is the order of the records; revisions begin anew with each process.
const (
	recordMagic = "millrace-attachment v"
	// Version 2 brought memifs. A record without them is written as version 1, which an
	// earlier release reads.
	recordPlain   = 1
	recordVersion = 2
	recordMax     = 64 << 10 // bytes; a reader takes no more
)

// errNewer is a file that a later release wrote; it must not be taken for damage.
var errNewer = errors.New("written by a newer release of millrace; install that release, or drain the node and empty the directory")

func encode(r record) []byte {
	body := fmt.Sprintf("%s\nnamespace %s %d\n", r.Attachment, strconv.Quote(r.Namespace.Boot), r.Namespace.Cookie)
	for _, m := range r.Memifs {
		if text, salt, ok := m.Password.Reveal(); ok && text != "" {
			l := textline.New("secret", m.Name)
			l.Add("salt", hex.EncodeToString(salt[:]))
			l.Add("text", text)
			body += l.String() + "\n"
		}
	}
	version := recordPlain
	if r.Device != cluster.DeviceKernel || len(r.Memifs) > 0 {
		version = recordVersion
	}
	return sealed(version, body)
}

// sealed puts the head with the checksum before a body.
func sealed(version int, body string) []byte {
	return fmt.Appendf(nil, "%s%d crc32c:%08x\n%s", recordMagic, version, checksum(body), body)
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
	if v < recordPlain {
		return record{}, fmt.Errorf("format version %d: there is none below %d", v, recordPlain)
	}
	if want := fmt.Sprintf("%08x", checksum(body)); sum != want {
		return record{}, fmt.Errorf("checksum %q, want %s: torn or altered", sum, want)
	}
	return decodeBody(body)
}

// decodeBody's errors hold nothing of a secret's line.
func decodeBody(body string) (record, error) {
	lines := strings.Split(body, "\n")
	if len(lines) < 3 || lines[len(lines)-1] != "" {
		return record{}, fmt.Errorf("%d lines: want an attachment and a namespace", len(lines)-1)
	}
	a, err := cluster.ParseAttachment(lines[0])
	if err != nil {
		return record{}, err
	}
	namespace, err := decodeNamespace(lines[1])
	if err != nil {
		return record{}, err
	}
	for i, line := range lines[2 : len(lines)-1] {
		if err := decodeSecret(a.Memifs, line); err != nil {
			return record{}, fmt.Errorf("line %d: %w", i+3, err)
		}
	}
	for _, m := range a.Memifs {
		if _, _, ok := m.Password.Reveal(); !ok {
			return record{}, fmt.Errorf("the secret of memif %s is missing", m.Name)
		}
	}
	return record{Attachment: a, Namespace: namespace}, nil
}

func decodeNamespace(line string) (NamespaceID, error) {
	rest, ok := strings.CutPrefix(line, "namespace ")
	if !ok {
		return NamespaceID{}, fmt.Errorf("line %q: want namespace", line)
	}
	quoted, err := strconv.QuotedPrefix(rest)
	if err != nil {
		return NamespaceID{}, fmt.Errorf("line %q: want a quoted boot id", line)
	}
	boot, err := strconv.Unquote(quoted)
	if err != nil {
		return NamespaceID{}, fmt.Errorf("line %q: boot id: %w", line, err)
	}
	cookie, err := strconv.ParseUint(strings.TrimPrefix(rest[len(quoted):], " "), 10, 64)
	if err != nil {
		return NamespaceID{}, fmt.Errorf("line %q: cookie: %w", line, err)
	}
	return NamespaceID{Boot: boot, Cookie: cookie}, nil
}

// decodeSecret gives a memif the secret of which its own text form has the digest.
func decodeSecret(memifs []cluster.Memif, line string) error {
	l, err := textline.Parse(line)
	if err != nil || len(l.Words) != 2 || l.Words[0] != "secret" {
		return errors.New("want secret, the name of a memif, salt and text")
	}
	r := textline.Read(l)
	salt, text := textline.One(r, "salt", hex.DecodeString), r.String("text")
	if err := r.Done(); err != nil || len(salt) != secret.SaltSize {
		return errors.New("want salt and text of a secret")
	}
	for i := range memifs {
		if m := &memifs[i]; m.Name == l.Words[1] {
			full := secret.New(text, secret.Salt(salt))
			if !full.Equal(m.Password) {
				return fmt.Errorf("the secret of memif %s is another one", m.Name)
			}
			m.Password = full
			return nil
		}
	}
	return fmt.Errorf("there is no memif %s", l.Words[1])
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
