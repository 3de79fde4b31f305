package search

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func config() Config {
	return Config{Goals: []float64{NDR, PDR}, Low: 1e3, High: 12e6, Precision: 0.01, Repeats: 1, Trials: 60}
}

// device is a loss ratio for a rate.
type device func(rate float64) float64

// sharp loses all that is above a capacity.
func sharp(capacity float64) device {
	return func(rate float64) float64 { return max(0, 1-capacity/rate) }
}

// soft loses a little from a knee on, and all that is above a capacity.
func soft(knee, capacity float64) device {
	return func(rate float64) float64 {
		return max(0, min(0.5, 0.05*(rate-knee)/knee), 1-capacity/rate)
	}
}

func (d device) measure(rate float64) (Trial, error) {
	return Trial{Offered: rate, Loss: d(rate)}, nil
}

// TestFinds: rate and upper bound enclose the truth as closely as asked for.
func TestFinds(t *testing.T) {
	for _, tt := range []struct {
		name     string
		device   device
		ndr, pdr float64
		trials   int
	}{
		{"sharp", sharp(10e6), 10e6, 10e6 / 0.995, 30},
		{"sharp and slow", sharp(20e3), 20e3, 20e3 / 0.995, 30},
		{"soft", soft(4e6, 10e6), 4e6, 4e6 * 1.1, 45},
		{"very soft", soft(1e5, 10e6), 1e5, 1.1e5, 60},
	} {
		r, err := Run(config(), tt.device.measure)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []float64{tt.ndr, tt.pdr} {
			f := r.Found[i]
			if f.Outcome != Settled || f.Rate > want*1.000001 || f.Upper < want*0.999999 || f.Upper > f.Rate*1.01 {
				t.Errorf("%s: goal %v: %+v, want %v between rate and upper", tt.name, f.Ratio, f, want)
			}
		}
		if len(r.Trials) > tt.trials {
			t.Errorf("%s: %d trials, want at most %d", tt.name, len(r.Trials), tt.trials)
		}
	}
}

