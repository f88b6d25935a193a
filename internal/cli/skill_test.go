package cli_test

import (
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mayfly-vm/mayfly/internal/skill"
)

// agent [--no-build] NAME=VALUE… is an agent that follows the skill: it runs its
// commands in order, with the placeholders filled in, and stops at the first that
// fails. The standard output is that of the last.
func agent(ts *testscript.TestScript, neg bool, args []string) {
	values := make(map[string]string)
	noBuild := false
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok && arg != "--no-build" {
			ts.Fatalf("usage: agent [--no-build] NAME=VALUE…")
		}
		noBuild = noBuild || !ok
		values[name] = value
	}
	for _, command := range skill.Commands(skill.Text()) {
		filled, err := skill.Fill(command, values)
		ts.Check(err)
		words := strings.Fields(filled)
		if noBuild && words[1] == "check" {
			words = append(words, "--no-build")
		}
		ts.Logf("agent: %s", strings.Join(words, " "))
		if err := ts.Exec(words[0], words[1:]...); err != nil {
			if !neg {
				ts.Fatalf("%s: %v", filled, err)
			}
			return
		}
	}
	if neg {
		ts.Fatalf("the agent got to the end of the skill")
	}
}
