package cni

import (
	"strconv"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/millrace/millrace/cni/cnipb"
)

// parseArgs reads CNI_ARGS, "KEY=VALUE;KEY=VALUE", for the pod that a Kubernetes runtime
// names there. An unknown key is an error unless IgnoreUnknown is set, as the convention has it.
func parseArgs(args string) (*cnipb.Pod, error) {
	pod := &cnipb.Pod{}
	var unknown []string
	ignore := false
	for pair := range strings.SplitSeq(args, ";") {
		if pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, Errorf(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: %q: want KEY=VALUE", pair)
		}
		switch key {
		case "IgnoreUnknown":
			b, err := strconv.ParseBool(strings.ToLower(value))
			if err != nil {
				return nil, Errorf(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: IgnoreUnknown=%s: want 1 or 0", value)
			}
			ignore = b
		case "K8S_POD_NAMESPACE":
			pod.Namespace = value
		case "K8S_POD_NAME":
			pod.Name = value
		case "K8S_POD_UID":
			pod.Uid = value
		case "K8S_POD_INFRA_CONTAINER_ID": // CNI_CONTAINERID says the same
		default:
			unknown = append(unknown, pair)
		}
	}
	if len(unknown) > 0 && !ignore {
		return nil, Errorf(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: unknown %q; set IgnoreUnknown=1 to let them pass", unknown)
	}
	if (pod.Namespace == "") != (pod.Name == "") {
		return nil, Errorf(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: K8S_POD_NAMESPACE=%q and K8S_POD_NAME=%q go together", pod.Namespace, pod.Name)
	}
	return pod, nil
}
