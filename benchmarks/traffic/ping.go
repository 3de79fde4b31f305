package traffic

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"time"

	"github.com/millrace/millrace/benchmarks/rig"
)

// Ping sends count echo requests from a namespace and returns the average round trip.
// A lost one is an error.
func Ping(ctx context.Context, l *rig.Launcher, from *rig.Namespace, to netip.Addr, count int) (average time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(count)*time.Second+5*time.Second)
	defer cancel()
	cmd := rig.Command("ping", "-n", "-c", strconv.Itoa(count), "-i", "0.05", "-W", "1", to.String())
	out, err := l.Run(ctx, from, cmd)
	if err != nil {
		return 0, fmt.Errorf("ping %s: %w", to, err)
	}
	return parsePing(out)
}

// PingTimes sends echo requests one after the other, every 2 ms, and
// returns their round trips. A lost one is an error.
func PingTimes(ctx context.Context, l *rig.Launcher, from *rig.Namespace, to netip.Addr, count int) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err := l.Run(ctx, from, rig.Command("ping", "-n", "-c", strconv.Itoa(count), "-i", "0.002", "-W", "5", to.String()))
	if err != nil {
		return nil, fmt.Errorf("ping %s: %w", to, err)
	}
	return parsePingTimes(out)
}

var pingTime = regexp.MustCompile(`(?m) time=([\d.]+) ms$`)

// parsePingTimes reads the lines that ping prints for each answer.
func parsePingTimes(out []byte) ([]time.Duration, error) {
	if _, err := parsePing(out); err != nil {
		return nil, err
	}
	var times []time.Duration
	for _, m := range pingTime.FindAllSubmatch(out, -1) {
		ms, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			return nil, fmt.Errorf("read ping's times: %w", err)
		}
		times = append(times, time.Duration(ms*float64(time.Millisecond)))
	}
	return times, nil
}

// parsePing reads "5 packets transmitted, 5 received, ... rtt min/avg/max/mdev = a/b/c/d ms".
func parsePing(out []byte) (time.Duration, error) {
	counts := regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`).FindSubmatch(out)
	if counts == nil {
		return 0, fmt.Errorf("read ping's report: no counts in %q", out)
	}
	if string(counts[1]) != string(counts[2]) {
		return 0, fmt.Errorf("read ping's report: %s of %s answered", counts[2], counts[1])
	}
	rtt := regexp.MustCompile(`= [\d.]+/([\d.]+)/`).FindSubmatch(out)
	if rtt == nil {
		return 0, fmt.Errorf("read ping's report: no round trip in %q", out)
	}
	ms, err := strconv.ParseFloat(string(rtt[1]), 64)
	if err != nil {
		return 0, fmt.Errorf("read ping's report: %w", err)
	}
	return time.Duration(ms * float64(time.Millisecond)), nil
}
