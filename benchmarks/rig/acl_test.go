package rig

import "testing"

// TestSessionsOf reads what VPP 25.10 and the engine print.
func TestSessionsOf(t *testing.T) {
	const text = `Sessions total: add 400064 - del 64 = 400000
Sessions active: add 400064 - deact 70 = 399994
Sessions being purged: deact 70 - del 64 = 6
`
	if n, err := sessionsOf(text); err != nil || n != 400_000 {
		t.Errorf("sessions: %d, %v; want 400000", n, err)
	}
	if _, err := sessionsOf("show acl-plugin sessions: unknown input"); err == nil {
		t.Error("text without a total is no error")
	}
}
