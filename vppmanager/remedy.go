package vppmanager

import (
	"errors"
	"fmt"
	"strings"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/startup"
	"github.com/millrace/millrace/vppmanager/supervise"
)

// remedy says to a person what to do about a dataplane that was given up.
func remedy(plan startup.Plan, crash *supervise.CrashError) string {
	how, program := crash.Crash.How, "the engine"
	if len(plan.Command) > 0 && plan.Dataplane == nodeconfig.UseVPP {
		program = plan.Command[0]
	}
	output := strings.Join(crash.Crash.Output, "\n")
	switch {
	case errors.Is(crash, supervise.ErrHopeless):
		return "the error says it"
	case crash.Err != nil:
		return "the dataplane runs but refuses what it has to be told: compare `millrace manager --dry-run` with its answer"
	case strings.Contains(output, "error while loading shared libraries"):
		return fmt.Sprintf("install the libraries that %s needs (ldd %s names them)", program, program)
	case strings.Contains(how, "could not be run"):
		return fmt.Sprintf("check that %s is a program for this machine", program)
	case strings.Contains(how, "signal 4 "):
		return fmt.Sprintf("%s uses instructions that this CPU does not have: install a VPP that is built for it", program)
	case strings.Contains(how, "did not answer"):
		return fmt.Sprintf("%s runs but does not serve %s: is it VPP? start it by hand (%s) and see where it hangs", program, plan.Sockets.API, strings.Join(plan.Command, " "))
	case strings.Contains(how, "signal 9 "):
		return "somebody killed it: the kernel does when memory runs out (dmesg says so); then lower vpp.mainHeapSize or vpp.buffersPerNuma"
	case plan.Dataplane == nodeconfig.UseVPP:
		return "its last lines say why; compare vpp.extra and vpp.plugins with the startup.conf that `millrace manager --dry-run` prints, and start again"
	}
	return "its last lines say why"
}
