// Package cni owns the CNI plugin: its verbs, its configuration, its results and errors,
// and the protocol (package cnipb) in which it asks the agent of its node.
//
// It wires nothing itself: it never opens a network namespace, keeps no state (but for the
// file in which a runtime wants to be told of a memif), and knows nothing of VPP.
package cni

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/millrace/millrace/cni/cnipb"
)

// Versions are those of the specification that the plugin speaks.
func Versions() version.PluginInfo {
	return version.PluginSupports("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
}

// Plugin is one run of the plugin.
type Plugin struct {
	Context context.Context // ends the run: a runtime that gives up sends a signal
	Stdout  io.Writer       // the result goes here
	Stderr  io.Writer       // one line a verb when logLevel is debug
}

// Funcs are the verbs, for skel. Every error they return is a CNI error.
func (p Plugin) Funcs() skel.CNIFuncs {
	return skel.CNIFuncs{Add: p.add, Del: p.del, Check: p.check, GC: p.gc, Status: p.status}
}

func (p Plugin) add(args *skel.CmdArgs) error {
	c, err := ParseConfig(args.StdinData)
	if err != nil {
		return err
	}
	if len(c.PrevResult) > 0 {
		return unsupported("prevResult", "on ADD: the plugin makes the container's interface; it has to be the first of the list")
	}
	pod, err := parseArgs(args.Args)
	if err != nil {
		return err
	}
	memif, err := c.memif(args.IfName)
	if err != nil {
		return err
	}
	request := &cnipb.AddRequest{Id: idOf(args), Network: c.Name, Netns: args.Netns, Pod: pod, Mtu: c.MTU, Memif: memif}
	return p.ask(c, "ADD", args, types.ErrTryAgainLater, func(ctx context.Context, agent cnipb.AttacherClient) error {
		reply, err := agent.Add(ctx, request)
		if err != nil {
			return err
		}
		result, err := newResult(reply, c.DNS, c.CNIVersion)
		if err != nil {
			return err
		}
		socket, err := socketPath(reply, args.IfName)
		if err != nil {
			return err
		}
		if err := c.writeDeviceInfo(memif, socket); err != nil {
			return err
		}
		return result.PrintTo(p.Stdout)
	})
}

func (p Plugin) del(args *skel.CmdArgs) error {
	c, err := ParseForRemoval(args.StdinData)
	if err != nil {
		return err
	}
	return p.ask(c, "DEL", args, types.ErrTryAgainLater, func(ctx context.Context, agent cnipb.AttacherClient) error {
		_, err := agent.Del(ctx, &cnipb.DelRequest{Id: idOf(args), Network: c.Name, Netns: args.Netns})
		if err != nil {
			return err
		}
		return c.removeDeviceInfo()
	})
}

func (p Plugin) check(args *skel.CmdArgs) error {
	c, err := ParseConfig(args.StdinData)
	if err != nil {
		return err
	}
	if len(c.PrevResult) == 0 {
		return invalid("prevResult", "is missing; CHECK needs the result of ADD")
	}
	result, err := parsePrevResult(c.PrevResult, c.CNIVersion)
	if err != nil {
		return err
	}
	request := &cnipb.CheckRequest{Id: idOf(args), Network: c.Name, Netns: args.Netns}
	if err := promised(request, result); err != nil {
		return err
	}
	return p.ask(c, "CHECK", args, types.ErrTryAgainLater, func(ctx context.Context, agent cnipb.AttacherClient) error {
		_, err := agent.Check(ctx, request)
		return err
	})
}

func (p Plugin) gc(args *skel.CmdArgs) error {
	c, err := ParseForRemoval(args.StdinData)
	if err != nil {
		return err
	}
	request := &cnipb.GCRequest{Network: c.Name}
	for _, a := range c.Valid {
		request.Valid = append(request.Valid, &cnipb.AttachmentID{ContainerId: a.ContainerID, IfName: a.IfName})
	}
	return p.ask(c, "GC", args, types.ErrTryAgainLater, func(ctx context.Context, agent cnipb.AttacherClient) error {
		_, err := agent.GC(ctx, request)
		return err
	})
}

func (p Plugin) status(args *skel.CmdArgs) error {
	c, err := ParseConfig(args.StdinData)
	if err != nil {
		return err
	}
	return p.ask(c, "STATUS", args, types.ErrPluginNotAvailable, func(ctx context.Context, agent cnipb.AttacherClient) error {
		_, err := agent.Status(ctx, &cnipb.StatusRequest{Network: c.Name})
		return err
	})
}

func idOf(args *skel.CmdArgs) *cnipb.AttachmentID {
	return &cnipb.AttachmentID{ContainerId: args.ContainerID, IfName: args.IfName}
}

// ask runs one call to the agent under the configuration's timeout. unreachable is the
// code of an agent that does not answer.
func (p Plugin) ask(c Config, verb string, args *skel.CmdArgs, unreachable uint, call func(context.Context, cnipb.AttacherClient) error) error {
	started := time.Now()
	ctx, cancel := context.WithTimeout(p.Context, c.Timeout)
	defer cancel()
	client, err := NewClient(c.Socket)
	if err != nil {
		return err
	}
	defer client.Close()
	err = FromStatus(call(ctx, client), unreachable)
	if c.LogLevel == "debug" {
		outcome := "done"
		if err != nil {
			outcome = err.Error()
		}
		fmt.Fprintf(p.Stderr, "millrace-cni: %s %s/%s in %s: %s\n", verb, args.ContainerID, args.IfName, time.Since(started).Round(time.Microsecond), outcome)
	}
	return err
}
