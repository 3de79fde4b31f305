package benchmarks

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Schema names the version of the result's JSON form.
const Schema = "millrace.io/benchmark/v1"

// Subject is one dataplane under test and what it said of itself.
type Subject struct {
	Name    string `json:"name"` // "engine", "vpp", "kernel"
	Version string `json:"version"`
	Detail  string `json:"detail"` // how pods are attached
}

// Check is a yes-or-no question put to a subject: does a ping arrive, is nothing left.
type Check struct {
	Subject string `json:"subject"`
	Name    string `json:"name"`
	OK      bool   `json:"ok"`
	Detail  string `json:"detail,omitempty"`
}

// Result is a whole run: data first, drawn by package report. A run that was
// interrupted is stored too, with Complete false and what it had.
type Result struct {
	Schema       string        `json:"schema"`
	Title        string        `json:"title"`
	Started      time.Time     `json:"started"`
	Seconds      float64       `json:"seconds"`
	Complete     bool          `json:"complete"`
	Problem      string        `json:"problem,omitempty"`
	Machine      Machine       `json:"machine"`
	Subjects     []Subject     `json:"subjects"`
	Checks       []Check       `json:"checks"`
	Measurements []Measurement `json:"measurements"`
	Discarded    []Discarded   `json:"discarded,omitempty"`
}

// Add appends a sample to the measurement it belongs to, making that on its first one.
func (r *Result) Add(m Measurement, sample float64) {
	i := slices.IndexFunc(r.Measurements, func(x Measurement) bool { return x.Name == m.Name && x.Subject == m.Subject })
	if i < 0 {
		r.Measurements = append(r.Measurements, m)
		i = len(r.Measurements) - 1
	}
	r.Measurements[i].Samples = append(r.Measurements[i].Samples, sample)
}

// AddUnder is Add with the condition that the sample was taken under.
func (r *Result) AddUnder(m Measurement, sample float64, c Condition) {
	r.Add(m, sample)
	for i, x := range r.Measurements {
		if x.Name == m.Name && x.Subject == m.Subject {
			r.Measurements[i].Conditions = append(x.Conditions, c)
		}
	}
}

// SetAside takes the measurements whose names have an ending out of the comparison. Their
// samples stay among the discarded ones.
func (r *Result) SetAside(ending, why string) {
	r.Measurements = slices.DeleteFunc(r.Measurements, func(m Measurement) bool {
		if !strings.HasSuffix(m.Name, ending) {
			return false
		}
		for i, sample := range m.Samples {
			d := Discarded{Name: m.Name, Subject: m.Subject, Sample: sample, Why: why}
			if i < len(m.Conditions) {
				d.Condition = m.Conditions[i]
			}
			r.Discarded = append(r.Discarded, d)
		}
		return true
	})
}

// Find returns the measurement of a name and subject.
func (r *Result) Find(name, subject string) (Measurement, bool) {
	for _, m := range r.Measurements {
		if m.Name == name && m.Subject == subject {
			return m, true
		}
	}
	return Measurement{}, false
}

// Names lists the measurements' names, each once, in the order first measured.
func (r *Result) Names() []string {
	var names []string
	for _, m := range r.Measurements {
		if !slices.Contains(names, m.Name) {
			names = append(names, m.Name)
		}
	}
	return names
}

// Failed lists the checks that were not OK.
func (r *Result) Failed() []Check {
	var failed []Check
	for _, c := range r.Checks {
		if !c.OK {
			failed = append(failed, c)
		}
	}
	return failed
}

// Save writes the result as indented JSON, atomically.
func (r *Result) Save(path string) error {
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("save result: %w", err)
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("save result: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("save result: %w", err)
	}
	return nil
}

// Load reads a stored result and refuses one of another schema or with unknown fields.
func Load(path string) (*Result, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load result: %w", err)
	}
	defer f.Close()
	r, err := decode(f)
	if err != nil {
		return nil, fmt.Errorf("load result %s: %w", path, err)
	}
	return r, nil
}

func decode(in io.Reader) (*Result, error) {
	dec := json.NewDecoder(in)
	dec.DisallowUnknownFields()
	var r Result
	if err := dec.Decode(&r); err != nil {
		return nil, err
	}
	if r.Schema != Schema {
		return nil, fmt.Errorf("schema is %q, this build reads %q", r.Schema, Schema)
	}
	return &r, nil
}
