package supervise

import (
	"fmt"
	"strings"
	"time"
)

// Crash is what is known of a child that ended unasked.
type Crash struct {
	Time      time.Time     `json:"time"` // of the end
	Dataplane string        `json:"dataplane"`
	About     string        `json:"about,omitempty"` // what the child said it is: its version
	Command   string        `json:"command"`
	PID       int           `json:"pid,omitempty"`
	Uptime    time.Duration `json:"uptimeNanoseconds"`
	ReadyFor  time.Duration `json:"readyForNanoseconds"`
	How       string        `json:"how"`
	Core      string        `json:"core,omitempty"`   // its path, or why there is none
	Report    string        `json:"report,omitempty"` // path of the report; "" = none is kept
	Output    []string      `json:"output,omitempty"` // last lines
}

// String is the report.
func (c Crash) String() string {
	var b strings.Builder
	row := func(name, text string) { fmt.Fprintf(&b, "%-10s %s\n", name, text) }
	row("time", c.Time.UTC().Format(time.RFC3339Nano))
	row("dataplane", c.Dataplane)
	if c.About != "" {
		row("version", c.About)
	}
	row("command", c.Command)
	if c.PID != 0 {
		row("pid", fmt.Sprint(c.PID))
	}
	row("uptime", fmt.Sprintf("%v, ready for %v", c.Uptime.Round(time.Millisecond), c.ReadyFor.Round(time.Millisecond)))
	row("end", c.How)
	row("core", c.Core)
	if len(c.Output) == 0 {
		row("output", "none")
	}
	for _, line := range c.Output {
		row("output", "| "+line)
	}
	return b.String()
}

// CrashError says that there is to be no other start.
type CrashError struct {
	Name   string
	Starts int
	Why    string // after "N starts, "
	Crash  Crash  // of the last one
	Err    error  // of Wire, when that failed; else nil
}

func (e *CrashError) Error() string {
	starts := fmt.Sprintf("%d starts", e.Starts)
	if e.Starts == 1 {
		starts = "1 start"
	}
	msg := fmt.Sprintf("run %s: %s, %s; the last one %s", e.Name, starts, e.Why, e.Crash.How)
	switch out := e.Crash.Output; {
	case len(out) > 0:
		for _, line := range out[max(0, len(out)-10):] {
			msg += "\n  | " + line
		}
	case e.Err == nil:
		msg += " and printed nothing"
	}
	if e.Crash.Report != "" {
		msg += "\n  report: " + e.Crash.Report
	}
	return msg
}

func (e *CrashError) Unwrap() error { return e.Err }
