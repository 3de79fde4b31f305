// Package memif owns the memif protocol, version 2.0: two processes exchange Ethernet
// frames or IP packets through rings in memory that they share, and agree on that memory
// over a unix socket. It is both peers (Server and Client, the "master" and the "slave" of
// VPP's memif.h), speaks to VPP, DPDK and libmemif, and needs nothing of this repository.
//
// It never looks into a frame, and never trusts the peer: what the peer can write is read
// once, checked against the mapped region, and only then used.
//
// # A connection
//
// The client makes all memory and sends it over a SOCK_SEQPACKET socket, in messages of 128
// bytes that carry at most one descriptor each:
//
//	client                          server
//	  connect ───────────────────────►        accepts
//	          ◄─────────────── HELLO          limits
//	  INIT    ───────────────────────►        id, mode, secret
//	          ◄───────────────── ACK
//	  ADD_REGION 0, 1, …  (memfd)  ──►  ACK each
//	  ADD_RING S2M 0 … n, M2S 0 … n (eventfd) ──►  ACK each
//	  CONNECT ───────────────────────►
//	          ◄─────────── CONNECTED          the link is up on both sides
//	  DISCONNECT, or the end of the socket, by either: the link is down
//
// # The memory
//
// A region is one mapped file. Rings and buffers lie where the client says; this package as
// a client puts the rings first and the buffers behind them, an odd number of cache lines
// apart, so that the first lines of many frames do not compete for one set of the cache:
//
//	region 0
//	┌─────────┬─────────┬───┬─────────┬───┬──────────────────┬──────────────────┬───
//	│ S2M 0   │ S2M 1   │ … │ M2S 0   │ … │ buffers of S2M 0 │ buffers of S2M 1 │ …
//	└─────────┴─────────┴───┴─────────┴───┴──────────────────┴──────────────────┴───
//
//	ring, 128 + 16·2ⁿ bytes
//	  0  u32 cookie 0x3E31F20
//	  4  u16 flags   bit 0: the receiver wants no interrupts     (written by the receiver)
//	  6  u16 head                                                (written by the client)
//	 64  u16 tail                                                (written by the server)
//	128  descriptors, 16 bytes each
//	       0 u16 flags   bit 0: the frame goes on in the next descriptor
//	       2 u16 region
//	       4 u32 length
//	       8 u32 offset in the region
//	      12 u32 metadata
//
// Indices run freely over 16 bits; the slot is the index modulo the ring's size.
//
//	S2M (client to server)           M2S (server to client)
//	  head: sent up to here            head: empty buffers offered up to here
//	  tail: taken up to here           tail: filled up to here
//
// # Use
//
// A Socket is an address with one or many Interfaces on it; Run does everything but moving
// frames: it connects, accepts, notices the peer's end, and connects again. The queues of an
// Interface outlive its links. While there is no link they receive nothing and send nothing.
//
//	socket, err := memif.NewSocket(memif.SocketConfig{Role: memif.Client, Address: "@millrace/memif0"})
//	port, err := socket.Add(memif.Config{})
//	go socket.Run(ctx)
//	rx, tx := port.RxQueue(0), port.TxQueue(0)
//	for {
//		if err := rx.Wait(ctx); err != nil {
//			return err
//		}
//		n, err := rx.Receive(frames) // copies into frames
//		…
//		sent, err := tx.Send(frames[:n]) // copies out of frames
//	}
//
// Receive and Send copy. Borrow and Release, Reserve and Commit hand out views into the
// shared memory instead: no copy, but the peer can change what they show at any time.
//
// A queue belongs to one goroutine at a time; different queues of one Interface may be used
// at the same time. No call on a queue allocates or takes a lock that another queue holds.
//
// The machine must be little endian, as all peers of the protocol assume, and run Linux.
package memif
