// Package benchmarks owns experiments as values: what was measured, on which machine,
// with which raw samples, and what may be said of them.
//
// It never starts a process (package rig does), never draws (package report does) and
// never throws a sample away.
package benchmarks

import (
	"fmt"
	"math"
	"slices"
)

// Better says which direction of a measurement is good.
type Better string

// Directions of Measurement.Better.
const (
	Higher Better = "higher"
	Lower  Better = "lower"
)

// Measurement is one quantity of one subject with all its samples, in the order taken.
type Measurement struct {
	Name    string    `json:"name"`    // "tcp", "udp-64", "cni-add": equal names are compared across subjects
	Title   string    `json:"title"`   // for people
	Subject string    `json:"subject"` // Subject.Name
	Unit    string    `json:"unit"`    // "Gbit/s", "kpps", "ms", "MB"
	Better  Better    `json:"better"`
	Command string    `json:"command,omitempty"` // what a sceptic would type
	Samples []float64 `json:"samples"`
	Note    string    `json:"note,omitempty"`  // what a reader must know before comparing
	Aside   bool      `json:"aside,omitempty"` // not a figure to compare, but what one must know to trust another

	Conditions []Condition `json:"conditions,omitempty"` // of each sample, where they were watched
}

// Quantile returns the q-quantile (0..1) of the samples by linear interpolation
// (Hyndman and Fan, type 7), NaN when there are none.
func (m Measurement) Quantile(q float64) float64 {
	return Quantile(m.Samples, q)
}

// Median is Quantile(0.5).
func (m Measurement) Median() float64 { return m.Quantile(0.5) }

// Quantile returns the q-quantile (0..1) of xs, NaN when xs is empty. xs is not changed.
func Quantile(xs []float64, q float64) float64 {
	if len(xs) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(xs))
	pos := min(max(q, 0), 1) * float64(len(s)-1)
	i := int(pos)
	if i+1 >= len(s) {
		return s[len(s)-1]
	}
	return s[i] + (pos-float64(i))*(s[i+1]-s[i])
}

// MedianInterval is a distribution-free confidence interval of the median from order
// statistics: the narrowest symmetric pair of ranks whose binomial coverage is at
// least 95 %, else the whole range, whose true coverage is then returned.
func MedianInterval(xs []float64) (low, high, coverage float64) {
	n := len(xs)
	if n == 0 {
		return math.NaN(), math.NaN(), 0
	}
	s := slices.Sorted(slices.Values(xs))
	for k := (n - 1) / 2; k >= 0; k-- {
		if c := rankCoverage(n, k); c >= 0.95 || k == 0 {
			return s[k], s[n-1-k], c
		}
	}
	return s[0], s[n-1], rankCoverage(n, 0)
}

// rankCoverage is the probability that the median lies between the k-th smallest and
// the k-th largest (k from 0) of n samples.
func rankCoverage(n, k int) float64 {
	tail := 0.0
	for i := 0; i <= k; i++ {
		tail += binomial(n, i)
	}
	return max(0, 1-2*tail*math.Pow(0.5, float64(n)))
}

func binomial(n, k int) float64 {
	r := 1.0
	for i := 1; i <= k; i++ {
		r = r * float64(n-k+i) / float64(i)
	}
	return r
}

// Ratio compares one quantity of two subjects by paired samples: sample i of both was
// taken in the same repetition, next to each other, so that a slow minute of the
// machine touches both. The ratio is the median of the pairs' ratios.
func Ratio(of, to Measurement) (float64, error) {
	if of.Name != to.Name || of.Unit != to.Unit {
		return 0, fmt.Errorf("compare %s (%s) with %s (%s): not the same quantity", of.Name, of.Unit, to.Name, to.Unit)
	}
	n := min(len(of.Samples), len(to.Samples))
	if n == 0 {
		return 0, fmt.Errorf("compare %s of %s and %s: no samples", of.Name, of.Subject, to.Subject)
	}
	ratios := make([]float64, 0, n)
	for i := range n {
		if to.Samples[i] == 0 {
			return 0, fmt.Errorf("compare %s of %s and %s: repetition %d of %s is zero", of.Name, of.Subject, to.Subject, i+1, to.Subject)
		}
		ratios = append(ratios, of.Samples[i]/to.Samples[i])
	}
	return Quantile(ratios, 0.5), nil
}
