package interop

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"go.fd.io/govpp/api"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip_neighbor"
	"go.fd.io/govpp/binapi/ip_types"
	binapi "go.fd.io/govpp/binapi/memif"

	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/memif"
	"github.com/millrace/millrace/vpp"
)

// Addresses on the link.
var (
	theirMAC = [6]byte{2, 0xfe, 0, 0, 0, 1}
	ourMAC   = [6]byte{2, 0, 0, 0, 0, 2}
)

// TestIntegrationMachines sends echo requests to VPP's memif plugin, and to the engine's
// port, and checks the replies: in both roles and modes, by each of one and four queues,
// over one buffer and several. Then the machine is killed, and started again.
func TestIntegrationMachines(t *testing.T) {
	for _, m := range machinetest.All(t) {
		for _, ours := range []memif.Role{memif.Server, memif.Client} {
			for _, mode := range []memif.Mode{memif.Ethernet, memif.IP} {
				for _, queues := range []int{1, 4} {
					t.Run(fmt.Sprintf("%s-%s-%s-%d-queues", m.Name, ours, mode, queues), func(t *testing.T) {
						at := address(t)
						e := startEnd(t, ours, at, memif.Config{Mode: mode, RxQueues: queues, TxQueues: queues, Secret: "mill"})
						for round := range 2 {
							stop := m.Start(t)
							program(t, m.Connect(t), 1-ours, at, mode, queues)
							e.up(t)
							for q := range queues {
								for _, size := range []int{64, 9000} {
									if err := e.ping(t.Context(), q, 200, size); err != nil {
										t.Fatalf("round %d: %v", round, err)
									}
								}
							}
							stop()
							e.down(t)
						}
					})
				}
			}
		}
	}
}

// program makes the machine's end, with the address 10.5.0.1.
func program(t testing.TB, conn *vpp.Conn, role memif.Role, at string, mode memif.Mode, queues int) {
	t.Helper()
	const index = 1
	for _, c := range []struct{ q, r api.Message }{
		{&binapi.MemifSocketFilenameAddDelV2{IsAdd: true, SocketID: 1, SocketFilename: at}, &binapi.MemifSocketFilenameAddDelV2Reply{}},
		{&binapi.MemifCreateV2{
			Role: binapi.MemifRole(role), Mode: binapi.MemifMode(mode), SocketID: 1, RxQueues: uint8(queues), TxQueues: uint8(queues),
			HwAddr: theirMAC, Secret: "mill",
		}, &binapi.MemifCreateV2Reply{}},
		{&interfaces.SwInterfaceSetFlags{SwIfIndex: index, Flags: interface_types.IF_STATUS_API_FLAG_ADMIN_UP}, &interfaces.SwInterfaceSetFlagsReply{}},
		{&interfaces.SwInterfaceAddDelAddress{SwIfIndex: index, IsAdd: true, Prefix: ip_types.AddressWithPrefix{Address: ip4(1), Len: 24}}, &interfaces.SwInterfaceAddDelAddressReply{}},
		{&ip_neighbor.IPNeighborAddDel{IsAdd: true, Neighbor: ip_neighbor.IPNeighbor{
			SwIfIndex: index, Flags: ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC, MacAddress: ourMAC, IPAddress: ip4(2),
		}}, &ip_neighbor.IPNeighborAddDelReply{}},
	} {
		if err := conn.Invoke(t.Context(), c.q, c.r); err != nil {
			t.Fatalf("%s: %v", c.q.GetMessageName(), err)
		}
	}
}

func ip4(n byte) ip_types.Address {
	return ip_types.Address{Un: ip_types.AddressUnionIP4(ip_types.IP4Address{10, 5, 0, n})}
}

// ping sends count echo requests of size bytes, Ethernet header included where there is
// one, and waits for the reply to each, which may come by any queue: that is the machine's
// choice.
func (e *end) ping(ctx context.Context, queue, count, size int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	buf := [][]byte{make([]byte, 16<<10)}
	for n := range count {
		request := e.request(queue, n, size)
		for sent := 0; sent == 0 && ctx.Err() == nil; {
			var err error
			if sent, err = e.TxQueue(queue).Send([][]byte{request}); err != nil {
				return err
			}
		}
		for got := false; !got; {
			if ctx.Err() != nil {
				return fmt.Errorf("no reply to request %d of %d by queue %d of %d bytes; link %v", n, count, queue, size, e.Status())
			}
			reply, err := e.any(ctx, buf)
			if err != nil {
				return err
			}
			got = reply != nil && bytes.Equal(reply[e.l3()+24:], request[e.l3()+24:]) && reply[e.l3()+20] == 0
		}
	}
	return nil
}

// any receives one frame by any queue, nil when none comes within a moment.
func (e *end) any(ctx context.Context, buf [][]byte) ([]byte, error) {
	for q := range e.Config().RxQueues {
		if n, err := e.RxQueue(q).Receive(buf); n == 1 || err != nil {
			return buf[0], err
		}
	}
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	// It sleeps on one of them; the others are looked at in a moment.
	_ = e.RxQueue(0).Wait(short)
	return nil, nil
}

// l3 is where the IP header is.
func (e *end) l3() int {
	if e.Config().Mode == memif.Ethernet {
		return 14
	}
	return 0
}

// request is an echo request (RFC 792) that tells its queue and number.
func (e *end) request(queue, number, size int) []byte {
	f := frame(queue, number, size)
	copy(f, theirMAC[:])
	copy(f[6:], ourMAC[:])
	binary.BigEndian.PutUint16(f[12:], 0x0800)
	p := f[e.l3():]
	copy(p, []byte{0x45, 0, byte(len(p) >> 8), byte(len(p)), 0, 1, 0, 0, 64, 1, 0, 0, 10, 5, 0, 2, 10, 5, 0, 1, 8, 0, 0, 0})
	binary.BigEndian.PutUint16(p[24:], uint16(queue))
	binary.BigEndian.PutUint16(p[26:], uint16(number))
	binary.BigEndian.PutUint16(p[10:], checksum(p[:20]))
	binary.BigEndian.PutUint16(p[22:], checksum(p[20:]))
	return f
}

func checksum(p []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(p); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
