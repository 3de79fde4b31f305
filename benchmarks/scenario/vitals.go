package scenario

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.fd.io/govpp/binapi/memclnt"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/benchmarks/rig"
	"github.com/millrace/millrace/vpp"
)

// apiSubject is a subject that is driven by VPP's binary API.
type apiSubject interface{ APISocket() string }

// vitals measures what needs no traffic: the plugin binary's size and the time it takes
// to start and answer VERSION (what every CNI call pays before it asks anybody), and the
// binary API's calls per second.
func (r *run) vitals(ctx context.Context, b *bench) error {
	if err := r.plugin(ctx, b); err != nil {
		return err
	}
	s, ok := b.Subject.(apiSubject)
	if !ok {
		return nil
	}
	conn, err := vpp.Dial(ctx, vpp.Config{Socket: s.APISocket()})
	if err != nil {
		return err
	}
	defer conn.Close()
	const calls = 20000
	for range r.Repetitions {
		if err := r.sequential(ctx, b, conn, calls/4); err != nil {
			return err
		}
		if err := r.pipelined(ctx, b, conn, calls); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) plugin(ctx context.Context, b *bench) error {
	path := b.Subject.Wiring().Plugin()
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("measure plugin: %w", err)
	}
	r.result.Add(benchmarks.Measurement{Name: "plugin-size", Title: "CNI plugin binary", Subject: b.About.Name, Unit: "MB", Better: benchmarks.Lower,
		Note: filepath.Base(path)}, float64(info.Size())/1e6)
	for range 20 {
		cmd := rig.Command(path)
		cmd.Env = []string{"CNI_COMMAND=VERSION"}
		start := time.Now()
		if _, err := r.launcher.Run(ctx, nil, cmd); err != nil {
			return fmt.Errorf("measure plugin: %w", err)
		}
		r.result.Add(benchmarks.Measurement{Name: "plugin-start", Title: "CNI plugin start", Subject: b.About.Name, Unit: "ms", Better: benchmarks.Lower,
			Command: "CNI_COMMAND=VERSION " + filepath.Base(path)}, milliseconds(time.Since(start)))
	}
	return nil
}

func (r *run) sequential(ctx context.Context, b *bench, conn *vpp.Conn, calls int) error {
	start := time.Now()
	for range calls {
		if _, err := vpp.Call[memclnt.ControlPingReply](ctx, conn, &memclnt.ControlPing{}); err != nil {
			return err
		}
	}
	r.addRate(b, "api-sequential", "API calls, one at a time", calls, time.Since(start))
	return nil
}

func (r *run) pipelined(ctx context.Context, b *bench, conn *vpp.Conn, calls int) error {
	exchanges := make([]vpp.Exchange, calls)
	for i := range exchanges {
		exchanges[i] = vpp.Exchange{Request: &memclnt.ControlPing{}, Reply: &memclnt.ControlPingReply{}}
	}
	start := time.Now()
	if err := conn.Batch(ctx, exchanges); err != nil {
		return err
	}
	r.addRate(b, "api-pipelined", "API calls, pipelined", calls, time.Since(start))
	return nil
}

func (r *run) addRate(b *bench, name, title string, calls int, took time.Duration) {
	r.result.Add(benchmarks.Measurement{Name: name, Title: title, Subject: b.About.Name, Unit: "thousand/s", Better: benchmarks.Higher,
		Command: fmt.Sprintf("%d x control_ping", calls)}, float64(calls)/took.Seconds()/1e3)
}
