package cores

import (
	"runtime"
	"time"
)

// Hertz measures how many cycles a second a core does now: a chain of dependent
// multiplications and additions, four cycles each on processors of this decade.
func Hertz(core int) (float64, error) {
	result := make(chan float64, 1)
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := Pin(0, core); err != nil {
			failed <- err
			return
		}
		// A busy machine gives the core to others now and then: the quickest of many short
		// chains was not disturbed.
		best := 0.0
		for range 200 {
			best = max(best, chain())
		}
		result <- best
	}()
	select {
	case err := <-failed:
		return 0, err
	case hz := <-result:
		return hz, nil
	}
}

// chain returns cycles per second.
func chain() float64 {
	const steps, cyclesPerStep = 1 << 18, 4
	x := uint64(3)
	begin := time.Now()
	for range steps {
		x = x*0x5851f42d4c957f2d + 1
	}
	took := time.Since(begin)
	if x == 0 { // keeps the chain from being left out
		return 0
	}
	return steps * cyclesPerStep / took.Seconds()
}
