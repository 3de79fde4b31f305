package vmtest

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// streams sends 4 MiB by TCP to the far end, out of a link of the host or of a namespace. The
// kernel hands segments of up to 64 KiB to the link and leaves it to the dataplane to cut
// them: where that fails, the stream gets through in small packets that are sent again, and
// the wire has no more of them than the link had. in is what goes before the command.
func streams(t *testing.T, g *Guest, to, link, farLink string, in ...string) {
	t.Helper()
	packets := func(netns []string, link, count string) int {
		text := g.Run(t, append(slices.Clone(netns), "cat", "/sys/class/net/"+link+"/statistics/"+count)...)
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			t.Fatalf("%s of %s: %v", count, link, err)
		}
		return n
	}
	far := []string{"ip", "netns", "exec", Far}
	server := g.Start(t, append(far, "iperf3", "--forceflush", "-s", "-1")...)
	server.WaitUntil("the server listens", func(output string) bool { return strings.Contains(output, "Server listening") })
	sent, received := packets(in, link, "tx_packets"), packets(far, farLink, "rx_packets")
	g.Run(t, append(slices.Clone(in), "iperf3", "-n", "4M", "-c", to)...)
	server.Wait()
	sent, received = packets(in, link, "tx_packets")-sent, packets(far, farLink, "rx_packets")-received
	t.Logf("to %s: %d packets out of %s, %d out of %s", to, sent, link, received, farLink)
	if 4*received < 5*sent {
		t.Errorf("a stream to %s had %d packets on the link %s and %d on the wire: nothing cuts large segments", to, sent, link, received)
	}
}
