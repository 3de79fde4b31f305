package generator

import (
	"net/netip"
	"testing"
	"time"

	"github.com/millrace/millrace/memif"
)

// flowsTo are n flows, each to an address of its own.
func flowsTo(n int) Flows {
	list := make([]Flow, n)
	for i := range list {
		list[i] = Flow{From: netip.AddrFrom4([4]byte{10, 128, 0, 1}), To: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), SrcPort: 1024, DstPort: uint16(80 + i%2)}
	}
	return FlowsOf(list)
}

// again is a generator with other flows on the same link.
func (l *linked) again(t *testing.T, flows Flows) *Generator {
	t.Helper()
	c := l.g.config
	c.Flows = flows
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// TestOnceSendsEachFlowOnce: what the device gets behind the warm flows is each other flow,
// in order and once, and what comes back is counted without the warm ones.
func TestOnceSendsEachFlowOnce(t *testing.T) {
	const flows, warm = 5000, 16
	l := link(t, 64)
	g := l.again(t, flowsTo(flows))
	got := make(map[[6]byte]int)
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			n, err := l.device(func(uint32) bool { return false })
			if err != nil {
				done <- err
				return
			}
			for _, f := range l.in[:n] {
				got[[6]byte(append(f[dstAt:dstAt+4:dstAt+4], f[srcPortAt+2:srcPortAt+4]...))]++
			}
			time.Sleep(time.Microsecond)
		}
	}()
	now := g.clock.Now()
	count, err := g.Once(Once{From: now + 60e6, To: now + 20e9, Warm: warm, Patience: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if count.Sent != flows-warm || count.Received != flows-warm || count.Took <= 0 {
		t.Errorf("%+v, want %d sent and received", count, flows-warm)
	}
	if len(got) != flows {
		t.Errorf("the device saw %d flows, want %d", len(got), flows)
	}
	for key, n := range got {
		if i := int(key[2])<<8 | int(key[3]); i >= warm && n != 1 {
			t.Errorf("flow %d was sent %d times", i, n)
		}
	}
}

// TestOnceCountsLoss: what does not come back is not waited for without end.
func TestOnceCountsLoss(t *testing.T) {
	l := link(t, 64)
	g := l.again(t, flowsTo(4000)) // and nobody reflects: the ring holds them all
	now := g.clock.Now()
	count, err := g.Once(Once{From: now + 1e6, To: now + 60e9, Patience: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if count.Sent != 4000 || count.Received != 0 {
		t.Errorf("%+v, want 4000 sent and none received", count)
	}
}

func TestOnceRefuses(t *testing.T) {
	l := link(t, 64)
	g := l.again(t, flowsTo(10))
	for _, bad := range []Once{{From: 2, To: 2, Patience: 1}, {From: 1, To: 2, Warm: 10, Patience: 1}, {From: 1, To: 2, Warm: -1, Patience: 1}, {From: 1, To: 2}} {
		if _, err := g.Once(bad); err == nil {
			t.Errorf("%+v is no error", bad)
		}
	}
	two := l.again(t, flowsTo(10))
	two.config.Tx = []*memif.TxQueue{nil, nil}
	if _, err := two.Once(Once{From: 1, To: 2, Patience: 1}); err == nil {
		t.Error("two queues are no error")
	}
}
