// Command render renders the Helm chart as plain YAML files, for people who install without
// Helm: one file a template, and a kustomization.yaml that lists them.
//
// It owns no manifest: all of them stand in the chart, and Helm's own engine renders them,
// checked against the chart's schema of values. It asks no cluster.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
)

func main() {
	var r rendering
	flag.StringVar(&r.chart, "chart", "", "`directory` of the chart")
	flag.StringVar(&r.values, "values", "", "`file` of values over the chart's own; empty: none")
	flag.StringVar(&r.namespace, "namespace", "millrace", "`name` that a release would be installed in")
	flag.StringVar(&r.source, "source", "", "`text` for the first line of each file, which says how it is made again")
	out := flag.String("out", "", "`directory` to write into; empty: print one YAML stream")
	flag.Parse()
	if err := r.run(*out); err != nil {
		fmt.Fprintf(os.Stderr, "render: %v\n", err)
		os.Exit(1)
	}
}

// rendering is one set of values for one chart.
type rendering struct{ chart, values, namespace, source string }

func (r rendering) run(out string) error {
	files, err := r.files()
	if err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(files))
	if out == "" {
		for _, name := range names {
			fmt.Printf("---\n# %s\n%s", name, files[name])
		}
		return nil
	}
	list := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n"
	for _, name := range names {
		list += "- " + name + "\n"
	}
	files["kustomization.yaml"] = list
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("write manifests: %w", err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(out, name), []byte("# "+r.source+"\n"+text), 0o644); err != nil {
			return fmt.Errorf("write manifests: %w", err)
		}
	}
	return nil
}

// files returns what each template renders to, by file name. Those that render to nothing,
// and the notes for Helm's user, are left out.
func (r rendering) files() (map[string]string, error) {
	chart, err := loader.Load(r.chart)
	if err != nil {
		return nil, fmt.Errorf("load chart %s: %w", r.chart, err)
	}
	values := map[string]any{}
	if r.values != "" {
		text, err := os.ReadFile(r.values)
		if err != nil {
			return nil, fmt.Errorf("read values: %w", err)
		}
		if values, err = loader.LoadValues(bytes.NewReader(text)); err != nil {
			return nil, fmt.Errorf("read values %s: %w", r.values, err)
		}
	}
	release := common.ReleaseOptions{Name: chart.Name(), Namespace: r.namespace, Revision: 1, IsInstall: true}
	with, err := util.ToRenderValues(chart, values, release, common.DefaultCapabilities)
	if err != nil {
		return nil, fmt.Errorf("check values: %w", err)
	}
	rendered, err := engine.Engine{Strict: true}.Render(chart, with)
	if err != nil {
		return nil, fmt.Errorf("render chart: %w", err)
	}
	files := map[string]string{}
	for name, text := range rendered {
		text = strings.TrimSpace(text)
		if path.Ext(name) == ".yaml" && text != "" {
			files[path.Base(name)] = text + "\n"
		}
	}
	if len(files) == 0 {
		return nil, errors.New("render chart: no template renders to anything with these values")
	}
	return files, nil
}
