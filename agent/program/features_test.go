package program

import (
	"testing"

	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/vpp"
	"github.com/millrace/millrace/vpp/compat"
)

// TestIntegrationFeatureMissing: a machine whose version lacks what one feature needs is
// looked at and prepared as any other.
func TestIntegrationFeatureMissing(t *testing.T) {
	for _, m := range machinetest.All(t) {
		t.Run(m.Name, func(t *testing.T) {
			m.Start(t)
			m.Connect(t)
			tap := m.Tap(t)
			for _, f := range compat.Features() {
				for _, msg := range f.Messages {
					if name := msg.GetMessageName(); !f.Essential {
						tap.Hide(name + "_")
						looksWhole(t, tap.Socket, name)
					}
				}
			}
		})
	}
}

func looksWhole(t *testing.T, socket, without string) {
	t.Helper()
	conn, err := vpp.Dial(t.Context(), vpp.Config{Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p, err := New(t.Context(), conn, Agent("n"))
	if err != nil {
		t.Errorf("without %s: prepare: %v", without, err)
		return
	}
	if _, err := p.Observe(t.Context()); err != nil {
		t.Errorf("without %s: %v", without, err)
	}
	if _, err := p.CanTun(t.Context()); err != nil {
		t.Errorf("without %s: probe: %v", without, err)
	}
}
