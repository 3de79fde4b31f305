package cluster

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/memifspec"
	"github.com/millrace/millrace/internal/secret"
	"github.com/millrace/millrace/internal/textline"
)

// AttachmentDevice is what an attachment itself is.
type AttachmentDevice uint8

const (
	DeviceKernel AttachmentDevice = iota // an interface of the kernel in the pod's namespace
	DeviceMemif                          // the first of its memifs, and nothing in the kernel
)

func (d AttachmentDevice) String() string {
	if d == DeviceMemif {
		return "memif"
	}
	return "kernel"
}

func parseAttachmentDevice(s string) (AttachmentDevice, error) {
	if s != "memif" {
		return 0, fmt.Errorf("%q: want memif, or leave it out", s)
	}
	return DeviceMemif, nil
}

// Memif is one memif interface of an attachment, as its ADD settled it.
type Memif struct {
	memifspec.Spec
	Password  secret.Text  // what the Secret that Spec.Secret names held at the ADD
	Addresses []netip.Addr // of the pod's end, at most one per family
}

// Socket is the abstract socket in the pod's namespace, without the leading @.
func (m Memif) Socket() string { return "millrace/" + m.Name }

// String is a line within a line, for example
//
//	memif0 mode=ethernet rx-queues=1 tx-queues=1 ring=1024 buffer=2048 secret=keys/psk password=3f0e… address=10.1.0.6
func (m Memif) String() string {
	l := textline.New(m.Name)
	l.Add("mode", m.Mode.String())
	l.AddUint("rx-queues", uint64(m.RxQueues))
	l.AddUint("tx-queues", uint64(m.TxQueues))
	l.AddUint("ring", uint64(m.RingSize))
	l.AddUint("buffer", uint64(m.BufferSize))
	l.Add("secret", m.Secret.String())
	l.Add("password", m.Password.String())
	textline.AddAll(&l, "address", m.Addresses)
	return l.String()
}

func parseMemif(s string) (Memif, error) {
	l, err := textline.Parse(s)
	if err == nil && len(l.Words) != 1 {
		err = fmt.Errorf("want a name, then fields")
	}
	if err != nil {
		return Memif{}, err
	}
	r := textline.Read(l)
	m := Memif{
		Spec: memifspec.Spec{
			Name: l.Words[0], Mode: textline.One(r, "mode", memifspec.ParseMode),
			RxQueues: textline.One(r, "rx-queues", parseSmall[uint8]), TxQueues: textline.One(r, "tx-queues", parseSmall[uint8]),
			RingSize: textline.One(r, "ring", parseUint32), BufferSize: textline.One(r, "buffer", parseSmall[uint16]),
			Secret: textline.One(r, "secret", memifspec.ParseSecretRef),
		},
		Password:  textline.One(r, "password", secret.Parse),
		Addresses: textline.All(r, "address", netip.ParseAddr),
	}
	return m, r.Done()
}

func parseSmall[T uint8 | uint16](s string) (T, error) {
	n, err := parseUint32(s)
	if err == nil && uint32(T(n)) != n {
		err = fmt.Errorf("%s is too large", s)
	}
	return T(n), err
}

// AllAddresses yields every address that an attachment keeps others from having: its own
// and those of its memifs.
func (a Attachment) AllAddresses() iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for _, addr := range a.Addresses {
			if !yield(addr) {
				return
			}
		}
		for _, m := range a.Memifs {
			for _, addr := range m.Addresses {
				if !yield(addr) {
					return
				}
			}
		}
	}
}

// SecretKey names a Kubernetes Secret.
type SecretKey struct{ Namespace, Name string }

func (k SecretKey) String() string { return k.Namespace + "/" + k.Name }

// Secret is what the dataplane needs of a Kubernetes Secret. Its text form has the keys
// and not what they hold.
type Secret struct {
	Key  SecretKey
	Data map[string]secret.Text // with a zero salt
}

func (s Secret) String() string {
	l := textline.New("secret", s.Key.String())
	var keys []string
	for k := range s.Data {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		l.Add("key", k)
	}
	return l.String()
}

func parseSecretKey(s string) (SecretKey, error) {
	namespace, name, ok := strings.Cut(s, "/")
	if !ok || strings.Contains(name, "/") {
		return SecretKey{}, fmt.Errorf("parse secret %q: want namespace/name", s)
	}
	return SecretKey{namespace, name}, nil
}

func readSecret(key SecretKey, r *textline.Reader) (Secret, error) {
	s := Secret{Key: key}
	for _, k := range r.Strings("key") {
		if s.Data == nil {
			s.Data = map[string]secret.Text{}
		}
		s.Data[k] = secret.Text{}
	}
	return s, r.Done()
}
