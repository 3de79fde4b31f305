package vpp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// mapSegment gets the segment's file from the socket and maps it read-only. It also
// returns the identity of the socket's file, by which a successor is told.
func mapSegment(ctx context.Context, socket string) (segment, os.FileInfo, error) {
	info, err := os.Stat(socket)
	if err != nil {
		return segment{}, nil, err
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unixpacket", socket)
	if err != nil {
		return segment{}, nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	fd, err := receiveFile(conn.(*net.UnixConn))
	stop()
	if err != nil {
		return segment{}, nil, fmt.Errorf("receive segment from %s: %w", socket, err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return segment{}, nil, fmt.Errorf("measure segment of %s: %w", socket, err)
	}
	data, err := unix.Mmap(fd, 0, int(stat.Size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return segment{}, nil, fmt.Errorf("map segment of %s: %w", socket, err)
	}
	return segment{data}, info, nil
}

// receiveFile takes the one descriptor that comes with the first datagram.
func receiveFile(conn *net.UnixConn) (int, error) {
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 64), control)
	if err != nil && (n == 0 || !errors.Is(err, io.EOF)) { // VPP's datagram has no bytes, which reads as the end
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return -1, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil || len(fds) == 0 {
			continue
		}
		unix.CloseOnExec(fds[0])
		for _, extra := range fds[1:] {
			unix.Close(extra)
		}
		return fds[0], nil
	}
	return -1, errors.New("no file descriptor came")
}

func (s segment) unmap() error {
	if s.data == nil {
		return nil
	}
	return unix.Munmap(s.data)
}
