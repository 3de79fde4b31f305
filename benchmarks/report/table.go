// Package report draws results: a table on the terminal, one self-contained HTML page
// with SVG charts, and the README's figures. It never measures; what it shows can be
// computed again from the stored JSON.
package report

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/millrace/millrace/benchmarks"
)

// row is one line of a comparison: a quantity, each subject's figure, and the first
// subject's ratio to each of the others.
type row struct {
	Title string
	Unit  string
	Cells []string
	Ratio []string
}

// Table writes the comparison as text: checks first, then the figures.
func Table(w io.Writer, r *benchmarks.Result) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintf(t, "%s\n%s, %d cores, Linux %s, %s\n", r.Title, r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go)
	for _, s := range r.Subjects {
		fmt.Fprintf(t, "  %s: %s (%s)\n", s.Name, firstLine(s.Version), s.Detail)
	}
	passed := len(r.Checks) - len(r.Failed())
	fmt.Fprintf(t, "\n%d of %d checks passed\n", passed, len(r.Checks))
	for _, c := range r.Failed() {
		fmt.Fprintf(t, "  FAILED %s: %s: %s\n", c.Subject, c.Name, firstLine(c.Detail))
	}
	header, rows := compare(r)
	fmt.Fprintf(t, "\n%s\n", strings.Join(header, "\t"))
	for _, x := range rows {
		fmt.Fprintf(t, "%s\t%s\n", x.Title, strings.Join(append(append([]string{}, x.Cells...), x.Ratio...), "\t"))
	}
	if !r.Complete {
		fmt.Fprintf(t, "\nThe run is incomplete: %s\n", r.Problem)
	}
	return t.Flush()
}

// Markdown writes the figures as a markdown table, for the README, without those aside.
func Markdown(w io.Writer, r *benchmarks.Result) error {
	figures := *r
	figures.Measurements = slices.DeleteFunc(slices.Clone(r.Measurements), func(m benchmarks.Measurement) bool { return m.Aside })
	header, rows := compare(&figures)
	var b strings.Builder
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(header, " | "), strings.Repeat("---|", len(header)))
	for _, x := range rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(append(append([]string{x.Title}, x.Cells...), x.Ratio...), " | "))
	}
	fmt.Fprintf(&b, "\n%s; %d cores, Linux %s, %s, %s. Medians of the stored samples; a ratio is the median over repetitions of pairs taken next to each other.\n",
		r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go, r.Started.Format("2006-01-02"))
	for _, s := range r.Subjects {
		fmt.Fprintf(&b, "- %s: %s, %s\n", s.Name, firstLine(s.Version), s.Detail)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// compare lays the measurements out: one row per name, latencies with p50 and p99.
func compare(r *benchmarks.Result) (header []string, rows []row) {
	header = []string{"figure"}
	for _, s := range r.Subjects {
		header = append(header, s.Name)
	}
	for _, s := range others(r) {
		header = append(header, r.Subjects[0].Name+"/"+s.Name)
	}
	for _, name := range r.Names() {
		rows = append(rows, rowsOf(r, name)...)
	}
	return header, rows
}

func others(r *benchmarks.Result) []benchmarks.Subject {
	if len(r.Subjects) < 2 {
		return nil
	}
	return r.Subjects[1:]
}

// rowsOf is one row for a rate, two (p50 and p99) for a latency with enough samples.
func rowsOf(r *benchmarks.Result, name string) []row {
	quantiles := []float64{0.5}
	any, samples := benchmarks.Measurement{}, 0
	for _, s := range r.Subjects {
		if m, ok := r.Find(name, s.Name); ok {
			any, samples = m, max(samples, len(m.Samples))
		}
	}
	if any.Unit == "ms" && samples >= 20 {
		quantiles = []float64{0.5, 0.99}
	}
	var rows []row
	for _, q := range quantiles {
		x := row{Title: any.Title + ", " + any.Unit, Unit: any.Unit}
		if len(quantiles) > 1 {
			x.Title = fmt.Sprintf("%s p%.0f, %s", any.Title, q*100, any.Unit)
		}
		for _, s := range r.Subjects {
			m, ok := r.Find(name, s.Name)
			x.Cells = append(x.Cells, cell(m, ok, q))
		}
		for _, s := range others(r) {
			x.Ratio = append(x.Ratio, ratio(r, name, r.Subjects[0].Name, s.Name, q))
		}
		rows = append(rows, x)
	}
	return rows
}

func cell(m benchmarks.Measurement, ok bool, q float64) string {
	if !ok || len(m.Samples) == 0 {
		return "–"
	}
	return number(m.Quantile(q))
}

func ratio(r *benchmarks.Result, name, of, to string, q float64) string {
	a, okA := r.Find(name, of)
	b, okB := r.Find(name, to)
	if !okA || !okB {
		return "–"
	}
	if q != 0.5 || a.Unit == "ms" {
		return number(a.Quantile(q)/b.Quantile(q)) + "x"
	}
	x, err := benchmarks.Ratio(a, b)
	if err != nil {
		return "–"
	}
	return number(x) + "x"
}

// number prints three significant digits.
func number(x float64) string {
	switch a := math.Abs(x); {
	case math.IsNaN(x) || math.IsInf(x, 0):
		return "–"
	case a >= 100:
		return fmt.Sprintf("%.0f", x)
	case a >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
