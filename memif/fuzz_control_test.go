package memif_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/memif"
	"golang.org/x/sys/unix"
)

// talk is what scripts of control messages need of the process: an interface under test that
// serves one end of socket pairs, and files to pass.
type talk struct {
	socket *memif.Socket
	of     *memif.Interface
	files  []file
	main   []byte // memory of the first file
	most   uint64 // bytes that a server maps
}

// file is what a message can bring. The judges know it by its nature.
type file struct {
	fd     int
	size   uint64 // of memory, 0 else
	event  bool
	cookie []uint64 // where rings begin in it
}

const (
	mainFile = iota
	smallFile
	eventsFile
	otherFile
)

func newTalk(f *testing.F, role memif.Role, c memif.Config) *talk {
	k := &talk{most: 2 * guestBytes}
	c.MaxMemory = int64(k.most)
	s, err := memif.NewSocket(memif.SocketConfig{Role: role, Address: filepath.Join(f.TempDir(), "memif.sock")})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := s.Close(); err != nil {
			f.Error(err)
		}
	})
	k.socket, k.of = s, add(f, s, c)
	main := memoryFile(f, guestBytes, seals)
	k.main = mapFile(f, main, guestBytes)
	for _, at := range []int{0, guestDownAt} {
		rawRing{k.main[at:], guestRing}.setCookie(rawCookie)
	}
	k.files = []file{
		{fd: main, size: guestBytes, cookie: []uint64{0, guestDownAt}},
		{fd: memoryFile(f, 4096, 0), size: 4096},
		{fd: eventFile(f), event: true},
		{fd: openFile(f, "/dev/null", unix.O_RDWR)},
	}
	return k
}

// line is one message of a script, with the files that it brings.
type line struct {
	msg   []byte
	files []int
}

func (k *talk) fds(l line) (fds []int) {
	for _, n := range l.files {
		fds = append(fds, k.files[n].fd)
	}
	return fds
}

// read makes a line of the tape: a message that may be right, some changed bytes, perhaps
// other files or another length.
func (k *talk) read(p *tape, right func(op int) line) line {
	l := right(p.n(12))
	how := p.byte()
	for range how & 3 {
		l.msg[p.n(rawBytes)] = p.byte()
	}
	switch how >> 2 & 15 {
	case 0:
		l.files = nil
	case 1:
		l.files = append(l.files, int(how>>6))
	case 2, 3:
		l.files = []int{int(how >> 6)}
	case 4:
		l.msg = append(l.msg, 0)
	case 5:
		l.msg = l.msg[:1+p.n(rawBytes)]
	}
	return l
}

// hold has the interface under test converse with a script, all of which is said at once,
// and returns what it said itself. Descriptors that it sent are closed.
func (k *talk) hold(t *testing.T, script []line) (said []rawMessage, err error) {
	before := descriptorsNow(t)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs, ended := os.NewFile(uintptr(pair[1]), "control"), make(chan error, 1)
	for _, l := range script {
		if err := (wire{pair[0]}).send(l.msg, k.fds(l)...); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Shutdown(pair[0], unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	go func() {
		err := k.socket.Converse(context.Background(), theirs)
		_ = theirs.Close() // a copy of what the conversation has closed
		ended <- err
	}()
	select {
	case err = <-ended:
	case <-time.After(patience):
		t.Fatal("the conversation does not end")
	}
	said = k.hear(t, pair[0])
	if err := unix.Close(pair[0]); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); descriptorsNow(t) > before; time.Sleep(10 * time.Microsecond) {
		if time.Now().After(end) { // those that are closed aside take a moment
			t.Fatalf("%d descriptors; %d before", descriptorsNow(t), before)
		}
	}
	return said, err
}

// hear reads all that was said to a socket.
func (k *talk) hear(t *testing.T, fd int) (said []rawMessage) {
	for {
		b, oob := make([]byte, 4096), make([]byte, 256)
		n, oobn, _, _, err := unix.Recvmsg(fd, b, oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.ECONNRESET): // it left before it had read all; what it said is there
			continue
		case err == nil && n == 0:
			return said
		case err != nil:
			t.Fatal(err)
		}
		list, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			t.Fatal(err)
		}
		for i := range list {
			fds, err := unix.ParseUnixRights(&list[i])
			if err != nil {
				t.Fatal(err)
			}
			for _, got := range fds {
				if err := unix.Close(got); err != nil {
					t.Fatal(err)
				}
			}
		}
		said = append(said, rawMessage(b[:n]))
	}
}

