package install

import (
	"context"
	"log/slog"
	"time"
)

// Keeper installs the CNI plugin and keeps it installed while it runs.
type Keeper struct {
	CNI CNI
	Log *slog.Logger

	// Ready says why the agent cannot serve an ADD yet; nil says that it can.
	Ready func(context.Context) error
	// Going says whether Millrace is being taken off the cluster; nil: it never is. It counts
	// once Run's ctx has ended, but is asked until it answers for the first time, too.
	Going func(context.Context) (bool, error)

	Look     time.Duration // between two looks at the files, and at an agent that is not ready; 0: 2 s
	Patience time.Duration // for Going; 0: 30 s
}

// Run copies the plugin, waits until the agent can serve it, and then writes the network
// configuration: with that the kubelet calls the node ready. From then on it puts back what
// somebody removes or changes, whether the agent is ready or not: pods that are made while
// it restarts wait for it.
//
// When ctx ends Run returns, and leaves everything as it is, unless Millrace is going: then
// it removes both files. It returns an error when it cannot write them; a file system that
// is read-only will not mend.
func (k Keeper) Run(ctx context.Context) error {
	if k.Look == 0 {
		k.Look = 2 * time.Second
	}
	if k.Patience == 0 {
		k.Patience = 30 * time.Second
	}
	if err := k.CNI.Validate(); err != nil {
		return err
	}
	if err := k.keep(ctx); err != nil {
		return err
	}
	return k.leave(context.WithoutCancel(ctx))
}

// keep works until ctx ends.
func (k Keeper) keep(ctx context.Context) error {
	tick := time.NewTicker(k.Look)
	defer tick.Stop()
	served, asked, waiting := false, k.Going == nil, ""
	for {
		if !asked {
			_, err := k.Going(ctx)
			asked = err == nil
		}
		if err := k.put(k.CNI.PutPlugin, k.CNI.plugin()); err != nil {
			return err
		}
		if !served {
			err := k.Ready(ctx)
			served = err == nil
			if err != nil && err.Error() != waiting && ctx.Err() == nil {
				waiting = err.Error()
				k.Log.Info("waiting for the agent before the network is announced", "err", err)
			}
			if served {
				k.warn()
			}
		}
		if served {
			if err := k.put(k.CNI.PutConf, k.CNI.conf()); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (k Keeper) put(put func() (bool, error), path string) error {
	changed, err := put()
	if changed {
		k.Log.Info("installed", "file", path)
	}
	return err
}

// warn tells of networks that the runtime prefers.
func (k Keeper) warn() {
	before, err := k.CNI.Before()
	if err != nil {
		k.Log.Warn("cannot see whether another network comes first", "err", err)
	}
	for _, name := range before {
		k.Log.Warn("the container runtime takes another network before ours: remove its file, or give ours a name that sorts before", "file", name, "dir", k.CNI.ConfDir, "ours", k.CNI.ConfName)
	}
}

// leave removes the files when Millrace goes. An answer that cannot be had leaves them: a
// restart is more common than a removal, and a node without its network is worse than one
// with a file too many.
func (k Keeper) leave(ctx context.Context) error {
	if k.Going == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, k.Patience)
	defer cancel()
	for {
		going, err := k.Going(ctx)
		if err == nil && !going {
			k.Log.Info("leaving the CNI plugin in place: this is a restart")
			return nil
		}
		if err == nil {
			removed, err := k.CNI.Remove()
			k.Log.Info("removed the CNI plugin: Millrace is being uninstalled", "files", removed)
			return err
		}
		select {
		case <-ctx.Done():
			k.Log.Warn("leaving the CNI plugin in place: whether Millrace is being uninstalled cannot be found out; millrace uninstall removes it", "err", err)
			return nil
		case <-time.After(k.Look):
		}
	}
}
