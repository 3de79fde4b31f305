package attachtest

import (
	"context"

	"github.com/millrace/millrace/cluster"
)

// Objects answers attach.Objects out of facts as they are at the moment.
type Objects func() cluster.Snapshot

// Pod is attach.Objects'. A pod of the name and another uid is not the one asked for.
func (o Objects) Pod(_ context.Context, key cluster.PodKey, uid string) (cluster.Pod, bool, error) {
	p, ok := o().Pods[key]
	return p, ok && (p.UID == "" || uid == "" || p.UID == uid), nil
}

// Secret is attach.Objects'.
func (o Objects) Secret(_ context.Context, key cluster.SecretKey) (cluster.Secret, bool, error) {
	s, ok := o().Secrets[key]
	return s, ok, nil
}
