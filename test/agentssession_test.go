package test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/test/provider"
	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// otherPackage makes an image another one. It needs no other package.
const otherPackage = "tree"

// atPrompt is what an agent shows when it can be typed at.
var atPrompt = map[string]string{"claude": "bypass permissions on", "codex": "Ask Codex to do anything"}

// TestAgentsGoOn has the real Claude Code and Codex go on with their conversations when
// their machine was stopped and has another image.
func TestAgentsGoOn(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	t.Cleanup(func() { h.Mayfly("rm", "--force", "m").Run() })
	image := []string{"--profile", strings.Join(codingagent.Names(), ",")}
	for _, other := range [][]string{nil, {"--package", otherPackage}} {
		h.Run(0, slices.Concat([]string{"image", "build", "--no-detect"}, image, other)...)
	}
	agents := workers[:2] // claude and codex
	var tasks []provider.Task
	for _, w := range agents {
		for _, which := range []string{"first", "second"} {
			tasks = append(tasks, provider.Task{Prompt: "the " + which + " task for " + w.name, Answer: w.name + "-" + which + "-is-done"})
		}
	}
	server, _, flags := serveAgents(t, h, agents, tasks...)
	h.Run(0, slices.Concat([]string{"new", "m", "--workspace", h.Dir}, flags, image)...)
	h.Run(0, "start", "m")

	terms := make(map[string]*vm.Tmux)
	for _, w := range agents {
		terms[w.name] = h.Tmux()
	}
	// goOn starts all agents at once, each on its terminal. They show the last task of their
	// conversation, if there was one, and do the next: one is asked to continue, the other
	// offers it.
	goOn := func(last, next string) {
		t.Helper()
		for i, w := range agents {
			line := "mayfly " + w.name + " m"
			if last != "" && i == 0 {
				line += " --continue"
			}
			terms[w.name].Enter(line)
		}
		earlier := 0
		for i, w := range agents {
			term := terms[w.name]
			if last != "" && i > 0 {
				term.Shows("continue its last conversation? [yes/no]")
				term.Type("yes")
				term.Press("Enter")
			}
			if last != "" {
				earlier = 1
				term.Shows(w.name + "-" + last + "-is-done")
			}
			term.Shows(atPrompt[w.name])
			prompt := "the " + next + " task for " + w.name
			term.Type(prompt)
			term.Shows(prompt)
			term.Press("Enter")
		}
		for _, w := range agents {
			term := terms[w.name]
			term.Shows(w.name + "-" + next + "-is-done")
			term.Press("C-]", "C-]")
			term.Shows(w.name + " goes on; mayfly attach m " + w.name)
			term.Prompts()
			answered := func(c provider.Call) bool {
				return c.Host == w.hosts && c.Step == provider.StepAnswer && c.Earlier == earlier
			}
			if calls := server.Calls(); !slices.ContainsFunc(calls, answered) {
				t.Errorf("%s did its %s task in no conversation that had %d before: %+v", w.name, next, earlier, calls)
			}
		}
	}
	goOn("", "first")

	file := filepath.Join(h.Variable("XDG_CONFIG_HOME"), "mayfly/machines/m.toml")
	writeFile(t, file, readFile(t, file)+"\n[image]\npackages = [\""+otherPackage+"\"]\n")
	if r := h.Run(0, "ls"); !strings.Contains(r.Stdout, "stale") {
		t.Errorf("with another image ls says %s", r.Stdout)
	}
	h.Run(0, "restart", "m") // a stop, and a start with the other image
	h.Run(0, "exec", "m", "--", otherPackage, "--version")
	goOn("first", "second")
	h.Run(0, "rm", "--force", "m")
}
