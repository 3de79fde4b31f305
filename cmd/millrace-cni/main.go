// Command millrace-cni is the CNI plugin: a runtime starts it once per verb.
//
// It owns the process: environment, standard streams, exit code. All it does stands in
// package cni; what it asks for is done by the agent.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/millrace/millrace/cni"
)

var version = "dev" // set by the linker

func main() { os.Exit(run()) }

// run returns the process's exit code. As CNI has it, an error goes to standard output as
// JSON.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	plugin := cni.Plugin{Context: ctx, Stdout: os.Stdout, Stderr: os.Stderr}
	failure := skel.PluginMainFuncsWithError(plugin.Funcs(), cni.Versions(), "CNI plugin millrace "+version)
	if failure == nil {
		return 0
	}
	if err := failure.Print(); err != nil {
		fmt.Fprintf(os.Stderr, "millrace-cni: print error %v: %v\n", failure, err)
	}
	return 1
}
