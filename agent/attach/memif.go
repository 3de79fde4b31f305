package attach

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/cni"
	"github.com/millrace/millrace/cni/cnipb"
	"github.com/millrace/millrace/internal/memifspec"
	"github.com/millrace/millrace/internal/secret"
)

// withMemif makes an attachment the memif that a request asks for.
func withMemif(a *cluster.Attachment, m *cnipb.Memif) error {
	if m == nil {
		return nil
	}
	const path = "memif"
	mode, err := memifspec.ParseMode(m.GetMode())
	if err != nil {
		return cni.Errorf(types.ErrInvalidNetworkConfig, "%s.mode: %v", path, err)
	}
	s := memifspec.Spec{
		Name: m.GetName(), Mode: mode, RingSize: m.GetRingSize(),
		// What a field does not hold becomes 0, which Check refuses.
		RxQueues: small[uint8](m.GetRxQueues()), TxQueues: small[uint8](m.GetTxQueues()), BufferSize: small[uint16](m.GetBufferSize()),
	}
	if ref := m.GetSecret(); ref != "" {
		if s.Secret, err = memifspec.ParseSecretRef(ref); err != nil {
			return cni.Errorf(types.ErrInvalidNetworkConfig, "%s.secret: %v", path, err)
		}
	}
	if err := s.Check(path); err != nil {
		return cni.Errorf(types.ErrInvalidNetworkConfig, "%v", err)
	}
	a.Device, a.Memifs = cluster.DeviceMemif, []cluster.Memif{{Spec: s}}
	return nil
}

func small[T uint8 | uint16](n uint32) T {
	if uint32(T(n)) != n {
		return 0
	}
	return T(n)
}

// askMemifs adds the memifs that the pod's annotation asks for, and fetches all secrets.
// The first interface of a container brings them; what it got stays, whatever becomes of
// the annotation and the Secret.
//
// It returns when the pod is among the facts, so that its policies are known before the
// interface is one.
func (s *Server) askMemifs(ctx context.Context, a *cluster.Attachment) error {
	specs, err := s.annotated(ctx, *a)
	if err != nil {
		return err
	}
	for _, spec := range specs {
		a.Memifs = append(a.Memifs, cluster.Memif{Spec: spec})
	}
	for i := range a.Memifs {
		m := &a.Memifs[i]
		if m.Password, err = s.password(ctx, a.Pod, m.Secret); err != nil {
			return cni.Errorf(cni.CodeSecret, "memif %s of %s: %v", m.Name, a.ID, err)
		}
	}
	return nil
}

// annotated reads the pod's annotation. A pod that need not be known has none.
func (s *Server) annotated(ctx context.Context, a cluster.Attachment) ([]memifspec.Spec, error) {
	if a.Pod == (cluster.PodKey{}) {
		return nil, nil
	}
	pod, known, err := s.objects.Pod(ctx, a.Pod, a.PodUID)
	if err != nil {
		return nil, cni.Errorf(types.ErrTryAgainLater, "%v", err)
	}
	if !known {
		return nil, nil
	}
	text, asked := pod.Annotations[memifspec.Annotation]
	if !asked || s.journal.hasOther(a.ID) {
		return nil, nil
	}
	specs, err := memifspec.ParseAnnotation(text)
	if err != nil {
		return nil, cni.Errorf(cni.CodeAnnotation, "pod %s: annotation %v", a.Pod, err)
	}
	for i, spec := range specs {
		taken := spec.Name == a.ID.IfName
		taken = taken || slices.ContainsFunc(a.Memifs, func(m cluster.Memif) bool { return m.Name == spec.Name })
		if taken {
			return nil, cni.Errorf(cni.CodeAnnotation, "pod %s: annotation %s[%d].name: %q is already an interface of the pod: choose another name",
				a.Pod, memifspec.Annotation, i, spec.Name)
		}
	}
	return specs, nil
}

// password fetches what a memif's secret refers to. Its errors never hold any of it.
func (s *Server) password(ctx context.Context, pod cluster.PodKey, ref memifspec.SecretRef) (secret.Text, error) {
	if ref == (memifspec.SecretRef{}) {
		return secret.Text{}, nil
	}
	if pod == (cluster.PodKey{}) {
		return secret.Text{}, fmt.Errorf("secret %s: CNI_ARGS names no pod, and so no namespace to look in", ref)
	}
	key := cluster.SecretKey{Namespace: pod.Namespace, Name: ref.Name}
	object, ok, err := s.objects.Secret(ctx, key)
	if err != nil {
		return secret.Text{}, err
	}
	if !ok {
		return secret.Text{}, fmt.Errorf("there is no Secret %s: create it, or ask for a memif without a secret", key)
	}
	value, ok := object.Data[ref.Key]
	if !ok {
		return secret.Text{}, fmt.Errorf("there is no key %s in Secret %s, only %v", ref.Key, key, slices.Sorted(maps.Keys(object.Data)))
	}
	text, _, _ := value.Reveal()
	switch {
	case text == "":
		return secret.Text{}, fmt.Errorf("key %s of Secret %s is empty", ref.Key, key)
	case len(text) > memifspec.SecretMax:
		return secret.Text{}, fmt.Errorf("key %s of Secret %s holds %d bytes: the memif protocol takes %d", ref.Key, key, len(text), memifspec.SecretMax)
	case strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return secret.Text{}, fmt.Errorf("key %s of Secret %s holds a line break or another control character: store it without", ref.Key, key)
	}
	var salt secret.Salt
	if _, err := rand.Read(salt[:]); err != nil {
		return secret.Text{}, fmt.Errorf("make salt: %w", err)
	}
	return secret.New(text, salt), nil
}

// replyMemif lists a memif as results do: the dataplane's end when it has a name, then the
// pod's. ifName is what the pod's end is called in the result.
func (s *Server) replyMemif(reply *cnipb.AddReply, r record, m cluster.Memif, ifName string) {
	mtu := r.MTU
	if mtu == 0 {
		mtu = s.mtu
	}
	if s.memifHost != nil {
		name, mac := s.memifHost(r.Attachment, m)
		reply.Interfaces = append(reply.Interfaces, &cnipb.Interface{Name: name, Mac: mac, Mtu: mtu})
	}
	at := uint32(len(reply.Interfaces))
	reply.Interfaces = append(reply.Interfaces, &cnipb.Interface{Name: ifName, Mtu: mtu, Sandbox: r.Netns, SocketPath: "@" + m.Socket()})
	gateways := cluster.NodeAddresses(s.ranges())
	for _, a := range m.Addresses {
		ip := &cnipb.IP{Address: fmt.Sprintf("%s/%d", a, a.BitLen()), Interface: at}
		// A link of IP packets has one other end, and no need of a next hop.
		if m.Mode == memifspec.Ethernet {
			for _, g := range gateways {
				if g.BitLen() == a.BitLen() {
					ip.Gateway = g.String()
				}
			}
		}
		reply.Ips = append(reply.Ips, ip)
	}
}

// ifNameOf is what a result calls the i-th memif of an attachment.
func ifNameOf(a cluster.Attachment, i int) string {
	if a.Device == cluster.DeviceMemif && i == 0 {
		return a.ID.IfName
	}
	return a.Memifs[i].Name
}

// lacksMemif names a memif whose socket nobody listens on, "" when there is none.
func (s *Server) lacksMemif(r record) (string, error) {
	for _, m := range r.Memifs {
		ok, err := s.pods.Listens(r.Netns, m.Socket())
		if err != nil {
			return "", err
		}
		if !ok {
			return fmt.Sprintf("nobody listens on @%s", m.Socket()), nil
		}
	}
	return "", nil
}
