// Package protocol is what a test and the agent in its virtual machine say to each other:
// JSON values, one after the other, over a virtio serial port.
//
// It owns the messages only; who sends them is elsewhere.
package protocol

// Port is the name of the virtio serial port.
const Port = "millrace.vmtest"

// Request asks the agent to start a command or to signal one that it started.
type Request struct {
	ID     int      `json:"id"` // of the command; chosen by the test
	Run    *Command `json:"run,omitempty"`
	Signal int      `json:"signal,omitempty"`
}

// Command is a process to start.
type Command struct {
	Argv  []string `json:"argv"`
	Env   []string `json:"env,omitempty"` // added to the agent's
	Dir   string   `json:"dir,omitempty"`
	Stdin []byte   `json:"stdin,omitempty"`
}

// Reply is one thing that happened in the guest.
type Reply struct {
	ID     int    `json:"id,omitempty"`     // of the command
	Hello  string `json:"hello,omitempty"`  // the first of all: the boot's id
	Beat   bool   `json:"beat,omitempty"`   // the guest is alive
	PID    int    `json:"pid,omitempty"`    // the command runs
	Output []byte `json:"output,omitempty"` // of its standard output
	Errors []byte `json:"errors,omitempty"` // of its standard error
	Exit   *Exit  `json:"exit,omitempty"`   // its end, after all output
	Failed string `json:"failed,omitempty"` // it could not be started or signalled
}

// Exit is how a process ended.
type Exit struct {
	Code   int `json:"code"`             // -1 when a signal ended it
	Signal int `json:"signal,omitempty"` // which
}
