package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/benchmarks/scenario"
)

// progressLine shows how far a run is: one line rewritten in place on a terminal, one
// line a step elsewhere.
type progressLine struct{ out *os.File }

func (p *progressLine) show(s scenario.Progress) {
	left := "estimating"
	if s.Left > 0 {
		left = fmt.Sprintf("about %s left", s.Left.Round(time.Second))
	}
	line := fmt.Sprintf("[%3d %%] %s, %s", 100*s.Done/max(s.Total, 1), s.Step, left)
	if p.terminal() {
		fmt.Fprintf(p.out, "\r\033[K%s", line)
		return
	}
	fmt.Fprintln(p.out, line)
}

func (p *progressLine) clear() {
	if p.terminal() {
		fmt.Fprint(p.out, "\r\033[K")
	}
}

func (p *progressLine) terminal() bool {
	_, err := unix.IoctlGetTermios(int(p.out.Fd()), unix.TCGETS)
	return err == nil
}
