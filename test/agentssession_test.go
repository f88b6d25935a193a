package test

import (
	"fmt"
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
	tasks := typedTasks(h, "claude")
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
			if last == "" {
				leave(term, w.name)
			}
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
	t.Run("keys", func(t *testing.T) { typeAtClaude(terms["claude"].For(t), server) })
	h.Run(0, "rm", "--force", "m")
}

// What is typed at an agent: wide characters, one that combines with no letter of its own,
// and one beyond 16 bits; a second line; more than any buffer on the way holds.
const (
	typedText  = "wide 漢字 é q\u0303 🎉"
	shiftEnter = "1b 5b 31 33 3b 32 75" // as kitty's protocol has it
)

func pasted(agent string) string {
	text := "the pasted task for " + agent
	for i := 0; len(text) < 50<<10; i++ {
		text += fmt.Sprintf("\nline %d of what is pasted, which is long", i)
	}
	return text
}

// typedTasks are those that typeAtClaude types.
func typedTasks(h *vm.Host, agent string) []provider.Task {
	return []provider.Task{
		{Prompt: typedText + "\nand below for " + agent, Answer: agent + "-typed-is-done"},
		{Prompt: "the endless task for " + agent, File: filepath.Join(h.Dir, agent+".txt"), Text: "one\n", Command: "tail -f /dev/null"},
		{Prompt: pasted(agent), Answer: agent + "-pasted-is-done"},
	}
}

// leave leaves the session of an agent in the machine m.
func leave(term *vm.Tmux, agent string) {
	term.Press("C-]", "C-]")
	term.Shows(agent + " goes on; mayfly attach m " + agent)
	term.Prompts()
}

// typeAtClaude types what is more than letters at Claude Code, which is at its prompt.
func typeAtClaude(term *vm.Tmux, server *provider.Server) {
	w := workers[0]
	term.Until("colour of 24 bits", func(string) bool { return strings.Contains(term.Colours(), "38;2;") })
	term.Type(typedText)
	term.Shows(typedText)
	term.Run(append([]string{"send-keys", "-H"}, strings.Fields(shiftEnter)...)...)
	term.Type("and below for " + w.name)
	term.Shows("and below for " + w.name)
	term.Press("Enter")
	term.Shows(w.name + "-typed-is-done")

	before := len(server.Calls())
	term.Type("the endless task for " + w.name)
	term.Shows("the endless task for " + w.name)
	term.Press("Enter")
	term.Until("command that runs", func(screen string) bool {
		runs := func(c provider.Call) bool { return c.Host == w.hosts && c.Step == provider.StepRun }
		return strings.Contains(screen, "esc to interrupt") && slices.ContainsFunc(server.Calls()[before:], runs)
	})
	term.Press("Escape")
	term.Shows("nterrupted")
	term.Shows(atPrompt[w.name])

	// What has stopped itself goes on, as there is no shell that would.
	term.Type("stopped")
	term.Shows("stopped")
	term.Press("C-z")
	looks := 0
	term.Until("what is typed", func(screen string) bool {
		if strings.Contains(screen, "stoppedx") {
			return true
		}
		if looks++; looks%40 == 0 {
			term.Type("x") // what comes while it is stopped it may drop
		}
		return false
	})
	term.Press("C-c")
	term.Until("empty prompt", func(screen string) bool { return !strings.Contains(screen, "stoppedx") })

	term.Paste(pasted(w.name))
	term.Shows("[Pasted ")
	term.Press("Enter")
	term.Shows(w.name + "-pasted-is-done")
}
