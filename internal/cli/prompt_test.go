package cli

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// An agent with a prompt does what that says and ends. It begins a new conversation, and gets
// the prompt where no list of processes shows it.
func TestAgentPrompt(t *testing.T) {
	home := t.TempDir()
	m := runFakeMachine(t, home, nil)
	m.earlier, m.exits, m.typed, m.started = true, true, make(chan string, 1), make(chan []string, 1)
	ran := make(chan []string, 1)
	m.before = func(req wire.Request) bool {
		if req.Op == wire.OpExec {
			ran <- req.Exec.Argv
		}
		return true
	}
	const prompt = "fix the $(tests)\nand 'commit'\n"
	file := filepath.Join(home, "task.md")
	if err := os.WriteFile(file, []byte(prompt), 0o600); err != nil {
		t.Fatal(err)
	}
	bypass := "--dangerously-bypass-approvals-and-sandbox"
	agents := map[string][]string{
		"claude":   {"claude", "--dangerously-skip-permissions", "-p"},
		"codex":    {"codex", "exec", bypass, "--skip-git-repo-check", "-"},
		"copilot":  {"copilot", "--allow-all"},
		"gemini":   {"gemini", "--yolo"},
		"opencode": {"opencode", "run", "--auto"},
	}
	for agent, want := range agents {
		for _, args := range [][]string{{agent, "m", "--prompt", prompt}, {agent, "m", "--prompt-file", file}, {"agent", "m", agent, "-p", prompt, "--new"}} {
			err := userOf(t, home, nil).command(args...)
			if argv := <-ran; !errors.Is(err, exitCode(0)) || !slices.Equal(argv, want) {
				t.Errorf("%q = %v, started %q; want %q", args, err, argv, want)
			}
			if got := <-m.typed; got != prompt {
				t.Errorf("%q: the agent reads %q", args, got)
			}
		}
		// In the background it reads a file, which it finds by its name alone.
		if err := userOf(t, home, nil).command(agent, "m", "--detach", "--prompt", prompt); err != nil {
			t.Errorf("%s --detach = %v", agent, err)
		}
		wrote, got := <-ran, <-m.typed
		started := <-m.started
		n := len(started) - len(want)
		if got != prompt || n != 4 || !slices.Equal(started[n:], want) || started[3] != wrote[3] || !strings.HasPrefix(wrote[3], "/home/dev/.local/share/mayfly-agents/prompts/") {
			t.Errorf("%s --detach: %q wrote %q, and %q was started", agent, wrote, got, started)
		}
		if strings.Contains(strings.Join(slices.Concat(wrote, started), " "), "fix the") {
			t.Errorf("%s --detach: a list of processes shows the prompt", agent)
		}
	}
	large := filepath.Join(home, "large")
	if err := os.WriteFile(large, make([]byte, maxPrompt+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--prompt", ""}, {"--prompt", " \n"}, {"--prompt-file", "/dev/null"}, {"--prompt-file", large}, {"--prompt", "x", "--prompt-file", file},
		{"--prompt", "x", "--continue"}, {"--prompt", "x", "--", "-r"},
	} {
		if err := userOf(t, home, nil).command(append([]string{"claude", "m"}, args...)...); !errors.As(err, new(usageError)) {
			t.Errorf("%q = %v; want a usage error", args, err)
		}
	}
}
