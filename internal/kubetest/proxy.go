package kubetest

import (
	"fmt"
	"io"
	"net"
	"sync"
)

// Proxy is a way to the API server that a test cuts and mends.
type Proxy struct {
	c    *Cluster
	Port int

	mu       sync.Mutex
	listener net.Listener // nil while cut
	open     map[net.Conn]struct{}
	group    sync.WaitGroup
}

// Proxy returns a whole one; it ends with the test.
func (c *Cluster) Proxy() *Proxy {
	c.t.Helper()
	p := &Proxy{c: c, Port: freePort(c.t), open: map[net.Conn]struct{}{}}
	p.Mend()
	c.t.Cleanup(p.Cut)
	return p
}

// Mend lets connections through.
func (p *Proxy) Mend() {
	p.c.t.Helper()
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p.Port))
	if err != nil {
		p.c.t.Fatal(err)
	}
	p.mu.Lock()
	p.listener = listener
	p.mu.Unlock()
	p.group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // cut
			}
			p.group.Go(func() { p.forward(listener, conn) })
		}
	})
}

// Cut ends all connections and refuses others.
func (p *Proxy) Cut() {
	p.mu.Lock()
	if p.listener != nil {
		p.listener.Close()
		p.listener = nil
	}
	for conn := range p.open {
		conn.Close()
	}
	p.mu.Unlock()
	p.group.Wait()
}

func (p *Proxy) forward(from net.Listener, near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.c.port))
	if err != nil {
		return // the server is dead, and so is this connection
	}
	defer far.Close()
	if !p.keep(from, near, far) {
		return
	}
	var both sync.WaitGroup
	// Either end's closing is the other's.
	both.Go(func() { io.Copy(far, near); far.Close() })
	both.Go(func() { io.Copy(near, far); near.Close() })
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, near)
	delete(p.open, far)
}

// keep has the connections end with the next cut, unless that came before.
func (p *Proxy) keep(from net.Listener, conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != from {
		return false
	}
	for _, conn := range conns {
		p.open[conn] = struct{}{}
	}
	return true
}
