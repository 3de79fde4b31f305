// Package secret owns the text that must not be seen: it prints as a digest wherever it is
// printed, and shows what it is only to who asks for that by name.
//
// It never reads, stores or sends one.
package secret

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// DigestSize is the length of a digest in bytes: enough that two secrets of one node never
// share one, short enough to be kept where a machine has little room for it.
const DigestSize = 6

// Digest tells secrets apart. Who has the digest and not the salt cannot try out guesses.
type Digest [DigestSize]byte

// SaltSize is the length of a salt in bytes.
const SaltSize = 16

// Salt is mixed into a digest: random, and kept with the secret, never with the digest.
type Salt [SaltSize]byte

// Text is a secret, or the digest of one. Its zero value is no secret.
type Text struct {
	digest Digest
	// clear is salt and text in one. Package fmt prints a pointer to a string as an
	// address, whatever the verb and also where it cannot call String.
	clear *string
}

// New makes a secret of a text; an empty one is no secret.
func New(text string, salt Salt) Text {
	if text == "" {
		return Text{}
	}
	mac := hmac.New(sha256.New, salt[:])
	mac.Write([]byte(text))
	clear := string(salt[:]) + text
	return Text{Digest(mac.Sum(nil)[:DigestSize]), &clear}
}

// Of is a secret of which only the digest is known.
func Of(d Digest) Text { return Text{digest: d} }

// Parse reads what String prints: a secret of which only the digest is known.
func Parse(s string) (Text, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != DigestSize {
		return Text{}, fmt.Errorf("parse digest of a secret: want %d hexadecimal digits", 2*DigestSize)
	}
	return Of(Digest(b)), nil
}

// String is the digest in hexadecimal, "" where there is no secret.
func (t Text) String() string {
	if t.IsZero() {
		return ""
	}
	return hex.EncodeToString(t.digest[:])
}

// IsZero says that there is no secret.
func (t Text) IsZero() bool { return t.clear == nil && t.digest == Digest{} }

// Digest is the zero Digest where there is no secret.
func (t Text) Digest() Digest { return t.digest }

// Reveal returns the text and its salt; not ok where only the digest is known.
func (t Text) Reveal() (text string, salt Salt, ok bool) {
	if t.clear == nil {
		return "", Salt{}, t.IsZero()
	}
	return (*t.clear)[SaltSize:], Salt([]byte((*t.clear)[:SaltSize])), true
}

// Sealed is the secret without its text: values that hold sealed secrets can be compared
// by ==.
func (t Text) Sealed() Text { return Of(t.digest) }

// Equal says whether both are the same secret by their digests.
func (t Text) Equal(o Text) bool { return t.digest == o.digest }
