package rig

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/millrace/millrace/memif"
)

// memifPod is the Pod object of a pod that asks for a memif in ip mode.
const memifPod = `---
apiVersion: v1
kind: Pod
metadata: {namespace: rig, name: %s, annotations: {millrace.io/memif: '[{"name": "memif0", "mode": "ip"}]'}}
`

// Function is a network function on a pod's memif: it answers pings, by package memif with
// the defaults that a program in the pod would have. It is no child of the dataplane, and
// outlives that.
type Function struct {
	Addr netip.Addr // IPv4

	stop  context.CancelFunc
	ended chan error
}

// StartFunction attaches to the pod's memif, and returns when the link is there.
func StartFunction(ctx context.Context, pod *Pod) (*Function, error) {
	f := &Function{ended: make(chan error, 1)}
	at := memif.SocketConfig{Role: memif.Client, Netns: pod.Namespace.Path}
	for _, ip := range pod.Result.IPs {
		if link := pod.Result.Interfaces[*ip.Interface]; strings.HasPrefix(link.SocketPath, "@") && ip.Address.IP.To4() != nil {
			at.Address = link.SocketPath
			f.Addr, _ = netip.AddrFromSlice(ip.Address.IP.To4())
		}
	}
	if at.Address == "" {
		return nil, fmt.Errorf("start network function: pod %s has no memif: %v", pod.Name, pod.Result)
	}
	up := make(chan struct{}, 1)
	c := memif.Config{Mode: memif.IP, OnChange: func(s memif.Status) {
		if s.Up {
			select {
			case up <- struct{}{}:
			default:
			}
		}
	}}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	f.stop = stop
	go func() { f.ended <- memif.Attach(running, at, c, answerPings) }()
	select {
	case <-up:
		return f, nil
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("start network function on %s: %w", at.Address, ctx.Err()), f.Close())
	}
}

// Close ends the function.
func (f *Function) Close() error {
	f.stop()
	return <-f.ended
}

// answerPings serves one queue until ctx ends.
func answerPings(ctx context.Context, rx *memif.RxQueue, tx *memif.TxQueue) error {
	frames := make([][]byte, 64)
	for i := range frames {
		frames[i] = make([]byte, memif.DefaultMaxFrame)
	}
	for {
		if err := rx.Wait(ctx); err != nil {
			return err
		}
		n, err := rx.Receive(frames)
		if err != nil {
			return err
		}
		for _, f := range frames[:n] {
			if !pong(f) {
				continue
			}
			if _, err := tx.Send([][]byte{f}); err != nil {
				return err
			}
		}
	}
}

// pong makes an IPv4 echo request the reply to it (RFC 792), and says whether it was one.
func pong(p []byte) bool {
	const icmp, request = 20, 8
	if len(p) < icmp+8 || p[0] != 0x45 || p[9] != 1 || p[icmp] != request {
		return false
	}
	from := [4]byte(p[12:])
	copy(p[12:16], p[16:20])
	copy(p[16:20], from[:])
	p[icmp] = 0
	sum := uint32(binary.BigEndian.Uint16(p[icmp+2:])) + request<<8 // of the type's going (RFC 1624)
	binary.BigEndian.PutUint16(p[icmp+2:], uint16(sum+sum>>16))
	return true
}
