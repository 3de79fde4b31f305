// Package traffic owns what flows between two pods and what is read off it: iperf3
// streams and pings.
//
// It never makes a namespace and never judges a number.
package traffic

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/benchmarks/rig"
)

// Iperf3 is one run of iperf3 between two pods.
type Iperf3 struct {
	UDP     bool
	Payload int // bytes per datagram or write; 0 = iperf3's default
	Streams int // 0 = 1
	Seconds int
}

// Figures is what a run measured, at the receiving side.
type Figures struct {
	BitsPerSecond    float64
	PacketsPerSecond float64 // UDP only
	LostPercent      float64 // UDP only
	Retransmits      int     // TCP only
	Seconds          float64 // that were counted
	CPUSeconds       float64 // of client and server, by their own account
}

// ClientArgs are the client's arguments, as a person would type them.
func (i Iperf3) ClientArgs(server netip.Addr) []string {
	args := []string{"-c", server.String(), "-J", "-t", strconv.Itoa(i.Seconds)}
	if i.UDP {
		args = append(args, "-u", "-b", "0")
	}
	if i.Payload > 0 {
		args = append(args, "-l", strconv.Itoa(i.Payload))
	}
	if i.Streams > 1 {
		args = append(args, "-P", strconv.Itoa(i.Streams))
	}
	return args
}

// Run starts a server in one pod and a client in another, and waits for the figures.
func (i Iperf3) Run(ctx context.Context, l *rig.Launcher, client, server *rig.Pod, v6 bool) (Figures, error) {
	addr, err := server.Addr(v6)
	if err != nil {
		return Figures{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(i.Seconds)*time.Second+20*time.Second)
	defer cancel()
	stop, err := serve(ctx, l, server)
	if err != nil {
		return Figures{}, fmt.Errorf("run iperf3 server in %s: %w", server.Name, err)
	}
	defer stop()
	// The counters of both ends come in the client's JSON; standard error stays apart.
	var out, problems bytes.Buffer
	cmd := rig.Command("iperf3", i.ClientArgs(addr)...)
	cmd.Stdout, cmd.Stderr = &out, &problems
	_, err = l.Run(ctx, client.Namespace, cmd)
	if ctx.Err() != nil {
		return Figures{}, fmt.Errorf("run iperf3 %s to %s: %w", client.Name, server.Name, ctx.Err())
	}
	f, parseErr := parse(out.Bytes(), i.UDP)
	if parseErr != nil || err != nil {
		return Figures{}, fmt.Errorf("run iperf3 %s to %s: %w: %s", client.Name, server.Name, errors.Join(parseErr, err), problems.String())
	}
	return f, nil
}

// serve starts a one-off iperf3 server and returns once it listens.
func serve(ctx context.Context, l *rig.Launcher, pod *rig.Pod) (stop func(), err error) {
	cmd := rig.Command("iperf3", "-s", "-1", "--forceflush")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var problems bytes.Buffer
	cmd.Stderr = &problems
	if err := l.Start(pod.Namespace, cmd); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "Server listening") {
			drained := make(chan struct{})
			go func() { // a full pipe would stop the server
				defer close(drained)
				for lines.Scan() {
				}
			}()
			return func() { kill(cmd); <-drained; _ = cmd.Wait() }, nil // killed: its status says nothing
		}
	}
	kill(cmd)
	return nil, fmt.Errorf("it never listened: %w: %s", cmd.Wait(), problems.String())
}

func kill(cmd *exec.Cmd) { _ = cmd.Process.Kill() } // gone already is fine

// report is the part of iperf3's JSON (3.x) that is read.
type report struct {
	Error string `json:"error"`
	End   struct {
		SumReceived sum `json:"sum_received"`
		SumSent     sum `json:"sum_sent"`
		Sum         sum `json:"sum"`
		CPU         struct {
			Host   float64 `json:"host_total"`
			Remote float64 `json:"remote_total"`
		} `json:"cpu_utilization_percent"`
	} `json:"end"`
}

type sum struct {
	Seconds       float64 `json:"seconds"`
	BitsPerSecond float64 `json:"bits_per_second"`
	Packets       float64 `json:"packets"`
	LostPackets   float64 `json:"lost_packets"`
	LostPercent   float64 `json:"lost_percent"`
	Retransmits   int     `json:"retransmits"`
}

// parse reads the figures of the receiving side from iperf3's JSON.
func parse(out []byte, udp bool) (Figures, error) {
	var r report
	if err := json.Unmarshal(out, &r); err != nil {
		return Figures{}, fmt.Errorf("read iperf3 report: %w", err)
	}
	if r.Error != "" {
		return Figures{}, fmt.Errorf("iperf3 says: %s", r.Error)
	}
	cpu := (r.End.CPU.Host + r.End.CPU.Remote) / 100
	if !udp {
		if r.End.SumReceived.BitsPerSecond <= 0 {
			return Figures{}, errors.New("read iperf3 report: nothing was received")
		}
		s := r.End.SumReceived
		return Figures{BitsPerSecond: s.BitsPerSecond, Retransmits: r.End.SumSent.Retransmits, Seconds: s.Seconds, CPUSeconds: cpu * s.Seconds}, nil
	}
	s := r.End.Sum
	if s.Packets <= 0 || s.Seconds <= 0 {
		return Figures{}, errors.New("read iperf3 report: no datagram was counted")
	}
	received := (s.Packets - s.LostPackets) / s.Seconds
	return Figures{
		PacketsPerSecond: received,
		LostPercent:      s.LostPercent,
		BitsPerSecond:    s.BitsPerSecond * (1 - s.LostPercent/100),
		Seconds:          s.Seconds,
		CPUSeconds:       cpu * s.Seconds,
	}, nil
}
