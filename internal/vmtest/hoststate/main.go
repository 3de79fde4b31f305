// Command hoststate prints, as JSON, what the host of a test's virtual machine is like, by
// package hoststate. It changes nothing.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/millrace/millrace/internal/hoststate"
)

func main() {
	s, err := hoststate.Read()
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hoststate:", err)
		os.Exit(1)
	}
}
