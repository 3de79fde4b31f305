package search

import "math"

// goal is what is known of one loss ratio.
type goal struct {
	ratio       float64
	rate        float64 // highest that was offered and passed, 0 = none yet
	lower       float64 // highest asked for that passed, 0 = none yet
	upper       float64 // lowest asked for that failed, +Inf = none yet
	carried     float64 // what came through at the upper bound, until it was tried
	width       float64 // the next step down, relative to upper
	high, low   bool    // a trial at that bound was asked for
	byGenerator bool    // the generator fell short at upper
}

// within says whether a trial at a rate could narrow the interval.
func (g *goal) within(rate float64) bool { return rate > g.lower && rate < g.upper }

// next is the rate to try: the upper bound first, then what the device carried there, then
// down in steps that double, and once there is an interval its middle.
func (g *goal) next(c Config) float64 {
	switch {
	case math.IsInf(g.upper, 1):
		g.high = true
		return c.High
	case g.lower > 0:
		return math.Sqrt(g.lower * g.upper)
	}
	rate := g.upper * (1 - g.width)
	if g.carried > 0 && g.carried < rate {
		rate = g.carried
	} else {
		g.width = min(2*g.width, 0.5)
	}
	g.carried = 0
	if rate <= c.Low {
		g.low, rate = true, c.Low
	}
	return rate
}

// learn takes what a trial says. One that passed outside of the interval may still be the
// highest rate that was offered.
func (g *goal) learn(t Trial, precision float64) {
	within := g.within(t.Asked)
	if t.Loss > g.ratio {
		if within {
			if math.IsInf(g.upper, 1) {
				g.carried = t.Offered * (1 - t.Loss)
			}
			g.upper, g.byGenerator = t.Asked, false
		}
		return
	}
	offered := min(t.Offered, t.Asked)
	if offered < g.upper {
		g.rate = max(g.rate, offered)
	}
	switch short := offered < t.Asked*(1-precision); {
	case !within:
	case short:
		g.lower, g.upper, g.byGenerator = max(g.lower, offered), t.Asked, true
	default:
		g.lower = t.Asked
	}
}

func (g *goal) done(c Config) bool {
	switch {
	case math.IsInf(g.upper, 1):
		return g.high // and it passed there
	case g.lower == 0:
		return g.low
	}
	return g.upper <= g.lower*(1+c.Precision)
}

func (g *goal) found(c Config) Found {
	f := Found{Ratio: g.ratio, Rate: g.rate, Upper: g.upper, Outcome: Settled}
	switch {
	case !g.done(c):
		f.Outcome = OutOf
	case math.IsInf(g.upper, 1):
		f.Outcome = Above
	case g.lower == 0:
		f.Outcome = Below
	case g.byGenerator:
		f.Outcome = Generator
	}
	return f
}
