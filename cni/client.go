package cni

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/millrace/millrace/cni/cnipb"
)

// Client is a connection to the agent. It dials with the first call; a call fails at once
// when nobody listens.
type Client struct {
	cnipb.AttacherClient
	conn *grpc.ClientConn
}

// NewClient prepares a connection to the agent's unix socket. The socket's file mode
// guards it: who may open it may wire pods.
func NewClient(socket string) (*Client, error) {
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	conn, err := grpc.NewClient("passthrough:///agent",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(dial),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
	)
	if err != nil {
		return nil, fmt.Errorf("open client for %s: %w", socket, err)
	}
	return &Client{AttacherClient: cnipb.NewAttacherClient(conn), conn: conn}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }
