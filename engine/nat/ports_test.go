package nat

import (
	"math/rand/v2"
	"sync"
	"testing"
)

func TestPortsAreUsedUp(t *testing.T) {
	var p Ports
	seen := map[uint16]bool{}
	for n := range MaxPorts {
		port, ok := p.Take()
		if !ok || seen[port] || port < 49152 || port == 65535 {
			t.Fatalf("port %d: %d, %v, seen %v", n, port, ok, seen[port])
		}
		if n == 0 && port != 49152 {
			t.Errorf("the first is %d", port)
		}
		seen[port] = true
	}
	if len(seen) != 16383 || p.Used() != 16383 {
		t.Errorf("%d ports, %d in use", len(seen), p.Used())
	}
	if port, ok := p.Take(); ok {
		t.Errorf("all are in use, and yet %d", port)
	}
	p.Put(50000)
	if port, ok := p.Take(); !ok || port != 50000 {
		t.Errorf("the one that was given back: %d, %v", port, ok)
	}
}

// TestPortsGoRound: what was given back waits until all others were used.
func TestPortsGoRound(t *testing.T) {
	var p Ports
	for n := range 3 * MaxPorts {
		port, ok := p.Take()
		if want := uint16(49152 + n%MaxPorts); !ok || port != want {
			t.Fatalf("take %d: %d, %v, want %d", n, port, ok, want)
		}
		p.Put(port)
	}
}

func TestPortsGivenBackTwice(t *testing.T) {
	var p Ports
	port, _ := p.Take()
	for _, back := range []uint16{port, port, 0, 49151, 65535} {
		p.Put(back)
	}
	if p.Used() != 0 {
		t.Errorf("%d in use", p.Used())
	}
}

// TestPortsOfManyHands: no port is with two at a time.
func TestPortsOfManyHands(t *testing.T) {
	var p Ports
	var mu sync.Mutex
	held := map[uint16]bool{}
	var all sync.WaitGroup
	for hand := range uint64(4) {
		all.Go(func() {
			r := rand.New(rand.NewPCG(hand, 1))
			var mine []uint16
			for range 5000 {
				if len(mine) > 0 && r.IntN(3) == 0 {
					last := mine[len(mine)-1]
					mine = mine[:len(mine)-1]
					mu.Lock()
					delete(held, last)
					mu.Unlock()
					p.Put(last)
					continue
				}
				port, ok := p.Take()
				if !ok {
					continue
				}
				mu.Lock()
				if held[port] {
					t.Errorf("port %d is with two", port)
				}
				held[port] = true
				mu.Unlock()
				mine = append(mine, port)
			}
		})
	}
	all.Wait()
	if p.Used() != len(held) {
		t.Errorf("%d in use, %d held", p.Used(), len(held))
	}
}
