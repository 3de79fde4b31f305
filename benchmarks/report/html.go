package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"

	"github.com/millrace/millrace/benchmarks"
)

//go:embed page.html
var pageSource string

// page is what page.html shows.
type page struct {
	*benchmarks.Result
	Header []string
	Rows   []row
	Passed int
	Charts []chart
}

// HTML writes the result as one page that needs no network: figures, checks, charts of
// every raw sample, and the commands to repeat them.
func HTML(w io.Writer, r *benchmarks.Result) error {
	t, err := template.New("page").Parse(pageSource)
	if err != nil {
		return fmt.Errorf("parse report page: %w", err)
	}
	header, rows := compare(r)
	p := page{Result: r, Header: header, Rows: rows, Passed: len(r.Checks) - len(r.Failed()), Charts: charts(r)}
	if err := t.Execute(w, p); err != nil {
		return fmt.Errorf("draw report: %w", err)
	}
	return nil
}
