package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/millrace/millrace/agent/attach"
	"github.com/millrace/millrace/agent/compile"
	"github.com/millrace/millrace/agent/hostnet"
	"github.com/millrace/millrace/agent/program"
)

// Leave takes off the node what its agent put there and a stop leaves in place, so that pods
// go on: the nftables table, settings of the kernel, which come back as they were, and links
// with their routes. It is all that there is: what a dataplane has goes with that, what the
// manager changed is the manager's to undo, and pods' own namespaces go with the pods. The
// journal of attachments stays. It goes on after an error, and may be called again.
func Leave(stateDir, node string) error {
	if _, err := os.Stat(stateDir); errors.Is(err, fs.ErrNotExist) {
		return nil // no agent was here
	}
	journal, err := attach.Open(stateDir) // it is locked while an agent runs
	if err != nil {
		return fmt.Errorf("take the agent's traces off the node: %w", err)
	}
	defer journal.Close()
	kernel, err := hostnet.Open(stateDir)
	if err == nil {
		err = kernel.Clear()
	}
	if err := errors.Join(err, program.ClearHost(node, compile.Defaults().HostName)); err != nil {
		return fmt.Errorf("take the agent's traces off the node: %w", err)
	}
	return nil
}