func descriptorsNow(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func kinds(said []rawMessage) (list []int) {
	for _, m := range said {
		list = append(list, m.kind())
	}
	return list
}

// FuzzServerControl says scripts of right and wrong messages to a server, and compares its
// answers with a judge's.
func FuzzServerControl(f *testing.F) {
	k := newTalk(f, memif.Server, memif.Config{Secret: "s"})
	for _, seed := range append(scripts(0, 1, 2, 3, 4), scripts(0, 1, 1, 1)[0]) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &tape{b}
		j := &serverJudge{talk: k}
		var script []line
		for range 20 {
			if len(p.b) == 0 {
				break
			}
			l := k.read(p, j.right)
			script = append(script, l)
			j.answer(l)
		}
		j.end()
		said, err := k.hold(t, script)
		if err != nil {
			t.Fatal(err)
		}
		if got := kinds(said); fmt.Sprint(got) != fmt.Sprint(j.said) {
			t.Errorf("the server says %d; want %d", got, j.said)
		}
		st := k.of.Status()
		if e, ok := errors.AsType[*memif.Error](st.Err); j.greeted && (!ok || e.Kind != j.kind) || st.Up {
			t.Errorf("%+v; want an end of kind %v", st, j.kind)
		}
	})
}

// FuzzClientControl says scripts to a client.
func FuzzClientControl(f *testing.F) {
	k := newTalk(f, memif.Client, memif.Config{RingSize: 4, BufferSize: 64, RxQueues: 2, TxQueues: 2})
	for _, seed := range scripts(0, 1, 1, 1, 1, 1, 1, 2) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &tape{b}
		j := &clientJudge{}
		var script []line
		for range 20 {
			if len(p.b) == 0 {
				break
			}
			l := k.read(p, j.right)
			script = append(script, l)
			j.answer(l)
		}
		j.end()
		said, err := k.hold(t, script)
		if e, ok := errors.AsType[*memif.Error](err); !ok || e.Kind != j.kind {
			t.Errorf("the client ends by %v; want kind %v", err, j.kind)
		}
		if got := kinds(said); fmt.Sprint(got) != fmt.Sprint(j.said) {
			t.Errorf("the client says %d; want %d", got, j.said)
		}
		j.check(t, said)
	})
}

// scripts are seeds: a good sequence, with nothing or one thing changed in it.
func scripts(good ...byte) (list [][]byte) {
	const same = 15 << 2 // as it is
	whole := func(change int, how ...byte) (b []byte) {
		for i, op := range good {
			if b = append(b, op); i == change {
				b = append(b, how...)
			} else {
				b = append(b, same)
			}
		}
		return b
	}
	list = append(list, whole(-1), append(whole(-1), 5, same), append(whole(-1), 6, same))
	for i := range good {
		for _, op := range good { // one more, in each place
			list = append(list, slices.Insert(whole(-1), 2*i, op, same))
		}
		for _, how := range [][]byte{{0}, {1 << 2}, {2<<2 | 1<<6}, {2<<2 | 2<<6}, {2<<2 | 3<<6}, {4 << 2}, {5 << 2, 64}} {
			list = append(list, whole(i, how...))
		}
		for at := byte(0); at < 46; at++ {
			for _, v := range []byte{0, 1, 16, 0xff} {
				list = append(list, whole(i, same|1, at, v))
			}
		}
	}
	return list
}
