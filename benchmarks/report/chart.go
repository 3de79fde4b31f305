package report

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"

	"github.com/millrace/millrace/benchmarks"
)

// Chart geometry in SVG user units; the picture scales with its column.
const (
	chartWidth = 640
	labelWidth = 132
	laneHeight = 34
	axisHeight = 30
	curveTall  = 180
	rightRoom  = 70
	colors     = 6 // that page.html defines
)

// chart is one drawn measurement.
type chart struct {
	Title   string
	Better  string
	Command string
	Notes   []string
	SVG     template.HTML
}

// charts draws one picture per measurement name: every sample as a dot in its subject's
// lane with the median marked, and a cumulative curve where there are enough samples.
func charts(r *benchmarks.Result) []chart {
	var out []chart
	for _, name := range r.Names() {
		var series []benchmarks.Measurement
		for _, s := range r.Subjects {
			if m, ok := r.Find(name, s.Name); ok && len(m.Samples) > 0 {
				series = append(series, m)
			}
		}
		if len(series) == 0 || len(series[0].Samples) == 1 && len(series) == 1 {
			continue
		}
		c := chart{Title: series[0].Title + ", " + series[0].Unit, Better: string(series[0].Better), Command: series[0].Command}
		for _, m := range series {
			if m.Note != "" && !slices.Contains(c.Notes, m.Note) {
				c.Notes = append(c.Notes, m.Note)
			}
			if low, high, coverage := benchmarks.MedianInterval(m.Samples); len(m.Samples) > 2 {
				c.Notes = append(c.Notes, fmt.Sprintf("%s: median %s (%s to %s with %.0f %% confidence)",
					m.Subject, number(m.Median()), number(low), number(high), 100*coverage))
			}
		}
		if len(series[0].Samples) >= 20 {
			c.SVG = curves(series, r.Subjects)
		} else {
			c.SVG = lanes(series, r.Subjects)
		}
		out = append(out, c)
	}
	return out
}

// scale maps values from 0 to a round maximum onto the chart's width.
type scale struct{ top float64 }

func scaleOf(series []benchmarks.Measurement, q float64) scale {
	top := 0.0
	for _, m := range series {
		top = max(top, m.Quantile(q))
	}
	if top <= 0 {
		return scale{1}
	}
	step := math.Pow(10, math.Floor(math.Log10(top)))
	for _, f := range []float64{1, 2, 2.5, 5, 10} {
		if f*step >= top {
			return scale{f * step}
		}
	}
	return scale{10 * step}
}

func (s scale) x(v float64) float64 {
	return labelWidth + min(v/s.top, 1)*(chartWidth-labelWidth-rightRoom)
}

// axis draws five ticks with their values below height y.
func (s scale) axis(b *strings.Builder, y float64) {
	for i := range 5 {
		v := s.top * float64(i) / 4
		fmt.Fprintf(b, `<line class="grid" x1="%.1f" x2="%.1f" y1="4" y2="%.1f"/><text class="tick" x="%.1f" y="%.1f">%s</text>`,
			s.x(v), s.x(v), y, s.x(v), y+18, tick(v))
	}
}

func tick(v float64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", v), "0"), ".")
}

// color is the subject's place among all subjects, so that it is the same in every chart.
func color(subjects []benchmarks.Subject, name string) int {
	return slices.IndexFunc(subjects, func(s benchmarks.Subject) bool { return s.Name == name }) % colors
}

func lanes(series []benchmarks.Measurement, subjects []benchmarks.Subject) template.HTML {
	var b strings.Builder
	s, height := scaleOf(series, 1), float64(len(series)*laneHeight+4)
	open(&b, height+axisHeight, series)
	s.axis(&b, height)
	for i, m := range series {
		y, class := float64(i*laneHeight)+laneHeight/2+4, color(subjects, m.Subject)
		fmt.Fprintf(&b, `<text class="label" x="%d" y="%.1f">%s</text>`, labelWidth-8, y+4, template.HTMLEscapeString(m.Subject))
		fmt.Fprintf(&b, `<rect class="s%d bar" x="%d" y="%.1f" width="%.1f" height="16"/>`, class, labelWidth, y-8, s.x(m.Median())-labelWidth)
		for _, v := range m.Samples {
			fmt.Fprintf(&b, `<circle class="s%d" cx="%.1f" cy="%.1f" r="3.5"/>`, class, s.x(v), y)
		}
		fmt.Fprintf(&b, `<text class="value" x="%.1f" y="%.1f">%s</text>`, s.x(slices.Max(m.Samples))+8, y+4, number(m.Median()))
	}
	return closed(&b)
}

func curves(series []benchmarks.Measurement, subjects []benchmarks.Subject) template.HTML {
	var b strings.Builder
	s := scaleOf(series, 1)
	open(&b, curveTall+axisHeight+4, series)
	s.axis(&b, curveTall)
	for _, p := range []float64{0.5, 0.99} {
		y := curveTall - p*(curveTall-8)
		fmt.Fprintf(&b, `<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text class="label" x="%d" y="%.1f">p%.0f</text>`,
			labelWidth, chartWidth-rightRoom, y, y, labelWidth-8, y+4, p*100)
	}
	for _, m := range series {
		class, sorted := color(subjects, m.Subject), slices.Sorted(slices.Values(m.Samples))
		fmt.Fprintf(&b, `<path class="s%d line" d="M%.1f %d`, class, s.x(sorted[0]), curveTall)
		for i, v := range sorted {
			fmt.Fprintf(&b, "H%.1fV%.1f", s.x(v), curveTall-float64(i+1)/float64(len(sorted))*(curveTall-8))
		}
		fmt.Fprintf(&b, `"/><text class="value s%d" x="%.1f" y="%.1f">%s</text>`, class, s.x(sorted[len(sorted)-1])+6,
			20+16*float64(class), template.HTMLEscapeString(m.Subject))
	}
	return closed(&b)
}

func open(b *strings.Builder, height float64, series []benchmarks.Measurement) {
	var said []string
	for _, m := range series {
		said = append(said, fmt.Sprintf("%s median %s %s", m.Subject, number(m.Median()), m.Unit))
	}
	fmt.Fprintf(b, `<svg viewBox="0 0 %d %.0f" role="img" aria-label="%s">`, chartWidth, height, template.HTMLEscapeString(strings.Join(said, ", ")))
}

// closed ends the picture. Everything in it is either a number or was escaped above.
func closed(b *strings.Builder) template.HTML {
	b.WriteString("</svg>")
	return template.HTML(b.String())
}
