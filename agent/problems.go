package agent

import (
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/policy"
	"github.com/millrace/millrace/service"
)

// tell has the authors of policies that fail closed here know it, and the log: there each
// problem stands once, and once more when it is over.
func (a *Agent) tell(problems []policy.Problem) {
	a.metrics.policies.Set(float64(len(problems)))
	now := make(map[cluster.Ref]string, len(problems))
	for _, p := range problems {
		about, text := p.Object.Ref(), p.Err.Error()
		now[about] = text
		if a.config.Events != nil {
			a.config.Events.Warn(about, string(p.Reason), text+"; until it is mended it allows nothing to the pods it selects")
		}
		if a.told[about] != text {
			a.log.Warn("a policy cannot be enforced as written: it allows nothing", "object", about, "reason", p.Reason, "err", p.Err)
		}
	}
	for about := range a.told {
		if _, still := now[about]; !still {
			a.log.Info("a policy that could not be enforced as written is no longer one", "object", about)
		}
	}
	a.told = now
}

// tellServices has the authors of services, and of pods that want a port of the node, know
// what they ask for and do not get, and the log: there each stands once, and once more when
// it is over.
func (a *Agent) tellServices(problems []service.Problem) {
	now := make(map[service.Key]bool, len(problems))
	for _, p := range problems {
		key := p.Key()
		now[key] = true
		if a.config.Events != nil {
			a.config.Events.Warn(p.About, string(p.Reason), key.Text)
		}
		if !a.toldServices[key] {
			a.log.Warn("a service does not get all that it asks for", "object", p.About, "reason", p.Reason, "err", p.Err)
		}
	}
	for key := range a.toldServices {
		if !now[key] {
			a.log.Info("a service has what it asked for, or asks no more", "object", key.About, "was", key.Text)
		}
	}
	a.toldServices = now
}
