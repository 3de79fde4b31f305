package kubetest

import (
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// process is one that dies with this one, whatever ends it.
type process struct {
	output *os.File
	ended  chan struct{}
	err    error // of its end; read after ended
	once   sync.Once
	cmd    *exec.Cmd
}

func start(cmd *exec.Cmd, output *os.File) (*process, error) {
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p := &process{output: output, ended: make(chan struct{}), cmd: cmd}
	started := make(chan error)
	go func() {
		// The signal comes when the thread that started the child ends: it is kept.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
		close(p.ended)
	}()
	if err := <-started; err != nil {
		output.Close()
		return nil, err
	}
	return p, nil
}

// kill ends it without warning and returns when it is gone.
func (p *process) kill() {
	p.once.Do(func() {
		p.cmd.Process.Kill() // an error means that it has died already
		<-p.ended
		p.output.Close()
	})
}

// tail is the end of what it printed.
func (p *process) tail() string {
	text, err := os.ReadFile(p.output.Name())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4000):])
}
