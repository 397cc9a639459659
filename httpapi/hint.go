package httpapi

import (
	"strconv"
	"strings"

	"turbofan"
)

// unknownField returns the error for a field that nothing reads, with the known name that is nearest to it. prefix is
// the path that leads to the field, with its final dot, and what is the noun that lacks such a field.
func unknownField(prefix, name, what string, known []string) error {
	shown := name
	if len(shown) > 64 {
		shown = shown[:64] + "..."
	}
	if !printable(shown) {
		shown = strconv.Quote(shown)
	}
	if near := nearest(name, known); near != "" {
		return turbofan.Invalid(prefix+shown, "is not %s; did you mean %s?", fieldOf(what), near)
	}
	return turbofan.Invalid(prefix+shown, "is not %s", fieldOf(what))
}

func fieldOf(what string) string {
	if strings.HasPrefix(what, "one of ") {
		return what
	}
	return "a field of " + what
}

func printable(s string) bool {
	for _, r := range s {
		if !strconv.IsPrint(r) {
			return false
		}
	}
	return s != ""
}

// nearest returns the known name within a third of name's length in edits, ignoring case, or "".
func nearest(name string, known []string) string {
	const longest = 64 // a hostile name must not cost a quadratic comparison
	if len(name) > longest {
		return ""
	}
	lower := strings.ToLower(name)
	best, least := "", len(name)/3+1
	for _, k := range known {
		if n := edits(lower, strings.ToLower(k)); n <= least && (best == "" || n < least) {
			best, least = k, n
		}
	}
	return best
}

// edits returns the optimal string alignment distance of a and b: insertions, deletions, substitutions and swaps of
// neighbours that turn one into the other.
func edits(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			change := 1
			if a[i] == b[j] {
				change = 0
			}
			row[j+1] = min(last[j]+change, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
