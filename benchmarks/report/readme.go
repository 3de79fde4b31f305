package report

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/millrace/millrace/benchmarks"
)

// Markers around a rendered block in the README: <!-- results:NAME --> … <!-- /results -->,
// where NAME is the stored file's name without .json.
const (
	openMarker  = "<!-- results:"
	closeMarker = "<!-- /results -->"
)

// RenderReadme replaces every marked block of a README by the figures of the stored
// result it names, and says whether anything changed. The file is written only then.
func RenderReadme(readme, results string) (changed bool, err error) {
	old, err := os.ReadFile(readme)
	if err != nil {
		return false, fmt.Errorf("render readme: %w", err)
	}
	out, err := render(string(old), func(name string) (*benchmarks.Result, error) {
		return benchmarks.Load(filepath.Join(results, filepath.Base(name)+".json"))
	})
	if err != nil {
		return false, fmt.Errorf("render %s: %w", readme, err)
	}
	if slices.Equal(old, []byte(out)) {
		return false, nil
	}
	if err := os.WriteFile(readme, []byte(out), 0o644); err != nil {
		return false, fmt.Errorf("render readme: %w", err)
	}
	return true, nil
}

func render(text string, load func(name string) (*benchmarks.Result, error)) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, openMarker)
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		name, body, ok := strings.Cut(rest, " -->")
		if !ok {
			return "", errors.New("a results marker is not closed with -->")
		}
		_, after, ok := strings.Cut(body, closeMarker)
		if !ok {
			return "", fmt.Errorf("the block of results:%s has no %s", name, closeMarker)
		}
		result, err := load(name)
		if err != nil {
			return "", err
		}
		var table bytes.Buffer
		if err := Markdown(&table, result); err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "%s%s -->\n%s%s", openMarker, name, table.String(), closeMarker)
		text = after
	}
}
