package hint

import (
	"iter"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// next is the next command to type after a failure. {name} stands for the
// argument of that name.
var next = map[fault.Code]string{
	fault.NameTaken:        "mayfly ls, or mayfly rm {name}",
	fault.MachineNotFound:  "mayfly ls",
	fault.MachineUndefined: "mayfly ls, or mayfly new NAME",
	fault.MachineDefined:   "mayfly inspect {name}, or another name",
	fault.MachineDataLeft:  "mayfly rm {name} removes it",
	fault.VolumeShrinks:    `size = "{mib}MiB" in [[volume]], or mayfly reset {machine}, which wipes it`,
}

// of returns the hint for a failure, or "": a hint that lacks an argument would
// be a riddle.
func of(e *fault.Error) string {
	var b strings.Builder
	for text, arg := range pieces(next[e.Code]) {
		b.WriteString(text)
		if arg == "" {
			continue
		}
		value := e.Args[arg]
		if value == "" {
			return ""
		}
		b.WriteString(value)
	}
	return b.String()
}

// pieces yields the plain texts of a template, each with the name of the
// argument that follows it; the last has none.
func pieces(template string) iter.Seq2[string, string] {
	return func(yield func(text, arg string) bool) {
		for {
			text, rest, ok := strings.Cut(template, "{")
			arg, after, _ := strings.Cut(rest, "}")
			if !yield(text, arg) || !ok {
				return
			}
			template = after
		}
	}
}
