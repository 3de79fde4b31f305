// Package compat owns what Millrace needs of a release of VPP: which messages of the binary
// API each feature is made of, and what a machine that lacks some of them cannot do.
//
// GoVPP's messages are those of VPP 25.10. A message of another release that has the same
// fields has the same CRC and is the same message; one that was changed has another and
// counts as missing. It never calls a message but show_version, and switches nothing off:
// whoever uses a feature does.
package compat

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/vpe"

	"github.com/millrace/millrace/vpp"
)

// Release is the one whose messages GoVPP's are.
const Release = "25.10"

// Feature is something that Millrace does with messages of its own.
type Feature struct {
	Name      string
	Without   string // what does not work without it
	Plugin    string // of VPP, that brings its messages; "" = VPP itself
	Essential bool   // without it there is no node
	Messages  []api.Message
}

// Gap is a feature that a machine cannot have.
type Gap struct {
	Feature   string   `json:"feature"`
	Without   string   `json:"without"`
	Plugin    string   `json:"plugin,omitempty"`
	Essential bool     `json:"essential,omitempty"`
	Missing   []string `json:"missing"` // as name_crc, with what the machine has instead
}

func (g Gap) String() string {
	return fmt.Sprintf("%s (%s) for lack of %s", g.Feature, g.Without, strings.Join(g.Missing, ", "))
}

// Report is what a machine is and what it lacks.
type Report struct {
	Program string `json:"program"` // vpe for VPP, millrace for the engine
	Version string `json:"version"`
	Gaps    []Gap  `json:"gaps"`
}

// Err is an error when something essential is missing. It names what, and the way out.
func (r Report) Err() error {
	for _, g := range r.Gaps {
		if !g.Essential {
			continue
		}
		text := fmt.Sprintf("%s lacks %s, and without %s %s", r.Name(), strings.Join(g.Missing, ", "), g.Feature, g.Without)
		if g.Plugin != "" && !slices.ContainsFunc(g.Missing, func(m string) bool { return strings.Contains(m, "(it has") }) {
			return fmt.Errorf("%s: load %s_plugin.so (is it in vpp.plugins or switched off in vpp.extra?), or install VPP %s", text, g.Plugin, Release)
		}
		return fmt.Errorf("%s: install VPP %s", text, Release)
	}
	return nil
}

// Name is the machine as people call it.
func (r Report) Name() string {
	if r.Program == "vpe" {
		return "VPP " + r.Version
	}
	return strings.TrimSpace(r.Program + " " + r.Version)
}

// Probe asks a machine who it is and looks through its message table.
func Probe(ctx context.Context, conn *vpp.Conn) (Report, error) {
	var r Report
	v, err := vpp.Call[vpe.ShowVersionReply](ctx, conn, &vpe.ShowVersion{})
	if err != nil {
		return r, fmt.Errorf("ask the dataplane who it is: %w", err)
	}
	r.Program, r.Version, r.Gaps = v.Program, v.Version, []Gap{}
	for _, f := range Features() {
		if missing := conn.Supports(f.Messages...); len(missing) > 0 {
			r.Gaps = append(r.Gaps, Gap{Feature: f.Name, Without: f.Without, Plugin: f.Plugin, Essential: f.Essential, Missing: missing})
		}
	}
	return r, nil
}
