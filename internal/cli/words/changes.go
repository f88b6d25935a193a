package words

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/mayfly-vm/mayfly"
)

// Changes says how many changes there are of each kind.
func Changes(changes []mayfly.Change) string {
	counts := make(map[string]int)
	for _, c := range changes {
		counts[c.Op]++
	}
	var parts []string
	for _, op := range []struct{ op, verb string }{{"A", "added"}, {"M", "modified"}, {"D", "deleted"}, {"R", "renamed"}} {
		if n := counts[op.op]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, op.verb))
		}
	}
	return strings.Join(parts, ", ")
}

// Ignored says how many changes of ignored files there are, and how large they are.
func Ignored(changes []mayfly.Change) string {
	var bytes int64
	for _, c := range changes {
		if c.Kind == "file" {
			bytes += c.Size
		}
	}
	text := group(len(changes)) + " ignored files changed"
	if len(changes) == 1 {
		text = "1 ignored file changed"
	}
	if bytes > 0 {
		text += ", " + Size(bytes)
	}
	return text
}

// group writes a number in groups of three digits.
func group(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Attempt says what became of an attempt to get out of a machine's network.
func Attempt(r mayfly.Attempt) string {
	switch {
	case r.Skipped:
		return "skipped"
	case !r.Refused:
		return "REACHED"
	case !r.Recorded:
		return "NOT RECORDED"
	}
	return "refused"
}
