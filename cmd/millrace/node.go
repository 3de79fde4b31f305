package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager"
	"github.com/millrace/millrace/vppmanager/inventory"
	"github.com/millrace/millrace/vppmanager/startup"
)

func runNode(_ context.Context, args []string) error { return node(args, os.Stdout) }

// node prints what a start on this machine would find, and which drivers would work.
func node(args []string, stdout io.Writer) error {
	if len(args) == 0 || args[0] != "inspect" {
		return errors.New("want inspect (what this node has, and which drivers work for its NICs)")
	}
	set := flag.NewFlagSet("node inspect", flag.ContinueOnError)
	set.String("config", nodeconfig.Path, "the NodeConfig `file`: it names VPP's program and the directories in use")
	set.String("vpp-bin", "", "VPP's `program` (also VPP_BIN)")
	output := set.String("output", "table", "table (for people) or json (for programs)")
	if err := parse(set, args[1:]); err != nil {
		return err
	}
	if *output != "table" && *output != "json" {
		return fmt.Errorf("--output %q: want table or json", *output)
	}
	cfg, err := managerConfig(set)
	if err != nil {
		return err
	}
	inv, err := vppmanager.Inspect(cfg)
	if err != nil {
		return err
	}
	if *output == "json" {
		return inspectionJSON(stdout, inv)
	}
	_, err = io.WriteString(stdout, inv.Text(func(nic inventory.NIC) []string { return driverLines(inv, nic) }))
	return err
}

// inspectionJSON prints the node with the judgement on each NIC beside it, so that it
// reads back as a node.
func inspectionJSON(w io.Writer, inv inventory.Node) error {
	drivers := map[string][]startup.DriverChoice{}
	for _, nic := range inv.NICs {
		drivers[nic.Title()] = startup.Drivers(inv, nic)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(struct {
		inventory.Node
		Drivers map[string][]startup.DriverChoice `json:"drivers"` // by the NIC's name, or address
	}{inv, drivers})
}

// driverLines say of each driver whether and why it works.
func driverLines(inv inventory.Node, nic inventory.NIC) []string {
	var lines []string
	for _, c := range startup.Drivers(inv, nic) {
		word := "no "
		if c.Works {
			word = "yes"
		}
		lines = append(lines, fmt.Sprintf("%-9s %s  %s", c.Driver, word, c.Why))
	}
	return lines
}
