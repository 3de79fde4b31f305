package traffic

import (
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseIperf3(t *testing.T) {
	tcp := `{"end":{"sum_sent":{"bits_per_second":10e9,"retransmits":7},"sum_received":{"seconds":2,"bits_per_second":9.5e9},"cpu_utilization_percent":{"host_total":80.5,"remote_total":19.5}}}`
	f, err := parse([]byte(tcp), false)
	if err != nil || f.BitsPerSecond != 9.5e9 || f.Retransmits != 7 || f.CPUSeconds != 2 {
		t.Errorf("TCP figures %+v, %v", f, err)
	}
	udp := `{"end":{"sum":{"seconds":2,"packets":1000,"lost_packets":100,"lost_percent":10,"bits_per_second":1e6}}}`
	f, err = parse([]byte(udp), true)
	if err != nil || f.PacketsPerSecond != 450 || math.Abs(f.BitsPerSecond-0.9e6) > 1 {
		t.Errorf("UDP figures %+v, %v: what was lost did not arrive", f, err)
	}
	for _, broken := range []string{"", "{", `{"error":"unable to connect"}`, `{"end":{}}`} {
		if _, err := parse([]byte(broken), false); err == nil {
			t.Errorf("parse(%q) is no error", broken)
		}
	}
	if _, err := parse([]byte(`{"end":{"sum":{"seconds":1}}}`), true); err == nil {
		t.Error("a UDP run without datagrams is no error")
	}
}

func TestClientArgs(t *testing.T) {
	got := Iperf3{UDP: true, Payload: 64, Streams: 4, Seconds: 3}.ClientArgs(netip.MustParseAddr("10.0.0.1"))
	want := []string{"-c", "10.0.0.1", "-J", "-t", "3", "-u", "-b", "0", "-l", "64", "-P", "4"}
	if !slices.Equal(got, want) {
		t.Errorf("args %q, want %q", got, want)
	}
}

func TestParsePing(t *testing.T) {
	good := "5 packets transmitted, 5 received, 0% packet loss, time 205ms\nrtt min/avg/max/mdev = 0.040/0.050/0.070/0.010 ms\n"
	if d, err := parsePing([]byte(good)); err != nil || d != 50*time.Microsecond {
		t.Errorf("parsePing = %v, %v", d, err)
	}
	for _, bad := range []string{"", "5 packets transmitted, 4 received, 20% packet loss\nrtt min/avg/max/mdev = 0.040/0.050/0.070/0.010 ms\n", "5 packets transmitted, 5 received\n"} {
		if _, err := parsePing([]byte(bad)); err == nil {
			t.Errorf("parsePing(%q) is no error", bad)
		}
	}
}

func TestParsePingTimes(t *testing.T) {
	out := "64 bytes from 10.2.0.2: icmp_seq=1 ttl=62 time=0.045 ms\n64 bytes from 10.2.0.2: icmp_seq=2 ttl=62 time=1.5 ms\n" +
		"2 packets transmitted, 2 received, 0% packet loss, time 2ms\nrtt min/avg/max/mdev = 0.045/0.7/1.5/0.010 ms\n"
	times, err := parsePingTimes([]byte(out))
	if err != nil || !slices.Equal(times, []time.Duration{45 * time.Microsecond, 1500 * time.Microsecond}) {
		t.Errorf("times %v, %v", times, err)
	}
	if _, err := parsePingTimes([]byte(strings.Replace(out, "2 received", "1 received", 1))); err == nil {
		t.Error("a lost request is no error")
	}
}
