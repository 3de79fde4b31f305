package conformance

import "testing"

func TestLineDiff(t *testing.T) {
	tests := []struct{ want, got, diff string }{
		{"a\nb", "a\nb", ""},
		{"a\nb\nc", "a\nx\nc", "  a\n- b\n+ x\n"},
		{"1\n2\n3\n4\n5\nend", "1\n2\n3\n4\n5\nnew\nend", "  3\n  4\n  5\n+ new\n"},
		{"a\nb\nc\nd", "a\nd", "  a\n- b\n- c\n"},
		{"", "a", "- \n+ a\n"},
	}
	for _, tt := range tests {
		if diff := lineDiff(tt.want, tt.got); diff != tt.diff {
			t.Errorf("lineDiff(%q, %q) = %q, want %q", tt.want, tt.got, diff, tt.diff)
		}
	}
}
