package startup

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
)

// queues are the queues and rings of one device.
type queues struct{ rx, tx, rxRing, txRing int }

// ringDefaults are the rings that VPP's drivers make when they are not told (dpdk/device,
// avf/avf.h, rdma/rdma.h, af_xdp/af_xdp.h); 0: the device or the kernel has its own.
var ringDefaults = map[nodeconfig.Driver]int{
	nodeconfig.DriverDPDK: 1024, nodeconfig.DriverAVF: 512, nodeconfig.DriverRDMA: 1024, nodeconfig.DriverAFXDP: 1024,
}

// planQueues decides the queues of each of an uplink's devices.
func planQueues(inv inventory.Node, t taken, th threads) (queues, []int, error) {
	nic := t.devices()[0]
	near := th.workersNear(inv, numaOf(inv, t))
	workers := max(len(th.workers), 1)
	if len(near) > 0 {
		workers = len(near)
	}
	q := queues{rx: t.want.RxQueues, tx: t.want.TxQueues, rxRing: t.want.RxRing, txRing: t.want.TxRing}
	var errs []error
	refuse := func(field string, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s.%s: %s", t.at, field, fmt.Sprintf(format, args...)))
	}
	switch t.choice.Driver {
	case nodeconfig.DriverVirtio:
		if q != (queues{}) {
			refuse("rxQueues", "the virtio driver uses the queues and rings that the device has: leave rxQueues, txQueues, rxRing and txRing at 0")
		}
		q = queues{rx: clamp(workers, nic.MaxQueues), tx: clamp(th.count(), nic.MaxQueues), rxRing: nic.RxRing, txRing: nic.TxRing}
		return q, nil, errors.Join(errs...)
	case nodeconfig.DriverAFXDP:
		have := max(nic.RxQueues, 1)
		if q.rx != 0 && q.rx != have {
			refuse("rxQueues", "af_xdp has to serve all of the NIC's %d receive queues: leave it at 0, or change the NIC first (ethtool -L %s combined %d)", have, nic.Name, q.rx)
		}
		q.rx = have
		for _, ring := range []struct {
			field string
			n     int
		}{{"rxRing", q.rxRing}, {"txRing", q.txRing}} {
			if ring.n != 0 && (ring.n&(ring.n-1) != 0 || ring.n < 256 || ring.n > 32768) {
				refuse(ring.field, "af_xdp takes a power of two from 256 to 32768, not %d", ring.n)
			}
		}
	case nodeconfig.DriverAFPacket:
		if q.rxRing != 0 || q.txRing != 0 {
			refuse("rxRing", "rings of packet sockets lie in the kernel and have their own size: leave rxRing and txRing at 0")
		}
		return queues{rx: orWhole(q.rx, workers), tx: orWhole(q.tx, workers)}, near, errors.Join(errs...)
	case nodeconfig.DriverRDMA:
		if q.rx&(q.rx-1) != 0 {
			refuse("rxQueues", "rdma takes a power of two, not %d", q.rx)
		}
	}
	q.fill(nic, t.choice.Driver, workers, th.count())
	if t.choice.Driver == nodeconfig.DriverRDMA && t.want.RxQueues == 0 {
		q.rx = 1 << (bits.Len(uint(q.rx)) - 1)
	}
	for _, limit := range []struct {
		field     string
		want, max int
	}{
		{"rxQueues", t.want.RxQueues, nic.MaxQueues}, {"txQueues", t.want.TxQueues, nic.MaxQueues},
		{"rxRing", t.want.RxRing, nic.MaxRxRing}, {"txRing", t.want.TxRing, nic.MaxTxRing},
	} {
		if ofSocket := t.choice.Driver == nodeconfig.DriverAFXDP && strings.HasSuffix(limit.field, "Ring"); ofSocket {
			continue
		}
		if limit.max > 0 && limit.want > limit.max {
			refuse(limit.field, "%d is more than %s has (%d)", limit.want, nameNIC(nic), limit.max)
		}
	}
	if t.choice.Driver != nodeconfig.DriverDPDK || q.rx != len(near) {
		near = nil
	}
	return q, near, errors.Join(errs...)
}

// fill sets what was not asked for: a receive queue for each worker, a transmit queue for
// each thread, the driver's rings, all as far as the NIC has them.
func (q *queues) fill(nic inventory.NIC, driver nodeconfig.Driver, workers, threads int) {
	q.rx = orWhole(q.rx, clamp(workers, nic.MaxQueues))
	q.tx = orWhole(q.tx, clamp(threads, nic.MaxQueues))
	ring := ringDefaults[driver]
	if driver == nodeconfig.DriverDPDK && (nic.Driver == "virtio_net" || nic.Driver == "virtio-pci") {
		ring = 256 // as VPP has it for virtio (dpdk/device/driver.c)
	}
	rx, tx := nic.MaxRxRing, nic.MaxTxRing
	if driver == nodeconfig.DriverAFXDP {
		rx, tx = 0, 0 // its rings are the socket's
	}
	q.rxRing = orWhole(q.rxRing, clamp(ring, rx))
	q.txRing = orWhole(q.txRing, clamp(ring, tx))
}

// clamp lowers n to the limit; 0 is no limit.
func clamp(n, limit int) int {
	if limit > 0 {
		return min(n, limit)
	}
	return n
}

// orWhole is what was asked for, or else the other.
func orWhole(asked, other int) int {
	if asked > 0 {
		return asked
	}
	return other
}
