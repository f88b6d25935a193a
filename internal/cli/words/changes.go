package words

import (
	"fmt"
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
