package program

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/agent/compile"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/internal/servicetest"
)

// rollout is a Deployment of two pods that is updated, in the order in which Kubernetes does
// it: a new pod is attached, serves, is ready; then an old one is to end, serves those who
// came before, closes, and is detached.
type rollout struct {
	*testing.T
	program *Program
	options compile.Options
	pods    []*netnstest.Namespace // the last is the client's
	on      map[int]string         // pods that are attached, with their conditions
	serving map[int][]*servicetest.Backend
}

// settle has the machine do what the facts say now.
func (r *rollout) settle() {
	r.Helper()
	s := node(r.pods...)
	slices := [2]string{}
	var list []cluster.Attachment
	for i, conditions := range r.on {
		list = append(list, s.Attachments[cluster.AttachmentID{ContainerID: r.pods[i].Name, IfName: "eth0"}])
		if conditions != "" {
			slices[0] += fmt.Sprintf(` endpoint="%s node=n %s"`, podAddr4(i), conditions)
			slices[1] += fmt.Sprintf(` endpoint="%s node=n %s"`, podAddr6(i), conditions)
		}
	}
	s = s.WithAttachments(s.Revision, list)
	s = withFacts(r.T, s, fmt.Sprintf(`service d/web clusterip=10.96.0.1 clusterip=fd96::1 port=t:80/TCP port=u:80/UDP
endpointslice d/web4 service=web port=t:8080/TCP port=u:8080/UDP%s
endpointslice d/web6 service=web port=t:8080/TCP port=u:8080/UDP%s
`, slices[0], slices[1]))
	reach(r.T, r.program, wish(r.T, s, r.options))
}

const (
	starts = ""
	ready  = "ready=true serving=true"
	ending = "serving=true terminating=true"
)

func (r *rollout) begin(i int) {
	r.Helper()
	r.on[i] = starts
	r.settle()
	r.serving[i] = servicetest.Serve(r.T, r.pods[i], 8080, podAddr4(i), podAddr6(i))
	r.on[i] = ready
	r.settle()
}

func (r *rollout) end(i int) {
	r.Helper()
	r.on[i] = ending
	r.settle()
	for _, b := range r.serving[i] {
		b.Drain()
	}
	delete(r.on, i)
	r.settle()
}

// TestIntegrationRollingUpdate updates all pods of a service twice under 500 new connections
// a second, from a pod and from the node, by both families: none is refused, none hangs.
func TestIntegrationRollingUpdate(t *testing.T) {
	natMachines(t, func(t *testing.T, m machinetest.Machine) {
		p, o := starting(t, m)
		r := &rollout{T: t, program: p, options: o, on: map[int]string{}, serving: map[int][]*servicetest.Backend{}}
		for range 5 {
			r.pods = append(r.pods, netnstest.New(t))
		}
		r.on[4] = starts // the client's
		r.begin(0)
		r.begin(1)
		stop := knock(t, r.pods[4])
		for range 2 {
			for i := range 4 {
				r.begin((i + 2) % 4)
				r.end(i)
			}
		}
		n := stop()
		if t.Logf("%d connections", n); n < 500 {
			t.Error("these few tell little")
		}
		reach(t, p, dataplane.State{})
	})
}

// knock makes 500 connections a second until it is stopped, which returns how many. One that
// fails fails the test.
func knock(t *testing.T, pod *netnstest.Namespace) (stop func() int) {
	var clients servicetest.Clients
	var all sync.WaitGroup
	end, made := make(chan struct{}), 0
	all.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			to, from := netip.MustParseAddrPort([]string{"10.96.0.1:80", "[fd96::1]:80"}[made&1]), pod
			if made&2 != 0 {
				from = nil
			}
			made++
			all.Go(func() {
				if _, err := clients.Ask(t, from, netip.Addr{}, "tcp", to); err != nil {
					t.Errorf("a new connection to %s: %v", to, err)
				}
			})
		}
	})
	return func() int {
		close(end)
		all.Wait()
		return made
	}
}
