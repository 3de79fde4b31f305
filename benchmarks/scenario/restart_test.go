package scenario

import (
	"testing"
	"time"
)

func TestLongestPause(t *testing.T) {
	out := "PING 10.244.0.3 (10.244.0.3) 56(84) bytes of data.\n" +
		"[1764000000.000100] 64 bytes from 10.244.0.3: icmp_seq=1 ttl=63 time=0.05 ms\n" +
		"[1764000000.002100] 64 bytes from 10.244.0.3: icmp_seq=2 ttl=63 time=0.05 ms\n" +
		"[1764000000.500000] From 10.244.0.1 icmp_seq=9 Destination Host Unreachable\n" +
		"[1764000001.252100] 64 bytes from 10.244.0.3: icmp_seq=600 ttl=63 time=0.05 ms\n" +
		"[1764000001.254100] 64 bytes from 10.244.0.3: icmp_seq=601 ttl=63 time=0.05 ms\n"
	pause, last, err := longestPause([]byte(out))
	if err != nil || pause != 1250*time.Millisecond || !last.Equal(time.Unix(1764000001, 254100000)) {
		t.Errorf("%v, %v, %v", pause, last, err)
	}
	if _, _, err := longestPause([]byte("PING\n")); err == nil {
		t.Error("no answer is a pause")
	}
}
