package conformance

import "strings"

// before is how many equal lines are shown before a difference.
const before = 3

// lineDiff shows what turns want into got, line by line; "" when they are equal. Lines
// of want alone are marked -, of got alone +.
func lineDiff(want, got string) string {
	if want == got {
		return ""
	}
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	common := longestCommon(a, b)
	var out strings.Builder
	i, j, shown := 0, 0, 0 // shown: up to where a has been written
	mark := func(sign, line string) {
		for k := max(shown, i-before); k < i; k++ {
			out.WriteString("  " + a[k] + "\n")
		}
		shown = i
		out.WriteString(sign + " " + line + "\n")
	}
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || common[i+1][j] >= common[i][j+1]):
			mark("-", a[i])
			i++
			shown = i
		default:
			mark("+", b[j])
			j++
		}
	}
	return out.String()
}

// longestCommon holds at [i][j] the length of the longest common subsequence of a[i:]
// and b[j:].
func longestCommon(a, b []string) [][]int {
	length := make([][]int, len(a)+1)
	for i := range length {
		length[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				length[i][j] = length[i+1][j+1] + 1
			} else {
				length[i][j] = max(length[i+1][j], length[i][j+1])
			}
		}
	}
	return length
}
