package attach

import (
	"net/netip"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/utils"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/cni"
	"github.com/millrace/millrace/cni/cnipb"
)

// Limits of names. netnsMax is what VPP's tap_create_v3 holds for a namespace's path.
const (
	containerIDMax = 512
	netnsMax       = 63
	podNameMax     = 253
)

// requested reads what ADD and CHECK have in common.
func requested(id *cnipb.AttachmentID, network, netns string) (cluster.Attachment, error) {
	valid, err := validID(id)
	if err != nil {
		return cluster.Attachment{}, err
	}
	if err := utils.ValidateNetworkName(network); err != nil {
		return cluster.Attachment{}, err
	}
	switch {
	case !filepath.IsAbs(netns) || unprintable(netns):
		return cluster.Attachment{}, cni.Errorf(types.ErrInvalidNetNS, "CNI_NETNS %q: want an absolute path", netns)
	case len(netns) > netnsMax:
		return cluster.Attachment{}, cni.Errorf(types.ErrInvalidNetNS, "CNI_NETNS %q: %d bytes; the dataplane takes paths of at most %d", netns, len(netns), netnsMax)
	}
	return cluster.Attachment{ID: valid, Network: network, Netns: netns}, nil
}

func withPod(a *cluster.Attachment, pod *cnipb.Pod, mtu uint32) error {
	for key, value := range map[string]string{
		"K8S_POD_NAMESPACE": pod.GetNamespace(), "K8S_POD_NAME": pod.GetName(), "K8S_POD_UID": pod.GetUid(),
	} {
		if len(value) > podNameMax || strings.Contains(value, "/") || unprintable(value) {
			return cni.Errorf(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: %s=%q: no such name in Kubernetes", key, value)
		}
	}
	if (pod.GetNamespace() == "") != (pod.GetName() == "") {
		return cni.Errorf(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: K8S_POD_NAMESPACE and K8S_POD_NAME go together")
	}
	if mtu != 0 && (mtu < 1280 || mtu > 9216) {
		return cni.Errorf(types.ErrInvalidNetworkConfig, "mtu: %d: want 1280 to 9216, or 0 for the node's default", mtu)
	}
	a.Pod = cluster.PodKey{Namespace: pod.GetNamespace(), Name: pod.GetName()}
	a.PodUID = pod.GetUid()
	a.MTU = mtu
	return nil
}

func validID(id *cnipb.AttachmentID) (cluster.AttachmentID, error) {
	if err := utils.ValidateContainerID(id.GetContainerId()); err != nil {
		return cluster.AttachmentID{}, err
	}
	if n := len(id.GetContainerId()); n > containerIDMax {
		return cluster.AttachmentID{}, cni.Errorf(types.ErrInvalidEnvironmentVariables, "CNI_CONTAINERID: %d bytes: want at most %d", n, containerIDMax)
	}
	if err := utils.ValidateInterfaceName(id.GetIfName()); err != nil {
		return cluster.AttachmentID{}, err
	}
	if unprintable(id.GetIfName()) {
		return cluster.AttachmentID{}, cni.Errorf(types.ErrInvalidEnvironmentVariables, "CNI_IFNAME: %q: holds characters that do not print", id.GetIfName())
	}
	return cluster.AttachmentID{ContainerID: id.GetContainerId(), IfName: id.GetIfName()}, nil
}

func validIDs(ids []*cnipb.AttachmentID) ([]cluster.AttachmentID, error) {
	var valid []cluster.AttachmentID
	for _, id := range ids {
		v, err := validID(id)
		if err != nil {
			return nil, err
		}
		valid = append(valid, v)
	}
	return valid, nil
}

func validAddresses(texts []string) ([]netip.Addr, error) {
	var all []netip.Addr
	for _, text := range texts {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, cni.Errorf(types.ErrDecodingFailure, "prevResult: %v", err)
		}
		all = append(all, a)
	}
	return all, nil
}

// seenAddresses are those of each interface of a result. Several of one name count as one.
func seenAddresses(list []*cnipb.Seen) (map[string][]netip.Addr, error) {
	seen := map[string][]netip.Addr{}
	for _, i := range list {
		addresses, err := validAddresses(i.GetAddresses())
		if err != nil {
			return nil, err
		}
		seen[i.GetName()] = append(seen[i.GetName()], addresses...)
	}
	return seen, nil
}

func validRoutes(routes []*cnipb.Route) ([]LinkRoute, error) {
	var all []LinkRoute
	for _, r := range routes {
		destination, err := netip.ParsePrefix(r.GetDestination())
		if err != nil {
			return nil, cni.Errorf(types.ErrDecodingFailure, "prevResult: %v", err)
		}
		gateway, err := netip.ParseAddr(r.GetGateway())
		if err != nil {
			return nil, cni.Errorf(types.ErrDecodingFailure, "prevResult: %v", err)
		}
		all = append(all, LinkRoute{Destination: destination, Gateway: gateway})
	}
	return all, nil
}

func unprintable(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
