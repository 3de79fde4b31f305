package rig

import (
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	text := "4711 (a (b) c) S 1 4711 4711 0 -1 4194560 1127 0 0 0 250 31 7 9 20 0 12 0 9 1 2"
	if got, err := parseStat(text); err != nil || got != 2810*time.Millisecond {
		t.Errorf("parseStat = %v, %v; want user and system time, without those of children", got, err)
	}
	for _, bad := range []string{"", "4711 (name) S 1 2", "4711 (name) S 1 4711 4711 0 -1 4194560 1127 0 0 0 x 31"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("parseStat(%q) is no error", bad)
		}
	}
}
