package test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// The agents' own programs run in a machine. It has no network, since no test is to
// call their services; how far they come without tells enough.
func TestAgents(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	// The command alone chooses the profile.
	r := h.Run(0, "run", "--keep", "--name", "agents", "--network", "none", "--profile", "codex,copilot,gemini,opencode", "--", "claude", "--version")
	if !regexp.MustCompile(`^\d+\.\d+\.\d+ \(Claude Code\)\n$`).MatchString(r.Stdout) {
		t.Errorf("claude --version = %q", r.Stdout)
	}
	if !strings.Contains(r.Stderr, "claude (the command claude)") {
		t.Errorf("the profile is not explained: %s", r.Stderr)
	}
	for _, agent := range []string{"claude", "codex", "copilot", "gemini", "opencode"} {
		if !regexp.MustCompile(`(?m)^mayfly: agent ` + agent + ` \d+\.\d+\.\d+`).MatchString(r.Stderr) {
			t.Errorf("the version of %s is not shown: %s", agent, r.Stderr)
		}
	}
	for agent, want := range map[string]string{
		"codex":    `^codex-cli \d+\.\d+\.\d+\n$`,
		"copilot":  `^GitHub Copilot CLI \d+\.\d+\.\d+\.\n`,
		"gemini":   `^\d+\.\d+\.\d+\n$`,
		"opencode": `^\d+\.\d+\.\d+\n$`,
	} {
		if got := h.Run(0, "exec", "agents", "--", agent, "--version").Stdout; !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s --version = %q; want %s", agent, got, want)
		}
	}
	// As root it refuses with "cannot be used with root/sudo privileges"
	// before anything else, and so shows that the test can tell.
	const prompt = "timeout 60 %s claude --dangerously-skip-permissions -p hi 2>&1 </dev/null || true"
	refusal := "cannot be used with root"
	if got := h.Run(0, "exec", "agents", "--", "sh", "-c", strings.Replace(prompt, "%s", "sudo", 1)).Stdout; !strings.Contains(got, refusal) {
		t.Errorf("as root claude says %q; want its refusal", got)
	}
	if got := h.Run(0, "exec", "agents", "--", "sh", "-c", strings.Replace(prompt, "%s", "", 1)).Stdout; strings.Contains(got, refusal) || got == "" {
		t.Errorf("as the user claude says %q; want it to work", got)
	}
	// With a prompt it does what that says and ends. Without a network it cannot, and says why.
	const login = "Not logged in"
	if r := h.Run(1, "claude", "agents", "--prompt", "say hi"); !strings.Contains(r.Stdout, login) {
		t.Errorf("with a prompt claude says %q, %q; want %q", r.Stdout, r.Stderr, login)
	}
	h.Run(0, "agent", "agents", "claude", "--detach", "--prompt", "say hi")
	if r := h.Run(1, "attach", "agents"); !strings.Contains(r.Stdout, login) {
		t.Errorf("in the background claude says %q; want %q", r.Stdout, login)
	}
	if got := h.Run(0, "exec", "agents", "--", "sh", "-c", "ls ~/.local/share/mayfly-agents/prompts").Stdout; got != "" {
		t.Errorf("prompts are left behind: %q", got)
	}
	// However an agent is started, its files are in one place.
	const places = "echo $CLAUDE_CONFIG_DIR $CODEX_HOME $COPILOT_HOME $GEMINI_CLI_HOME; readlink -f ~/.local/share/opencode"
	for _, argv := range [][]string{{"exec", "agents", "--", "sh", "-c", places}, {"exec", "agents", "--", "bash", "-lic", places}} {
		got := h.Run(0, argv...).Stdout
		for _, agent := range []string{"claude", "codex", "copilot", "gemini", "opencode"} {
			if !strings.Contains(got, "/.local/share/mayfly-agents/"+agent) {
				t.Errorf("by %s, %s is not in its place: %q", argv[3], agent, got)
			}
		}
	}
	// What is said in a machine that is thrown away outlives it.
	h.Run(0, "exec", "agents", "--", "sh", "-c", "mkdir -p $CLAUDE_CONFIG_DIR/projects/p; echo said > $CLAUDE_CONFIG_DIR/projects/p/t.jsonl; echo said > ~/.local/share/opencode/opencode.db")
	r = h.Run(0, "rm", "agents")
	_, archive, _ := strings.Cut(r.Stderr, "the transcripts of its coding agents are in ")
	archive, _, _ = strings.Cut(archive, "\n")
	for _, name := range []string{"claude/projects/p/t.jsonl", "opencode/opencode.db"} {
		out, err := exec.Command("tar", "-xOf", archive, name).CombinedOutput()
		if err != nil || string(out) != "said\n" {
			t.Errorf("%s: %v: %q; rm said %q", name, err, out, r.Stderr)
		}
	}
}
