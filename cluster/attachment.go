package cluster

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/textline"
)

// AttachmentID names one interface of one container, as CNI does. Its text form is
// containerID/ifName; CNI allows no slash in either.
type AttachmentID struct{ ContainerID, IfName string }

// Attachment is the fact that a container has an interface: what a CNI ADD stored and a
// DEL has not yet removed.
type Attachment struct {
	ID        AttachmentID
	Netns     string // absolute path of the container's network namespace
	Pod       PodKey // both parts empty when the caller named no pod
	PodUID    string
	Network   string // name of the CNI network
	Device    AttachmentDevice
	Addresses []netip.Addr // of its kernel device: at most one per family counts as the pod's; all are routed
	Memifs    []Memif      // in the order they were asked for; the first is the attachment itself if Device says so
	MTU       uint32       // bytes at L3; 0 = the node's default
	Revision  uint64       // of the journal when this fact was stored
}

func (id AttachmentID) String() string { return id.ContainerID + "/" + id.IfName }

// ParseAttachmentID reads the text form.
func ParseAttachmentID(s string) (AttachmentID, error) {
	container, name, ok := strings.Cut(s, "/")
	if !ok || container == "" || name == "" || strings.Contains(name, "/") {
		return AttachmentID{}, fmt.Errorf("parse attachment id %q: want containerID/ifName", s)
	}
	return AttachmentID{container, name}, nil
}

func (k PodKey) String() string { return k.Namespace + "/" + k.Name }

// ParsePodKey reads namespace/name.
func ParsePodKey(s string) (PodKey, error) {
	namespace, name, ok := strings.Cut(s, "/")
	if !ok || strings.Contains(name, "/") {
		return PodKey{}, fmt.Errorf("parse pod %q: want namespace/name", s)
	}
	return PodKey{namespace, name}, nil
}

// String is one line, for example
//
//	attachment 3fa9/eth0 pod=default/web uid=1f netns=/run/netns/a network=millrace address=10.1.0.5 mtu=1500 revision=7
func (a Attachment) String() string {
	l := textline.New("attachment", a.ID.String())
	if a.Pod != (PodKey{}) {
		l.Add("pod", a.Pod.String())
	}
	l.Add("uid", a.PodUID)
	l.Add("netns", a.Netns)
	l.Add("network", a.Network)
	if a.Device != DeviceKernel {
		l.Add("device", a.Device.String())
	}
	textline.AddAll(&l, "address", a.Addresses)
	textline.AddAll(&l, "memif", a.Memifs)
	l.AddUint("mtu", uint64(a.MTU))
	l.AddUint("revision", a.Revision)
	return l.String()
}

// ParseAttachment reads the text form of one attachment.
func ParseAttachment(s string) (Attachment, error) {
	l, err := textline.Parse(s)
	if err == nil && (len(l.Words) != 2 || l.Words[0] != "attachment") {
		err = fmt.Errorf("want attachment containerID/ifName")
	}
	var a Attachment
	if err == nil {
		a, err = readAttachment(l)
	}
	if err != nil {
		return Attachment{}, fmt.Errorf("parse attachment %q: %w", s, err)
	}
	return a, nil
}

func readAttachment(l textline.Line) (Attachment, error) {
	id, err := ParseAttachmentID(l.Words[1])
	if err != nil {
		return Attachment{}, err
	}
	r := textline.Read(l)
	a := Attachment{
		ID:        id,
		Pod:       textline.One(r, "pod", ParsePodKey),
		PodUID:    r.String("uid"),
		Netns:     r.String("netns"),
		Network:   r.String("network"),
		Device:    textline.One(r, "device", parseAttachmentDevice),
		Addresses: textline.All(r, "address", netip.ParseAddr),
		Memifs:    textline.All(r, "memif", parseMemif),
		MTU:       textline.One(r, "mtu", parseUint32),
		Revision:  textline.One(r, "revision", parseUint64),
	}
	return a, r.Done()
}

func parseUint32(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}

func parseUint64(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) }
