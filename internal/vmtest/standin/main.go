// Command standin stands where VPP stands in tests that have no VPP: a real DPDK program,
// dpdk-testpmd, opens the NICs that the start-up configuration names and moves their
// packets to links of the kernel; on these the embedded engine, which speaks VPP's API,
// has interfaces of the configured names.
//
// It is started as VPP is (-c FILE), and all of it dies with its first process. It stands
// for no more of VPP than that: one queue a NIC, no offloads, no other sections of the
// file.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.fd.io/govpp/binapi/af_packet"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/vpp"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "standin:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("standin", flag.ContinueOnError)
	file := set.String("c", "", "VPP's start-up configuration `file`")
	if err := set.Parse(args); err != nil {
		return err
	}
	text, err := os.ReadFile(*file)
	if err != nil {
		return err
	}
	c, err := parseConf(string(text))
	if err != nil {
		return err
	}
	if len(c.devices) == 0 {
		return c.serve(ctx, nil)
	}
	pmd, err := startTestpmd(c.devices)
	if err != nil {
		return err
	}
	defer pmd.stop()
	if err := pmd.ready(ctx, c.devices); err != nil {
		return err
	}
	return c.serve(ctx, pmd)
}

// serve runs the engine. Its API socket gets the name that clients look for only when all
// interfaces are there, as they are in VPP from its first answer on.
func (c config) serve(ctx context.Context, pmd *testpmd) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hidden := c.api + ".hidden"
	e, err := engine.New(engine.Config{
		APISocket: hidden, StatsSocket: c.stats, MaxInterfaces: 64, MaxRoutes: 4096, Version: "standin",
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	ready := make(chan struct{})
	go func() { done <- e.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		return err
	}
	err = c.interfaces(ctx, hidden, pmd)
	if err == nil {
		err = os.Rename(hidden, c.api)
	}
	if err != nil {
		cancel()
		return errors.Join(err, <-done)
	}
	defer os.Remove(c.api) // it may be gone with its directory
	if pmd == nil {
		return <-done
	}
	select {
	case err := <-done:
		return err
	case <-pmd.ended:
		cancel()
		return errors.Join(fmt.Errorf("dpdk-testpmd ended: %v", pmd.err), <-done)
	}
}

// interfaces makes one of each device's link, under the device's name.
func (c config) interfaces(ctx context.Context, socket string, pmd *testpmd) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	conn, err := vpp.Dial(ctx, vpp.Config{Socket: socket})
	if err != nil {
		return err
	}
	defer conn.Close()
	for i, d := range c.devices {
		mac, err := pmd.mac(i)
		if err != nil {
			return err
		}
		made, err := vpp.Call[af_packet.AfPacketCreateV3Reply](ctx, conn, &af_packet.AfPacketCreateV3{
			Mode: af_packet.AF_PACKET_API_MODE_ETHERNET, HwAddr: mac, HostIfName: linkOf(i), NumRxQueues: 1, NumTxQueues: 1,
		})
		if err != nil {
			return fmt.Errorf("make interface on %s: %w", linkOf(i), err)
		}
		index := interface_types.InterfaceIndex(made.SwIfIndex)
		if err := conn.Invoke(ctx, &interfaces.SwInterfaceSetInterfaceName{SwIfIndex: index, Name: d.name}, &interfaces.SwInterfaceSetInterfaceNameReply{}); err != nil {
			return fmt.Errorf("name interface %s: %w", d.name, err)
		}
	}
	return nil
}
