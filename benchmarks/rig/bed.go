package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/benchmarks"
)

// Subject is a dataplane under test: a node that wires pods by CNI.
type Subject interface {
	Start(ctx context.Context, l *Launcher, dir string) error
	Describe(ctx context.Context) (benchmarks.Subject, error)
	Node() *Namespace
	Wiring() *Wiring
	Memory() (map[string]int64, error)
	Stop() error
}

// Bed is one started subject with its pods.
type Bed struct {
	Subject  Subject
	About    benchmarks.Subject
	launcher *Launcher
	dir      string
	pods     []*Pod
}

// scratchPrefix begins the names of scratch directories; the owner's pid follows.
const scratchPrefix = "millrace-rig-"

// scratchName is a pattern for names of scratch directories of this process.
func scratchName() string { return fmt.Sprintf("%s%d-*", scratchPrefix, os.Getpid()) }

// scratch makes a directory of this process, and removes what killed ones have left.
func scratch() (dir string, err error) {
	if err := errors.Join(sweep(os.TempDir()), removeShared(nobody)); err != nil {
		return "", err
	}
	if dir, err = os.MkdirTemp("", scratchName()); err != nil {
		return "", fmt.Errorf("make scratch directory: %w", err)
	}
	return dir, nil
}

// startPatience is how long a subject may take until it is ready for pods.
const startPatience = 2 * time.Minute

// NewBed starts a subject in a scratch directory of its own.
func NewBed(ctx context.Context, l *Launcher, s Subject) (*Bed, error) {
	dir, err := scratch()
	if err != nil {
		return nil, err
	}
	b := &Bed{Subject: s, launcher: l, dir: dir}
	starting, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	if err := s.Start(starting, l, dir); err != nil {
		return nil, errors.Join(err, b.Close(context.WithoutCancel(ctx)))
	}
	if b.About, err = s.Describe(ctx); err != nil {
		return nil, errors.Join(err, b.Close(context.WithoutCancel(ctx)))
	}
	return b, nil
}

// NewPod makes a namespace for a pod without wiring it.
func (b *Bed) NewPod(name string) (*Pod, error) {
	ns, err := b.launcher.NewNamespace()
	if err != nil {
		return nil, err
	}
	return &Pod{Name: name, Namespace: ns}, nil
}

// Add makes a pod and wires it; took is the time of the CNI call alone.
func (b *Bed) Add(ctx context.Context, name string) (pod *Pod, took time.Duration, err error) {
	pod, err = b.NewPod(name)
	if err != nil {
		return nil, 0, err
	}
	start := time.Now()
	if err := b.Subject.Wiring().Add(ctx, pod); err != nil {
		return nil, 0, errors.Join(err, pod.Namespace.Close())
	}
	b.pods = append(b.pods, pod)
	return pod, time.Since(start), nil
}

// Delete unwires a pod and gives its namespace up; took is the time of the CNI call alone.
func (b *Bed) Delete(ctx context.Context, pod *Pod) (took time.Duration, err error) {
	start := time.Now()
	if err := b.Subject.Wiring().Del(ctx, pod); err != nil {
		return 0, err
	}
	took = time.Since(start)
	for i, p := range b.pods {
		if p == pod {
			b.pods = append(b.pods[:i], b.pods[i+1:]...)
			break
		}
	}
	return took, pod.Namespace.Close()
}

// Close deletes the pods that are left, stops the subject and removes its scratch space.
func (b *Bed) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var errs []error
	for len(b.pods) > 0 {
		pod := b.pods[len(b.pods)-1]
		if _, err := b.Delete(ctx, pod); err != nil {
			errs = append(errs, err, pod.Namespace.Close())
			b.pods = b.pods[:len(b.pods)-1]
		}
	}
	errs = append(errs, b.Subject.Stop(), os.RemoveAll(b.dir))
	return errors.Join(errs...)
}

// sweep removes scratch directories of rigs that were killed.
func sweep(tmp string) error {
	dirs, err := filepath.Glob(filepath.Join(tmp, scratchPrefix+"*"))
	if err != nil {
		return fmt.Errorf("sweep scratch directories: %w", err)
	}
	for _, dir := range dirs {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), scratchPrefix), "-")
		pid, err := strconv.Atoi(owner)
		if err != nil || syscall.Kill(pid, 0) == nil || pid == os.Getpid() {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("sweep scratch directories: %w", err)
		}
	}
	return nil
}
