package conformance

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/internal/netnstest"
)

var record = RecordFlag()

func TestIntegrationVPP(t *testing.T) {
	binary := os.Getenv("VPP_BIN")
	if binary == "" {
		t.Skip("needs VPP_BIN: the path of a VPP 25.10")
	}
	Run(t, VPP{Binary: binary}, *record)
}

func TestIntegrationEngine(t *testing.T) {
	Run(t, embedded{}, false)
}

// embedded is this test binary, started anew as an engine: ports are opened on threads
// of the whole process, so it needs a process to be in another network namespace.
type embedded struct{}

// The sockets' paths come by the first two variables; the third is for whoever runs the
// suite: the number of workers, 1 when unset.
const (
	apiVariable     = "CONFORMANCE_ENGINE_API"
	statsVariable   = "CONFORMANCE_ENGINE_STATS"
	workersVariable = "CONFORMANCE_ENGINE_WORKERS"
)

func (embedded) Command(t testing.TB, n *netnstest.Namespace, dir, api, stats string, _ ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := n.Command(t, self)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	cmd.Env = append(os.Environ(), apiVariable+"="+api, statsVariable+"="+stats)
	return cmd
}

func TestMain(m *testing.M) {
	if api := os.Getenv(apiVariable); api != "" {
		if err := runEngine(api, os.Getenv(statsVariable)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func runEngine(api, stats string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	c := engine.Config{APISocket: api, StatsSocket: stats, Version: "test", Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if text := os.Getenv(workersVariable); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("read %s: %w", workersVariable, err)
		}
		c.Workers = n
	}
	e, err := engine.New(c)
	if err != nil {
		return err
	}
	return e.Run(ctx, func() {})
}
