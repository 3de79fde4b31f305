package api

import (
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/memif"

	"github.com/millrace/millrace/engine/packet"
	library "github.com/millrace/millrace/memif"
)

// TestMemifForward sends single packets from one memif to another, each after a rest in
// which all queues fall asleep.
func TestMemifForward(t *testing.T) {
	s, path := start(t)
	ch := channel(t, connect(t, path))
	var ends []*function
	for n, role := range []memif.MemifRole{master, slave} {
		at := filepath.Join(t.TempDir(), "memif.sock")
		if got := call(t, ch, &memif.MemifSocketFilenameAddDelV2{IsAdd: true, SocketID: uint32(n + 1), SocketFilename: at}, &memif.MemifSocketFilenameAddDelV2Reply{}); got != 0 {
			t.Fatal(got)
		}
		made := &memif.MemifCreateV2Reply{}
		if got := call(t, ch, &memif.MemifCreateV2{Role: role, Mode: ipMode, SocketID: uint32(n + 1)}, made); got != 0 {
			t.Fatal(got)
		}
		up := &interfaces.SwInterfaceSetFlags{SwIfIndex: made.SwIfIndex, Flags: interface_types.IF_STATUS_API_FLAG_ADMIN_UP}
		if got := call(t, ch, up, &interfaces.SwInterfaceSetFlagsReply{}); got != 0 {
			t.Fatal(got)
		}
		address := &interfaces.SwInterfaceAddDelAddress{SwIfIndex: made.SwIfIndex, IsAdd: true, Prefix: withLength(t, fmt.Sprintf("10.%d.0.1/24", 5+n))}
		if got := call(t, ch, address, &interfaces.SwInterfaceAddDelAddressReply{}); got != 0 {
			t.Fatal(got)
		}
		other := library.Client
		if role == slave {
			other = library.Server
		}
		ends = append(ends, attach(t, other, at, library.Config{Mode: library.IP}))
	}
	for n, i := range []uint32{1, 2} {
		for !linkUp(s, i) || !ends[n].Status().Up {
			time.Sleep(time.Millisecond)
		}
	}
	bufs := [][]byte{make([]byte, 2048)}
	for n := range 300 {
		for k, from := range ends {
			to := ends[1-k]
			b := packet.FromBytes(nil)
			src, dst := [4]byte{10, byte(5 + k), 0, 2}, [4]byte{10, byte(6 - k), 0, 2}
			if r := packet.MakeEchoRequest4(b, src, dst, packet.EchoRequest{ID: 1, Sequence: uint16(n)}); r != packet.OK {
				t.Fatal(r)
			}
			if sent, err := from.TxQueue(0).Send([][]byte{b.Bytes()}); sent != 1 || err != nil {
				t.Fatal(sent, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			err := to.RxQueue(0).Wait(ctx)
			cancel()
			got, err2 := to.RxQueue(0).Receive(bufs)
			if err != nil || err2 != nil || got != 1 || binary.BigEndian.Uint16(bufs[0][26:]) != uint16(n) {
				text, _ := s.runCommand("show errors\nshow interface\nshow memif")
				t.Fatalf("packet %d from %d: %d came, %v, %v\n%s", n, k, got, err, err2, text)
			}
			time.Sleep(time.Duration(n%10) * 100 * time.Microsecond)
		}
	}
}

func linkUp(s *Server, index uint32) bool {
	i, err := s.plane.Interface(index)
	return err == nil && i.LinkUp
}