// TestNoise: a machine that loses a little in one of six trials, whatever the rate, is
// found near its capacity with a repeat; nearly always, since two in a row may lose.
func TestNoise(t *testing.T) {
	near := func(repeats int) (n int) {
		for seed := range uint64(200) {
			rng := rand.New(rand.NewPCG(seed, 1))
			c := config()
			c.Repeats = repeats
			r, err := Run(c, func(rate float64) (Trial, error) {
				loss := sharp(10e6)(rate)
				if rng.IntN(6) == 0 {
					loss = max(loss, 1e-5)
				}
				return Trial{Offered: rate, Loss: loss}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if f := r.Found[0]; f.Rate > 10e6 {
				t.Fatalf("seed %d: NDR %v is above the capacity", seed, f.Rate)
			} else if f.Rate > 9.9e6 {
				n++
			}
			if r.Found[1].Rate < 9.9e6 {
				t.Fatalf("seed %d: PDR %v: noise below the ratio must not matter", seed, r.Found[1].Rate)
			}
		}
		return n
	}
	with, without := near(1), near(0)
	if with < 195 || without > with-5 {
		t.Errorf("near the capacity in %d of 200 searches with a repeat, in %d without", with, without)
	}
}

// TestBounds: devices that lose always, never, or whose generator is too slow.
func TestBounds(t *testing.T) {
	always := device(func(float64) float64 { return 0.02 })
	never := device(func(float64) float64 { return 0 })
	little := device(func(float64) float64 { return 0.001 })
	for _, tt := range []struct {
		name    string
		measure Measure
		want    [2]Outcome
		rates   [2]float64
	}{
		{"always", always.measure, [2]Outcome{Below, Below}, [2]float64{0, 0}},
		{"never", never.measure, [2]Outcome{Above, Above}, [2]float64{12e6, 12e6}},
		{"always a little", little.measure, [2]Outcome{Below, Above}, [2]float64{0, 12e6}},
		{"slow generator", func(rate float64) (Trial, error) { return Trial{Offered: min(rate, 5e6)}, nil }, [2]Outcome{Generator, Generator}, [2]float64{5e6, 5e6}},
	} {
		r, err := Run(config(), tt.measure)
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range r.Found {
			if f.Outcome != tt.want[i] || math.Abs(f.Rate-tt.rates[i]) > 0.01*tt.rates[i] {
				t.Errorf("%s: goal %v: %+v, want %s at %v", tt.name, f.Ratio, f, tt.want[i], tt.rates[i])
			}
		}
	}
}

// TestOrder: on any device, however it loses, the rates are in the order of the ratios,
// were offered in a trial that passed, and the trials are not more than allowed.
func TestOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for range 2000 {
		c := config()
		c.Trials, c.Repeats = 1+rng.IntN(50), rng.IntN(3)
		r, err := Run(c, func(rate float64) (Trial, error) {
			loss := 0.0
			if rng.IntN(2) == 0 {
				loss = math.Pow(10, -6*rng.Float64())
			}
			return Trial{Offered: rate * (0.9 + 0.1*rng.Float64()), Loss: loss}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Trials) > c.Trials {
			t.Fatalf("%d trials, want at most %d", len(r.Trials), c.Trials)
		}
		if r.Found[0].Rate > r.Found[1].Rate {
			t.Fatalf("NDR %+v above PDR %+v", r.Found[0], r.Found[1])
		}
		for _, f := range r.Found {
			passed := f.Rate == 0
			for _, trial := range r.Trials {
				passed = passed || trial.Offered == f.Rate && trial.Loss <= f.Ratio
			}
			if !passed {
				t.Fatalf("%+v was never measured: %+v", f, r.Trials)
			}
		}
	}
}

// TestReplay: a search that broke off is taken up by answering again what it has asked.
func TestReplay(t *testing.T) {
	gone := errors.New("gone")
	rng := rand.New(rand.NewPCG(4, 4))
	noise := make([]float64, 60)
	for i := range noise {
		noise[i] = float64(rng.IntN(2)) * 1e-4
	}
	var made []Trial
	measure := func(upTo int) Measure {
		asked := 0
		return func(rate float64) (Trial, error) {
			if asked++; asked <= len(made) {
				if made[asked-1].Asked != rate {
					t.Fatalf("trial %d asks for %v, before for %v", asked, rate, made[asked-1].Asked)
				}
				return made[asked-1], nil
			}
			if asked > upTo {
				return Trial{}, gone
			}
			made = append(made, Trial{Asked: rate, Offered: rate, Loss: max(sharp(3e6)(rate), noise[asked-1])})
			return made[asked-1], nil
		}
	}
	want, err := Run(config(), measure(60))
	if err != nil {
		t.Fatal(err)
	}
	made = nil
	for upTo := 1; ; upTo++ {
		got, err := Run(config(), measure(upTo))
		if err == nil {
			if !slices.Equal(got.Found, want.Found) || !slices.Equal(got.Trials, want.Trials) || upTo < 10 {
				t.Errorf("in pieces %+v, at once %+v", got, want)
			}
			return
		}
		if !errors.Is(err, gone) {
			t.Fatal(err)
		}
	}
}

func TestRefuses(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"goals":     func(c *Config) { c.Goals = nil },
		"ratio":     func(c *Config) { c.Goals = []float64{1} },
		"low":       func(c *Config) { c.Low = 0 },
		"high":      func(c *Config) { c.High = c.Low },
		"precision": func(c *Config) { c.Precision = 0 },
		"trials":    func(c *Config) { c.Trials = 0 },
		"repeats":   func(c *Config) { c.Repeats = -1 },
	} {
		c := config()
		change(&c)
		if _, err := Run(c, sharp(1e6).measure); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	broken := errors.New("device is gone")
	r, err := Run(config(), func(rate float64) (Trial, error) {
		if rate < 12e6 {
			return Trial{}, broken
		}
		return Trial{Offered: rate, Loss: 0.5}, nil
	})
	if !errors.Is(err, broken) || len(r.Trials) == 0 || r.Found[0].Outcome != OutOf {
		t.Errorf("error %v, result %+v: want the device's error and what was known", err, r)
	}
	if _, err := Run(config(), func(float64) (Trial, error) { return Trial{Loss: math.NaN(), Offered: 1}, nil }); err == nil {
		t.Error("a loss that is no number is no error")
	}
}
