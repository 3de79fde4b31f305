package change

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/millrace/millrace/vppmanager/startup"
)

func sysctlPath(c startup.Change) string {
	if strings.HasPrefix(c.Path, "/") {
		return c.Path
	}
	return "/proc/sys/" + c.Path
}

func lookSysctl(h Host, c startup.Change) (state, error) {
	value, err := h.read(sysctlPath(c))
	return state{Value: value}, err
}

// doSysctl notes what the kernel made of the value.
func doSysctl(_ context.Context, h Host, s *step) (*state, error) {
	if s.Before.Value == s.Change.Value {
		return &state{Value: s.Before.Value}, nil
	}
	if err := h.write(s.Change.Value, sysctlPath(s.Change)); err != nil {
		return nil, err
	}
	value, err := h.read(sysctlPath(s.Change))
	return &state{Value: value}, err
}

// undoSysctl leaves a value that is neither the former one nor ours: somebody else wants
// that.
func undoSysctl(_ context.Context, h Host, _ *Journal, s *step) error {
	now, err := h.read(sysctlPath(s.Change))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it went with its link or module
	}
	if err != nil || now == s.Before.Value {
		return err
	}
	if s.Done && s.After != nil && now != s.After.Value {
		h.tell("sysctl %s stays %s: somebody else has set that since", s.Change.Path, now)
		return nil
	}
	return h.write(s.Before.Value, sysctlPath(s.Change))
}
